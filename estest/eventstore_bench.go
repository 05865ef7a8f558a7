package estest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// eventBench is an event store under test, with short words for what the tests do to it. Its methods that take no error fail
// the test themselves, and so are for the test's own goroutine.
type eventBench struct {
	testing.TB

	ctx     context.Context
	harness Harness[es.EventStore]
	storage Storage[es.EventStore]
	store   es.EventStore
}

func openEvents(t testing.TB, h Harness[es.EventStore]) *eventBench {
	t.Helper()
	storage := h.New(t)
	return &eventBench{TB: t, ctx: patient(t), harness: h, storage: storage, store: storage.Open(t, Namespace)}
}

// another returns a bench on another handle to the same storage.
func (b *eventBench) another() *eventBench {
	b.Helper()
	other := *b
	other.store = b.storage.Open(b.TB, Namespace)
	return &other
}

// handles returns n handles to the same storage, the bench's own first.
func (b *eventBench) handles(n int) []es.EventStore {
	b.Helper()
	stores := []es.EventStore{b.store}
	for len(stores) < n {
		stores = append(stores, b.another().store)
	}
	return stores
}

// reopen closes the bench's handle and opens another one.
func (b *eventBench) reopen() {
	b.Helper()
	if err := b.storage.Close(b.TB, b.store); err != nil {
		b.Fatalf("Close: %v", err)
	}
	b.store = b.storage.Open(b.TB, Namespace)
}

// made makes an event.
func made(stream, name string, tags ...string) *es.Message {
	m := es.NewMessage(stream, name, []byte(`{"of":"`+stream+`"}`))
	m.Tags = tags
	return m
}

// some makes n events of a stream.
func some(stream string, n int) []*es.Message {
	events := make([]*es.Message, n)
	for i := range events {
		events[i] = made(stream, "Happened")
	}
	return events
}

// put appends events that must be taken, all of them new.
func (b *eventBench) put(stream string, expect es.Expectation, events ...*es.Message) es.Appended {
	b.Helper()
	done := b.must(es.AppendTo(stream, expect, events...))
	if done.Existing != 0 {
		b.Fatalf("appending new events to %q tells of %d existing ones", stream, done.Existing)
	}
	return done
}

// must makes an append that must be taken, and looks at its result.
func (b *eventBench) must(a es.Append) es.Appended {
	b.Helper()
	done, err := b.store.Append(b.ctx, a)
	if err != nil {
		b.Fatalf("append to %s: %v", streamsOf(a), err)
	}
	b.checkAppended(a, done)
	return done
}

func (b *eventBench) checkAppended(a es.Append, done es.Appended) {
	b.Helper()
	if err := checkPlaces(a, done); err != nil {
		b.Fatal(err)
	}
}

// checkPlaces looks whether the result of an append that was taken can be true.
func checkPlaces(a es.Append, done es.Appended) error {
	total, last := 0, int64(0)
	for _, s := range a.Streams {
		total += len(s.Events)
	}
	if len(done.Places) != total {
		return fmt.Errorf("an append of %d events to %s has %d places: %+v", total, streamsOf(a), len(done.Places), done)
	}
	for _, p := range done.Places {
		if p.Version < 1 || p.Position < 1 {
			return fmt.Errorf("an append to %s has a place that counts from below 1: %+v", streamsOf(a), done)
		}
		last = max(last, p.Position)
	}
	if done.Position != last {
		return fmt.Errorf("an append to %s says its last position is %d; its places say %d", streamsOf(a), done.Position, last)
	}
	return nil
}

// refused makes an append that must fail with an error that is want, and must change nothing.
func (b *eventBench) refused(a es.Append, want error) {
	b.Helper()
	_ = b.refusal(a, want) // it has been looked at
}

// refusal is refused for who wants to know more of the error.
func (b *eventBench) refusal(a es.Append, want error) error {
	b.Helper()
	before := b.all()
	done, err := b.store.Append(b.ctx, a)
	if !errors.Is(err, want) {
		b.Fatalf("append to %s gives %v (%+v); want an error that is %q", streamsOf(a), err, done, want)
	}
	b.same(b.all(), before, "after a refused append")
	return err
}

// conflicts makes an append that must fail because of a stream's version, and tell so.
func (b *eventBench) conflicts(a es.Append, stream string, expected es.Expectation, actual int64) {
	b.Helper()
	err := b.refusal(a, es.ErrConflict)
	var conflict *es.ConflictError
	if !errors.As(err, &conflict) {
		b.Fatalf("the error %v (%T) is no *ConflictError", err, err)
	}
	if conflict.Condition != nil || conflict.Stream != stream || conflict.Expected != expected || conflict.Actual != actual {
		b.Fatalf("the conflict tells %+v; want stream %q, expected %v, actual version %d", *conflict, stream, expected, actual)
	}
}

// read reads what a query selects, which must go well.
func (b *eventBench) read(q es.Query) []*es.Message {
	b.Helper()
	found, err := readAll(b.ctx, b.store, q)
	if err != nil {
		b.Fatalf("read %+v: %v", q, err)
	}
	return found
}

// all reads everything that is committed.
func (b *eventBench) all() []*es.Message {
	b.Helper()
	return b.read(es.Query{Unsettled: true})
}

// stream reads a stream.
func (b *eventBench) stream(name string) []*es.Message {
	b.Helper()
	return b.read(es.Query{Stream: name})
}

// settled waits until everything up to a position is settled, and returns the head.
func (b *eventBench) settled(position int64) es.Checkpoint {
	b.Helper()
	head, err := b.store.Wait(b.ctx, es.Checkpoint{Position: position - 1})
	if err != nil {
		b.Fatalf("wait until position %d is settled: %v", position, err)
	}
	if head.Position < position {
		b.Fatalf("Wait for more than %d returned the head %d", position-1, head.Position)
	}
	return head
}

// few reads a stream that must have n events.
func (b *eventBench) few(stream string, n int) []*es.Message {
	b.Helper()
	events := b.stream(stream)
	if len(events) != n {
		b.Fatalf("stream %q has %d events, want %d", stream, len(events), n)
	}
	return events
}

// lastOf returns the position of the last of several events, of which there must be one.
func (b *eventBench) lastOf(events []*es.Message) int64 {
	b.Helper()
	if len(events) == 0 {
		b.Fatal("there are no events")
	}
	return events[len(events)-1].Position
}

// head returns the settled head.
func (b *eventBench) head() es.Checkpoint {
	b.Helper()
	head, err := b.store.Head(b.ctx)
	if err != nil {
		b.Fatalf("Head: %v", err)
	}
	return head
}

// same fails unless two readings are the same.
func (b *eventBench) same(got, want []*es.Message, when string) {
	b.Helper()
	if diff := differ(got, want); diff != "" {
		b.Fatalf("%s: %s", when, diff)
	}
}

// holds fails unless a stream has exactly the given events, with the versions from 1 on.
func (b *eventBench) holds(stream string, events ...*es.Message) {
	b.Helper()
	b.holdsFrom(stream, 1, events...)
}

// holdsFrom is holds for a stream whose first visible event has a given version.
func (b *eventBench) holdsFrom(stream string, version int64, events ...*es.Message) {
	b.Helper()
	got := b.stream(stream)
	if len(got) != len(events) {
		b.Fatalf("stream %q has %d events, want %d", stream, len(got), len(events))
	}
	for i, m := range got {
		if want := version + int64(i); m.ID != events[i].ID || m.Version != want || m.Stream != stream {
			b.Fatalf("event %d of stream %q is %s at version %d of %q; want %s at version %d",
				i, stream, m.ID, m.Version, m.Stream, events[i].ID, want)
		}
	}
}

// readAll collects what a query selects. A message that comes with an error, or after one, is an error of its own.
func readAll(ctx context.Context, store es.EventStore, q es.Query) ([]*es.Message, error) {
	var found []*es.Message
	var failed error
	for m, err := range store.Read(ctx, q) {
		switch {
		case failed != nil:
			return found, fmt.Errorf("the read goes on after its error %w", failed)
		case err != nil && m != nil:
			return found, fmt.Errorf("the read gives a message together with the error %w", err)
		case err != nil:
			failed = err
		case m == nil:
			return found, errors.New("the read gives neither a message nor an error")
		default:
			found = append(found, m)
		}
	}
	return found, failed
}

// differ says how two readings differ, or nothing when they do not.
func differ(got, want []*es.Message) string {
	for i := range min(len(got), len(want)) {
		if diff := differOne(got[i], want[i]); diff != "" {
			return fmt.Sprintf("event %d of %d: %s", i, len(want), diff)
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d events, want %d", len(got), len(want))
	}
	return ""
}

// differOne says how two events differ, with what the store sets.
func differOne(got, want *es.Message) string {
	switch {
	case got.ID != want.ID || got.Stream != want.Stream || got.Version != want.Version || got.Position != want.Position:
		return fmt.Sprintf("%s is at version %d of %q, position %d; want %s at version %d of %q, position %d",
			got.ID, got.Version, got.Stream, got.Position, want.ID, want.Version, want.Stream, want.Position)
	case !got.Recorded.Equal(want.Recorded):
		return fmt.Sprintf("%s was recorded at %v, want %v", got.ID, got.Recorded, want.Recorded)
	}
	return differMessage(got, want)
}

func streamsOf(a es.Append) string {
	names := make([]string, len(a.Streams))
	for i, s := range a.Streams {
		names[i] = fmt.Sprintf("%q (%d events, expecting %v)", s.Stream, len(s.Events), s.Expect)
	}
	return fmt.Sprintf("%v with %d conditions", names, len(a.Unless))
}

// together runs f n times at once, and returns what came of it when all have ended.
func together[T any](n int, f func(i int) T) []T {
	results := make([]T, n)
	start := make(chan struct{})
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			<-start
			results[i] = f(i)
		})
	}
	close(start)
	running.Wait()
	return results
}

// oneWinner fails unless exactly one of the errors is nil and each of the others is a conflict. It returns the winner.
func (b *eventBench) oneWinner(errs []error) int {
	b.Helper()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			b.Fatalf("both %d and %d won", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, es.ErrConflict):
			b.Fatalf("loser %d gets %v (%T); want an ErrConflict", i, err, err)
		}
	}
	if winner < 0 {
		b.Fatalf("nobody won; the first error is %v", errs[0])
	}
	return winner
}

// positions returns the positions of places, in order.
func positions(places []es.Place) []int64 {
	var list []int64
	for _, p := range places {
		list = append(list, p.Position)
	}
	return list
}

// rising tells whether numbers rise strictly.
func rising(numbers []int64) bool {
	for i := 1; i < len(numbers); i++ {
		if numbers[i] <= numbers[i-1] {
			return false
		}
	}
	return true
}
