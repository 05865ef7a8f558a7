package estest_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// storageFault is what may be wrong with the storage of a role, rather than with one of its calls.
type storageFault int

const (
	noFault storageFault = iota
	crashLoses
	closeLoses
	handlesApart
	namespacesLeak
)

// roleMutant is the harness of a role in memory that has something wrong.
type roleMutant[R comparable] struct {
	estest.Minimal

	role  func(*memory.Backend) R
	fault storageFault
	// wrap is called once for each storage, and gives what is wrong with each role that is opened on it.
	wrap func() func(R, *memory.Backend) R
	// config changes what a backend is opened with.
	config func(memory.Config) memory.Config
	// with adds what is optional to the storage.
	with func(*mutantStorage[R]) estest.Storage[R]
}

func (roleMutant[R]) Namespaces() bool { return true }
func (roleMutant[R]) Handles() bool    { return true }
func (roleMutant[R]) Durable() bool    { return true }

func (h roleMutant[R]) New(testing.TB) estest.Storage[R] {
	s := &mutantStorage[R]{harness: h, storage: memory.NewStorage(), backends: map[R]*memory.Backend{}}
	if h.wrap != nil {
		s.wrap = h.wrap()
	}
	if h.with != nil {
		return h.with(s)
	}
	return s
}

// mutantStorage is the storage of a mutant.
type mutantStorage[R comparable] struct {
	harness roleMutant[R]
	wrap    func(R, *memory.Backend) R

	mu       sync.Mutex
	storage  *memory.Storage
	backends map[R]*memory.Backend
}

func (s *mutantStorage[R]) Open(t testing.TB, namespace string) R {
	t.Helper()
	role, _ := s.open(t, memory.Config{Namespace: namespace})
	return role
}

func (s *mutantStorage[R]) open(t testing.TB, c memory.Config) (R, *memory.Backend) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Storage = s.storage
	switch s.harness.fault {
	case handlesApart:
		c.Storage = memory.NewStorage()
	case namespacesLeak:
		c.Namespace = "the only one"
	case noFault, crashLoses, closeLoses:
	}
	if s.harness.config != nil {
		c = s.harness.config(c)
	}
	b, err := memory.Open(c)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	role := s.harness.role(b)
	if s.wrap != nil {
		role = s.wrap(role, b)
	}
	s.backends[role] = b
	return role, b
}

func (s *mutantStorage[R]) Close(_ testing.TB, role R) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.harness.fault == closeLoses {
		s.storage = memory.NewStorage()
	}
	return s.backends[role].Close()
}

func (s *mutantStorage[R]) Crash(testing.TB, R) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.harness.fault == crashLoses {
		s.storage = memory.NewStorage()
	}
}

func (s *mutantStorage[R]) Address() string { return "" }

// without passes an error on unless it is the one that the mutant hides.
func without(hidden, err error) error {
	if errors.Is(err, hidden) {
		return nil
	}
	return err
}

// acknowledgeLost says, once, that a write was made which was turned down because of a close.
func acknowledgeLost(lied *atomic.Bool, err error) error {
	if errors.Is(err, es.ErrClosed) && lied.CompareAndSwap(false, true) {
		return nil
	}
	return err
}

// meeting lets the first two callers pass only together.
type meeting struct {
	arrived atomic.Int32
	both    chan struct{}
}

func newMeeting() *meeting { return &meeting{both: make(chan struct{})} }

func (m *meeting) meet(done <-chan struct{}) {
	switch m.arrived.Add(1) {
	case 1:
		select {
		case <-m.both:
		case <-done:
		}
	case 2:
		close(m.both)
	}
}

// audience lets somebody wait until others have done something several times.
type audience chan struct{}

func (a audience) seen() {
	select {
	case a <- struct{}{}:
	default:
	}
}

func (a audience) wait(times int, done <-chan struct{}) {
	for range times {
		select {
		case <-a:
		case <-done:
			return
		}
	}
}

// lower is a name as one sees it who does not tell capitals.
func lower(name string) string { return strings.ToLower(name) }
