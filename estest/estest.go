// Package estest holds backends to what the roles promise. There is one suite for each role: [RunMessage], [RunEventStore],
// [RunPubSub], [RunOutbox], [RunDedupe], [RunReadModels], [RunLeases] and [RunSnapshots], and one that runs whole programs on a
// backend, with router, middleware, processors and web server: [RunRuntime]. Who implements a role writes a harness of a few lines
// and calls the suite from a test:
//
//	func TestReadModels(t *testing.T) {
//		estest.RunReadModels(t, harness{})
//	}
//
// Each promise has a number, such as E3, and each test carries the number of the promise that it holds. What a backend cannot
// do, its harness says by capability methods; embed [Minimal] and override what it can. A line that needs more than the
// backend has is skipped by name, so that the report shows what is not promised.
//
// Who writes an application has another kit here, to test it with: [Given] for what aggregates decide, [GivenStored] for what is appended,
// [Project] for projections, [Recorder] and [FakePublisher] for handlers, [Clock] for code that is given its time, and [CheckStoredEvents]
// for what is stored already.
//
// The package needs nothing but the standard library and the toolkit.
package estest

import (
	"context"
	"testing"
	"time"
)

// Harness gives a suite what it needs of the implementation under test. R is the role, such as es.EventStore.
type Harness[R any] interface {
	// New returns new and empty storage; what it takes is removed when the test ends.
	New(t testing.TB) Storage[R]
	Capabilities
}

// Storage is where an implementation keeps its things: a file, a schema, a map.
type Storage[R any] interface {
	// Open opens the role in a namespace, as a program does when it starts. While one is open, another Open of the same
	// namespace gives another handle to the same things, as another process has; a harness that is not [Capabilities].Handles
	// is asked for one at a time. It fails the test when it cannot. The handle is closed when the test ends, if it was not before.
	Open(t testing.TB, namespace string) R
	// Close closes a handle as a program does that ends in order, and returns what its Close returned.
	Close(t testing.TB, role R) error
	// Crash drops a handle as kill -9 does: nothing is given back, nothing is flushed. What is open in other handles stays.
	// For an implementation that keeps its state inside the process it is enough to walk away from the handle.
	Crash(t testing.TB, role R)
	// Address is how another process opens this storage: what the function given to [Main] gets. It is asked for only when the
	// harness has [Capabilities].Processes.
	Address() string
}

// Capabilities say what an implementation can do. Each method that returns false takes lines out of the suite.
type Capabilities interface {
	// Namespaces: a storage keeps several namespaces apart.
	Namespaces() bool
	// Handles: a storage can be open several times at once.
	Handles() bool
	// Durable: what was acknowledged is there after Crash, when a handle is opened again.
	Durable() bool
	// Processes: other processes can open the storage. The test binary must call [Main].
	Processes() bool
	// Edits: an event store can truncate, delete and erase.
	Edits() bool
	// History: a subscriber has what was published before, so that a new group can start at a position or a time.
	History() bool
	// Groups: a subscriber has consumer groups.
	Groups() bool
	// Bounded: a publisher with a small buffer can be had; see [PubSubStorage].
	Bounded() bool
}

// Minimal is an implementation that can do nothing beyond its role. Embed it in a harness and override what is true.
type Minimal struct{}

// Namespaces is false.
func (Minimal) Namespaces() bool { return false }

// Handles is false.
func (Minimal) Handles() bool { return false }

// Durable is false.
func (Minimal) Durable() bool { return false }

// Processes is false.
func (Minimal) Processes() bool { return false }

// Edits is false.
func (Minimal) Edits() bool { return false }

// History is false.
func (Minimal) History() bool { return false }

// Groups is false.
func (Minimal) Groups() bool { return false }

// Bounded is false.
func (Minimal) Bounded() bool { return false }

// Namespace is the namespace that the suites use when one is enough.
const Namespace = "estest"

// Line is one test of a suite: a promise, or a part of one.
type Line[H any] struct {
	// ID is the number of the promise: "E3".
	ID string
	// Name is the name of the test, and begins with the ID: "E3/one_of_many_wins".
	Name string
	// Run fails t unless the promise is kept. t may be a stand-in for the test, to see whether a broken implementation is
	// caught; it is not to be a *testing.T of its own.
	Run func(t testing.TB, h H)
}

// run runs the lines of a suite as subtests.
func run[H any](t *testing.T, h H, lines []Line[H]) {
	t.Helper()
	for _, line := range lines {
		t.Run(line.Name, func(t *testing.T) { line.Run(t, h) })
	}
}

// Patience is how long a test waits for something that must happen before it says that it did not. It is long, because only
// a failing test waits for all of it. A stand-in for a test may have less, by a method Patience.
const Patience = 30 * time.Second

// patience returns how long t waits.
func patience(t testing.TB) time.Duration {
	if hasty, ok := t.(interface{ Patience() time.Duration }); ok {
		return hasty.Patience()
	}
	return Patience
}

// patient returns a context that ends when the patience of t does, or the test.
func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience(t))
	t.Cleanup(cancel)
	return ctx
}
