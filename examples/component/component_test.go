package component_test

import (
	"io"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/examples/component"
)

func TestReadModels(t *testing.T) {
	estest.RunReadModels(t, harness{}) // J1/…, J2/…, J4/…, M3/…: one test for each promise
}

// harness opens a new store for each test. By embedding Minimal it claims nothing beyond the role itself.
type harness struct{ estest.Minimal }

func (harness) New(testing.TB) estest.Storage[es.ReadModels] {
	return inProcess[es.ReadModels]{func() es.ReadModels { return component.NewReadModels() }}
}

func TestPubSub(t *testing.T) {
	estest.RunPubSub(t, pubSubHarness{})
}

// pubSubHarness claims consumer groups, and so is held to what they promise.
type pubSubHarness struct{ estest.Minimal }

func (pubSubHarness) Groups() bool { return true }

func (pubSubHarness) New(testing.TB) estest.Storage[estest.PubSub] {
	return inProcess[estest.PubSub]{func() estest.PubSub { return component.NewPubSub() }}
}

// inProcess is the storage of a component that keeps everything in itself: nothing is left when it is closed.
type inProcess[R any] struct{ open func() R }

func (s inProcess[R]) Open(t testing.TB, _ string) R {
	t.Helper()
	role := s.open()
	t.Cleanup(func() {
		if err := s.Close(t, role); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return role
}

func (inProcess[R]) Close(t testing.TB, role R) error {
	t.Helper()
	closer, ok := any(role).(io.Closer)
	if !ok {
		t.Fatalf("%T has no Close", role)
	}
	return closer.Close()
}

func (inProcess[R]) Crash(testing.TB, R) {}
func (inProcess[R]) Address() string     { return "" }
