package estest_test

import (
	"context"
	"iter"
	"slices"
	"sync"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestMain makes child processes of this package open a memory of their own: processes that say they share a storage, and
// share nothing.
func TestMain(m *testing.M) {
	estest.Main(m, func(_, namespace string) (es.Backend, error) { return memory.Open(memory.Config{Namespace: namespace}) })
}

func TestEventStoreMutants(t *testing.T) {
	hunt(t, estest.EventStoreLines(), slices.Concat(
		versionMutants(), raceMutants(), repeatMutants(), wholeMutants(), conditionMutants(), selectionMutants(),
		cursorMutants(), orderMutants(), waitMutants(), positionMutants(), limitMutants(), truncateMutants(), hiddenMutants(),
		deleteMutants(), eraseMutants(), closeMutants(),
	))
}

// TestEventStoreMutantHarness runs the lines on the harness of the mutants with nothing broken: what a mutant fails, it fails
// for what it does.
func TestEventStoreMutantHarness(t *testing.T) {
	for _, line := range estest.EventStoreLines() {
		t.Run(line.Name, func(t *testing.T) { line.Run(t, broken{}) })
	}
}

type eventMutant = mutant[estest.Harness[es.EventStore]]

// broken is a harness of event stores in memory that are changed for the worse. Their storage outlives its handles, so that it
// passes for a durable one.
type broken struct {
	estest.Minimal
	change    func(s *wrapped)                                            // what is wrong with each handle
	close     func(storage *brokenStorage, backend *memory.Backend) error // instead of closing it
	crash     func(storage *brokenStorage)
	processes bool
	noEdits   bool
	limits    es.Limits // what the harness says; stores are opened with more
}

func (broken) Namespaces() bool    { return true }
func (broken) Handles() bool       { return true }
func (broken) Durable() bool       { return true }
func (b broken) Edits() bool       { return !b.noEdits }
func (b broken) Processes() bool   { return b.processes }
func (b broken) Limits() es.Limits { return b.limits }
func (b broken) New(testing.TB) estest.Storage[es.EventStore] {
	return &brokenStorage{broken: b, storage: memory.NewStorage(), open: map[es.EventStore]*memory.Backend{}}
}

type brokenStorage struct {
	broken  broken
	mu      sync.Mutex
	storage *memory.Storage
	open    map[es.EventStore]*memory.Backend
	closes  int
}

func (s *brokenStorage) Open(t testing.TB, namespace string) es.EventStore {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	backend, err := memory.Open(memory.Config{Storage: s.storage, Namespace: namespace})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = backend.Close() })
	store := &wrapped{EventStore: backend.Events(), handle: len(s.open)}
	if s.broken.change != nil {
		s.broken.change(store)
	}
	s.open[store] = backend
	return store
}

func (s *brokenStorage) Close(_ testing.TB, store es.EventStore) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken.close != nil {
		return s.broken.close(s, s.open[store])
	}
	return s.open[store].Close()
}

func (s *brokenStorage) Crash(testing.TB, es.EventStore) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken.crash != nil {
		s.broken.crash(s)
	}
}

func (*brokenStorage) Address() string { return "a memory of its own" }

// wrapped is a store of which some methods are replaced.
type wrapped struct {
	es.EventStore
	handle int // counts the handles of its storage, from 0

	append   func(ctx context.Context, a es.Append) (es.Appended, error)
	each     func(ctx context.Context, as []es.Append) []es.Outcome
	read     func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error]
	head     func(ctx context.Context) (es.Checkpoint, error)
	wait     func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error)
	truncate func(ctx context.Context, stream string, before int64) error
	delete   func(ctx context.Context, stream string, how es.Deletion) error
	erase    func(ctx context.Context, e es.Erasure) (es.Appended, error)
}

func (s *wrapped) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	if s.append == nil {
		return s.EventStore.Append(ctx, a)
	}
	return s.append(ctx, a)
}

func (s *wrapped) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	if s.each == nil {
		return s.EventStore.AppendEach(ctx, as)
	}
	return s.each(ctx, as)
}

func (s *wrapped) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	if s.read == nil {
		return s.EventStore.Read(ctx, q)
	}
	return s.read(ctx, q)
}

func (s *wrapped) Head(ctx context.Context) (es.Checkpoint, error) {
	if s.head == nil {
		return s.EventStore.Head(ctx)
	}
	return s.head(ctx)
}

func (s *wrapped) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	if s.wait == nil {
		return s.EventStore.Wait(ctx, after)
	}
	return s.wait(ctx, after)
}

func (s *wrapped) Truncate(ctx context.Context, stream string, before int64) error {
	if s.truncate == nil {
		return s.EventStore.Truncate(ctx, stream, before)
	}
	return s.truncate(ctx, stream, before)
}

func (s *wrapped) Delete(ctx context.Context, stream string, how es.Deletion) error {
	if s.delete == nil {
		return s.EventStore.Delete(ctx, stream, how)
	}
	return s.delete(ctx, stream, how)
}

func (s *wrapped) Erase(ctx context.Context, e es.Erasure) (es.Appended, error) {
	if s.erase == nil {
		return s.EventStore.Erase(ctx, e)
	}
	return s.erase(ctx, e)
}

// The words in which mutants are written follow.

// that makes a mutant of a change to each handle.
func that(line, name string, change func(s *wrapped)) eventMutant {
	return eventMutant{line, name, broken{change: change}}
}

// asked changes what an append asks for.
func asked(change func(s *wrapped, a *es.Append)) func(s *wrapped) {
	return func(s *wrapped) {
		s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
			a.Streams, a.Unless = slices.Clone(a.Streams), slices.Clone(a.Unless)
			change(s, &a)
			return s.EventStore.Append(ctx, a)
		}
	}
}

// answered changes what becomes of an append.
func answered(change func(s *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error)) func(s *wrapped) {
	return func(s *wrapped) {
		s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
			done, err := s.EventStore.Append(ctx, a)
			return change(s, a, done, err)
		}
	}
}

// shown changes the events that reads give; nil leaves one out.
func shown(change func(q es.Query, index int, m *es.Message) *es.Message) func(s *wrapped) {
	return func(s *wrapped) {
		s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
			return func(yield func(*es.Message, error) bool) {
				index := 0
				for m, err := range s.EventStore.Read(ctx, q) {
					if err == nil {
						m = change(q, index, m)
						index++
						if m == nil {
							continue
						}
					}
					if !yield(m, err) {
						return
					}
				}
			}
		}
	}
}

// rewritten changes queries before they are read.
func rewritten(change func(q *es.Query)) func(s *wrapped) {
	return func(s *wrapped) {
		s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
			change(&q)
			return s.EventStore.Read(ctx, q)
		}
	}
}

// given reads everything first, and gives what is left after a change.
func given(change func(s *wrapped, q es.Query, all []*es.Message) []*es.Message) func(s *wrapped) {
	return func(s *wrapped) {
		s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
			return func(yield func(*es.Message, error) bool) {
				var all []*es.Message
				for m, err := range s.EventStore.Read(ctx, q) {
					if err != nil {
						yield(nil, err)
						return
					}
					all = append(all, m)
				}
				for _, m := range change(s, q, all) {
					if !yield(m, nil) {
						return
					}
				}
			}
		}
	}
}

// altered returns a copy of a message, changed.
func altered(m *es.Message, change func(m *es.Message)) *es.Message {
	c := m.Clone()
	change(c)
	return c
}

// versionOf returns the version of a stream that is neither truncated nor deleted.
func versionOf(s *wrapped, stream string) int64 {
	last := int64(0)
	for m, err := range s.EventStore.Read(context.Background(), es.Query{Stream: stream, Reverse: true, Limit: 1}) {
		if err == nil {
			last = m.Version
		}
	}
	return last
}

// known returns how many of an append's events are in their streams.
func known(s *wrapped, a es.Append) int {
	n := 0
	for _, stream := range a.Streams {
		for m, err := range s.EventStore.Read(context.Background(), es.Query{Stream: stream.Stream}) {
			if err == nil && slices.ContainsFunc(stream.Events, func(e *es.Message) bool { return e.ID == m.ID }) {
				n++
			}
		}
	}
	return n
}

// size returns the number of an append's events.
func size(a es.Append) int {
	n := 0
	for _, s := range a.Streams {
		n += len(s.Events)
	}
	return n
}

// conflict is an error that tells of a conflict for no reason.
func conflict(a es.Append) error {
	return &es.ConflictError{Stream: a.Streams[0].Stream, Expected: a.Streams[0].Expect}
}
