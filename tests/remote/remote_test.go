package remote_test

import (
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/tests/remote"
)

func TestMain(m *testing.M) {
	estest.Child(func(address, namespace string) (es.Backend, error) { return remote.Open(address, namespace) })
	if address, ok := os.LookupEnv(memberVariable); ok {
		os.Exit(beMember(address))
	}
	goleak.VerifyTestMain(m)
}

// TestEvents runs what the suite has several processes for, and what shows that messages, errors and pages cross the wire. The rest
// is for the store itself, and takes a minute here.
func TestEvents(t *testing.T) {
	t.Parallel()
	want := regexp.MustCompile(`process|kill_9|^E2/|^E9/|/every_query|/many_pages`)
	for _, line := range estest.EventStoreLines() {
		if want.MatchString(line.Name) {
			t.Run(line.Name, func(t *testing.T) {
				t.Parallel()
				line.Run(t, harness[es.EventStore]{role: (*remote.Client).Events})
			})
		}
	}
}

func TestOutbox(t *testing.T) {
	estest.RunOutbox(t, harness[es.Outbox]{role: (*remote.Client).Outbox})
}

func TestDedupe(t *testing.T) {
	estest.RunDedupe(t, harness[es.Dedupe]{
		role: (*remote.Client).Dedupe,
		with: func(s *storage[es.Dedupe]) estest.Storage[es.Dedupe] { return boundedStorage{s} },
	})
}

func TestLeases(t *testing.T) {
	estest.RunLeases(t, harness[es.Leases]{role: (*remote.Client).Leases})
}

func TestReadModels(t *testing.T) {
	estest.RunReadModels(t, harness[es.ReadModels]{
		role: (*remote.Client).ReadModels,
		with: func(s *storage[es.ReadModels]) estest.Storage[es.ReadModels] { return fencedStorage{s} },
	})
}

// harness is the harness of a role of a server. Durable is true as far as the suite can tell: the server outlives the
// connections to it, and the processes that have them.
type harness[R comparable] struct {
	estest.Minimal

	role   func(*remote.Client) R
	with   func(*storage[R]) estest.Storage[R]
	change func(es.Backend) es.Backend
}

func (harness[R]) Namespaces() bool { return true }
func (harness[R]) Handles() bool    { return true }
func (harness[R]) Durable() bool    { return true }
func (harness[R]) Processes() bool  { return true }

func (h harness[R]) New(t testing.TB) estest.Storage[R] {
	t.Helper()
	server, err := remote.Serve(h.change)
	if err != nil {
		t.Fatalf("serve: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
	})
	s := &storage[R]{server: server, role: h.role, open: map[R]*remote.Client{}}
	if h.with != nil {
		return h.with(s)
	}
	return s
}

type storage[R comparable] struct {
	server *remote.Server
	role   func(*remote.Client) R
	mu     sync.Mutex
	open   map[R]*remote.Client
}

func (s *storage[R]) Open(t testing.TB, namespace string) R {
	t.Helper()
	return s.role(s.opened(t, func() (*remote.Client, error) { return remote.Open(s.server.Address(), namespace) }))
}

func (s *storage[R]) opened(t testing.TB, open func() (*remote.Client, error)) *remote.Client {
	t.Helper()
	c, err := open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[s.role(c)] = c
	return c
}

func (s *storage[R]) client(role R) *remote.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[role]
}

func (s *storage[R]) Close(_ testing.TB, role R) error { return s.client(role).Close() }

func (s *storage[R]) Crash(_ testing.TB, role R) { s.client(role).Drop() }

func (s *storage[R]) Address() string { return s.server.Address() }

type boundedStorage struct{ *storage[es.Dedupe] }

func (s boundedStorage) OpenBounded(t testing.TB, namespace string, entries int, ttl time.Duration) es.Dedupe {
	t.Helper()
	return s.opened(t, func() (*remote.Client, error) {
		return remote.OpenBounded(s.server.Address(), namespace, entries, ttl)
	}).Dedupe()
}

type fencedStorage struct{ *storage[es.ReadModels] }

func (s fencedStorage) OpenFenced(t testing.TB, namespace string) (es.ReadModels, es.Leases) {
	t.Helper()
	c := s.opened(t, func() (*remote.Client, error) { return remote.Open(s.server.Address(), namespace) })
	return c.ReadModels(), c.Leases()
}
