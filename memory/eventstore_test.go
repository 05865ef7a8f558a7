package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// What every event store promises is tested by the suite of estest. Here stands what this one promises beyond that.

func newEvent(stream, name string, tags ...string) *es.Message {
	m := es.NewMessage(stream, name, []byte(`{"some":"data"}`))
	m.Tags = tags
	return m
}

func appendEvents(t *testing.T, store es.EventStore, events ...*es.Message) es.Appended {
	t.Helper()
	var done es.Appended
	for _, m := range events {
		var err error
		if done, err = store.Append(t.Context(), es.AppendTo(m.Stream, es.Any, m)); err != nil {
			t.Fatalf("append to %q: %v", m.Stream, err)
		}
	}
	return done
}

func readEvents(t *testing.T, store es.EventStore, q es.Query) []*es.Message {
	t.Helper()
	var found []*es.Message
	for m, err := range store.Read(t.Context(), q) {
		if err != nil {
			t.Fatalf("read %+v: %v", q, err)
		}
		found = append(found, m)
	}
	return found
}

// TestEventStoreRoundTrip keeps everything that a message can have: also what the store keeps in ways of its own, because it is
// large, frequent or rare.
func TestEventStoreRoundTrip(t *testing.T) {
	t.Parallel()
	store := memory.New().Events()
	var want []*es.Message
	add := func(change func(m *es.Message)) {
		m := newEvent("round-1", "Happened")
		change(m)
		want = append(want, m.Clone())
		appendEvents(t, store, m)
		clear(m.Data)
		clear(m.Tags)
		clear(m.Metadata)
		m.Name = "Overwritten"
	}
	for i := range 40 {
		add(func(m *es.Message) { m.ContentType = fmt.Sprintf("application/x-%d", i%30) })
		add(func(m *es.Message) { m.ContentType = strings.Repeat("c", 256+i) })
		add(func(m *es.Message) { m.Metadata = map[string]string{"tenant": strconv.Itoa(i / 10), "user": "same"} })
		add(func(m *es.Message) { m.Metadata = map[string]string{"tenant": strconv.Itoa(i / 10), "": ""} })
		add(func(m *es.Message) { m.CorrelationID = strings.Repeat("x", i*100) })
		add(func(m *es.Message) { m.CausationID = m.ID.String() })
		add(func(m *es.Message) { m.Data = bytes.Repeat([]byte{byte(i), 0, 0xff}, 1+i*100) })
		add(func(m *es.Message) { m.Schema = 1 << i })
		add(func(m *es.Message) { m.Time = m.Time.AddDate(-50*i, 0, 0) })
		add(func(m *es.Message) { m.Time = m.Time.AddDate(150*i, 0, 0) })
		add(func(m *es.Message) { m.Name = fmt.Sprintf("Happened%d", i) })
		add(func(m *es.Message) {
			for j := range i {
				m.Tags = append(m.Tags, fmt.Sprintf("tag:%d:%d", i%5, j))
			}
		})
	}
	add(func(m *es.Message) { m.Metadata = map[string]string{"long": strings.Repeat("m", 60<<10)} })
	add(func(m *es.Message) { m.Data = bytes.Repeat([]byte("data"), 1<<18) })
	got := readEvents(t, store, es.Query{})
	if len(got) != len(want) {
		t.Fatalf("read %d events, want %d", len(got), len(want))
	}
	for i, m := range got {
		want[i].Version, want[i].Position, want[i].Recorded = m.Version, m.Position, m.Recorded
		if !reflect.DeepEqual(m, want[i]) {
			t.Errorf("event %d is\n%+v, want\n%+v", i, m, want[i])
		}
	}
}

// TestEventStoreSharesPages changes what it was handed out, as nobody may, to see that no message has another one's room.
func TestEventStoreSharesPages(t *testing.T) {
	t.Parallel()
	store := memory.New().Events()
	appendEvents(t, store, newEvent("a-1", "First", "x"), newEvent("a-1", "Second", "y"))
	page := readEvents(t, store, es.Query{})
	page[0].Data = append(page[0].Data, "behind the end"...)
	page[0].Tags = append(page[0].Tags, "behind the end")
	if got := string(page[1].Data); got != `{"some":"data"}` || page[1].Tags[0] != "y" {
		t.Errorf("appending to one message's slices changed another: %q, %v", got, page[1].Tags)
	}
	if again := readEvents(t, store, es.Query{})[1]; string(again.Data) != `{"some":"data"}` {
		t.Errorf("and the store: %q", again.Data)
	}
}

// TestEventStoreEditsReachRunningReads edits while a loop is in the middle of a page: what is gone is not handed out any more.
func TestEventStoreEditsReachRunningReads(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		query es.Query
		edit  func(t *testing.T, store es.EventStore)
		want  string
	}{
		"truncate": {es.Query{Stream: "a-1"}, func(t *testing.T, store es.EventStore) {
			check(t, store.Truncate(t.Context(), "a-1", 6))
		}, "1 2 6 7 8 9"},
		"truncate in reverse": {es.Query{Reverse: true}, func(t *testing.T, store es.EventStore) {
			check(t, store.Truncate(t.Context(), "a-1", 6))
		}, "9 8 7 6"},
		"delete": {es.Query{Category: "a"}, func(t *testing.T, store es.EventStore) {
			check(t, store.Delete(t.Context(), "a-1", es.SoftDelete))
		}, "1 2"},
		"limit": {es.Query{Limit: 4}, func(t *testing.T, store es.EventStore) {
			check(t, store.Truncate(t.Context(), "a-1", 6))
		}, "1 2 6 7"},
		"erase": {es.Query{Stream: "a-1"}, func(t *testing.T, store es.EventStore) {
			_, err := store.Erase(t.Context(), es.Erasure{Stream: "a-1", Versions: []int64{4, 5}, Audit: newEvent("audit-1", "Erased")})
			check(t, err)
		}, "1 2 3 4- 5- 6 7 8 9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := memory.New().Events()
			for range 9 {
				appendEvents(t, store, newEvent("a-1", "Happened"))
			}
			var got []string
			for m, err := range store.Read(t.Context(), test.query) {
				check(t, err)
				text := strconv.FormatInt(m.Version, 10)
				if len(m.Data) == 0 {
					text += "-"
				}
				if got = append(got, text); len(got) == 2 {
					test.edit(t, store)
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("read %v, want %s", got, test.want)
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestEventStoreContentOfHiddenEvents repeats appends of events whose content is gone.
func TestEventStoreContentOfHiddenEvents(t *testing.T) {
	t.Parallel()
	store := memory.New().Events()
	const events = 600
	var stored []*es.Message
	for i := range events {
		m := newEvent("a-1", fmt.Sprintf("Happened%d", i%3), fmt.Sprintf("tag:%d", i))
		m.Data = fmt.Appendf(nil, `{"number":%d,"filler":"%0200d"}`, i, i)
		stored = append(stored, m)
		appendEvents(t, store, m, newEvent("b-1", "Other", "new:tag"))
	}
	erased := []int64{7, 300}
	_, err := store.Erase(t.Context(), es.Erasure{Stream: "a-1", Versions: erased, Audit: newEvent("audit-1", "Erased")})
	check(t, err)
	check(t, store.Truncate(t.Context(), "a-1", 200))
	appendEvents(t, store, newEvent("c-1", "Fresh", "fresh:tag")) // which takes the room of names and tags that were forgotten
	check(t, store.Delete(t.Context(), "a-1", es.Tombstone))
	for i, m := range stored {
		version := int64(i + 1)
		done, err := store.Append(t.Context(), es.AppendTo("a-1", es.NoStream, m))
		if err != nil || done.Existing != 1 || done.Places[0].Version != version {
			t.Fatalf("repeating event %d gives %+v, %v", version, done, err)
		}
		other := m.Clone()
		other.Data = []byte("other")
		_, err = store.Append(t.Context(), es.AppendTo("a-1", es.NoStream, other))
		if version == erased[0] || version == erased[1] {
			check(t, err) // nobody knows any more what it said
		} else if !errors.Is(err, es.ErrDuplicate) {
			t.Fatalf("repeating event %d with other data gives %v", version, err)
		}
	}
	if _, err := store.Append(t.Context(), es.AppendTo("a-1", es.Any, stored[0], newEvent("a-1", "New"))); !errors.Is(err, es.ErrStreamDeleted) {
		t.Errorf("half of an append to a tombstone gives %v", err)
	}
}

// TestEventStoreConditionAfterHiding holds decisions against events that were hidden since: one that saw nothing is judged by
// what can be seen now, one that saw some of what is gone has to be made again.
func TestEventStoreConditionAfterHiding(t *testing.T) {
	t.Parallel()
	store := memory.New().Events()
	match := []es.Criterion{{Tags: []string{"t"}}}
	decide := func(after int64, seen int) error {
		a := es.Append{Unless: []es.Condition{{Match: match, After: after, Seen: seen}}}
		_, err := store.Append(t.Context(), a)
		return err
	}
	appendEvents(t, store, newEvent("a-1", "Seen", "t"))
	check(t, decide(0, 1))
	check(t, store.Delete(t.Context(), "a-1", es.SoftDelete))
	check(t, decide(0, 0))
	appendEvents(t, store, newEvent("b-1", "NotSeen", "t"))
	if err := decide(0, 1); !errors.Is(err, es.ErrConflict) {
		t.Errorf("an event took the place of one that was seen and is gone: %v", err)
	}
	if err := decide(1, 0); !errors.Is(err, es.ErrConflict) {
		t.Errorf("an event was not seen: %v", err)
	}
	check(t, decide(1, 1))
	check(t, decide(2, 0))
	match = []es.Criterion{{}} // everything that can be seen: the event of b-1
	if err := decide(0, 0); !errors.Is(err, es.ErrConflict) {
		t.Errorf("an event was not seen among all: %v", err)
	}
	appendEvents(t, store, newEvent("c-1", "Seen"), newEvent("b-1", "NotSeen"))
	check(t, store.Truncate(t.Context(), "b-1", 3))
	check(t, decide(3, 0))
	if err := decide(0, math.MaxInt); !errors.Is(err, es.ErrConflict) {
		t.Errorf("whatever number was seen, some of it is gone: %v", err)
	}
}

// TestEventStoreConditionOfHalfAnAppend does the rest of an append under its condition: the half that is there does not count.
func TestEventStoreConditionOfHalfAnAppend(t *testing.T) {
	t.Parallel()
	for _, match := range []es.Criterion{{}, {Tags: []string{"t"}}, {Names: []string{"Half"}}} {
		store := memory.New().Events()
		there, rest := newEvent("a-1", "Half", "t"), newEvent("a-1", "Half", "t")
		appendEvents(t, store, there)
		a := es.AppendTo("a-1", es.Any, there, rest)
		a.Unless = []es.Condition{{Match: []es.Criterion{match}}}
		done, err := store.Append(t.Context(), a)
		if err != nil || done.Existing != 1 || done.Position != 2 {
			t.Errorf("under %+v: %+v, %v", match, done, err)
		}
		more := newEvent("a-1", "Half", "t")
		a.Streams[0].Events = []*es.Message{rest, more}
		if _, err := store.Append(t.Context(), a); !errors.Is(err, es.ErrConflict) {
			t.Errorf("under %+v, with another event there: %v", match, err)
		}
	}
}

// TestEventStoreWaiters has many who wait, and sees each get what ends its waiting.
func TestEventStoreWaiters(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(b *memory.Backend, other *memory.Backend, cancel context.CancelFunc)
		want error
	}{
		"append":      {func(b, _ *memory.Backend, _ context.CancelFunc) { wake(b) }, nil},
		"other":       {func(_, other *memory.Backend, _ context.CancelFunc) { wake(other) }, nil},
		"close":       {func(b, _ *memory.Backend, _ context.CancelFunc) { _ = b.Close() }, es.ErrClosed},
		"other close": {func(_, other *memory.Backend, cancel context.CancelFunc) { _ = other.Close(); cancel() }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				storage := memory.NewStorage()
				b, err := memory.Open(memory.Config{Storage: storage})
				check(t, err)
				other, err := memory.Open(memory.Config{Storage: storage})
				check(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var waiting sync.WaitGroup
				var mu sync.Mutex
				ended := 0
				for range 20 {
					waiting.Go(func() {
						head, err := b.Events().Wait(ctx, es.Checkpoint{})
						if !errors.Is(err, test.want) || err == nil && head.Position != 1 {
							t.Errorf("Wait gives %+v, %v; want %v", head, err, test.want)
						}
						mu.Lock()
						defer mu.Unlock()
						ended++
					})
				}
				synctest.Wait() // all of them are blocked
				if ended != 0 {
					t.Errorf("%d did not wait", ended)
				}
				test.end(b, other, cancel)
				waiting.Wait()
			})
		})
	}
}

func wake(b *memory.Backend) {
	_, _ = b.Events().Append(context.Background(), es.AppendTo("a-1", es.Any, newEvent("a-1", "Happened")))
}

// TestEventStoreEndsInTheLoop ends a read from inside its loop, in the middle of a page and at the end of one.
func TestEventStoreEndsInTheLoop(t *testing.T) {
	t.Parallel()
	for _, at := range []int{1, 15, 16, 17, 100} {
		for _, want := range []error{context.Canceled, es.ErrClosed} {
			b := memory.New()
			for range 200 {
				appendEvents(t, b.Events(), newEvent("a-1", "Happened"))
			}
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			var last error
			for m, err := range b.Events().Read(ctx, es.Query{}) {
				if last = err; m == nil {
					break
				}
				if n++; n != at {
					continue
				}
				if errors.Is(want, es.ErrClosed) {
					check(t, b.Close())
				} else {
					cancel()
				}
			}
			if n != at || !errors.Is(last, want) {
				t.Errorf("ended after %d events: read %d and got %v, want %v", at, n, last, want)
			}
			cancel()
		}
	}
}

// TestEventStoreAllocations holds the cost of the hot paths: appending and reading share their allocations among many events.
func TestEventStoreAllocations(t *testing.T) {
	store := memory.New().Events()
	ctx := t.Context()
	e := newEventMaker(1, 16)
	if got := testing.AllocsPerRun(20_000, func() {
		if _, err := store.Append(ctx, e.next()); err != nil {
			t.Fatal(err)
		}
	}); got >= 1 {
		t.Errorf("an append takes %v allocations", got)
	}
	n := 0
	perRead := testing.AllocsPerRun(5, func() {
		n = 0
		for _, err := range store.Read(ctx, es.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
	})
	if got := perRead / float64(n); got > 0.1 {
		t.Errorf("reading a message takes %v allocations", got)
	}
}

func TestConfigLimits(t *testing.T) {
	t.Parallel()
	for _, limits := range []es.Limits{{EventBytes: -1}, {EventsPerAppend: -1}, {MetadataBytes: -1}, {TagsPerEvent: -1}} {
		if _, err := memory.Open(memory.Config{Limits: limits}); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("limits %+v give %v", limits, err)
		}
	}
}
