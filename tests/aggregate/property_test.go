// Package aggregate_test tries aggregates on histories and races that nobody has thought of.
package aggregate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// The events of today.
type (
	added  struct{ N int }
	marked struct{ Text string }
)

// sheet depends on each event, and on their order. It refers to memory, which evolve changes in place.
type sheet struct {
	Sum   int
	Texts []string
	Seen  map[string]int
}

func evolve(s sheet, event any) sheet {
	if s.Seen == nil {
		s.Seen = map[string]int{}
	}
	switch e := event.(type) {
	case added:
		s.Sum = (s.Sum*31 + e.N) % 1_000_003
	case marked:
		s.Texts = append(s.Texts, e.Text)
		if len(s.Texts) > 3 {
			copy(s.Texts, s.Texts[1:])
			s.Texts = s.Texts[:3]
		}
	}
	s.Seen[fmt.Sprintf("%T", event)]++
	return s
}

func clone(s sheet) sheet {
	s.Texts, s.Seen = slices.Clone(s.Texts), maps.Clone(s.Seen)
	return s
}

// drawTypes draws what has become of the events of old: each was changed, split, renamed, dropped, or some of these.
func drawTypes(t *rapid.T) *es.Types {
	types := es.NewTypes()
	es.Register[added](types, "Added", es.WithSchema(3))
	es.Register[marked](types, "Marked", es.WithSchema(2))
	double := es.UpcastJSON(3, func(fields map[string]json.RawMessage) error {
		var n int
		if err := json.Unmarshal(fields["N"], &n); err != nil {
			return err
		}
		fields["N"] = json.RawMessage(strconv.Itoa(2 * n))
		return nil
	})
	split := func(to int) es.Upcaster {
		return func(m *es.Message) ([]*es.Message, error) {
			first, second, third := m.Clone(), m.Clone(), m.Clone()
			first.Schema, third.Schema = to, to
			second.Name, second.Schema, second.Data = "Marked", 2, []byte(`{"Text":"split"}`)
			return []*es.Message{first, second, third}, nil
		}
	}
	es.Upcast(types, "Added", 1, rapid.SampledFrom([]es.Upcaster{split(2), split(3), es.UpcastJSON(2), es.DropEvent}).Draw(t, "Added 1"))
	es.Upcast(types, "Added", 2, rapid.SampledFrom([]es.Upcaster{split(3), double, es.DropEvent}).Draw(t, "Added 2"))
	es.Upcast(types, "Marked", 1, rapid.SampledFrom([]es.Upcaster{es.UpcastJSON(2), es.RenameEvent("Noted", 1), es.DropEvent}).Draw(t, "Marked 1"))
	es.Upcast(types, "Noted", 1, rapid.SampledFrom([]es.Upcaster{es.RenameEvent("Marked", 2), es.DropEvent}).Draw(t, "Noted 1"))
	return types
}

// drawMessage draws an event, of today or of old, or one that nobody knows.
func drawMessage(t *rapid.T, stream string) *es.Message {
	n := rapid.IntRange(0, 99).Draw(t, "n")
	m := es.NewMessage(stream, "Added", fmt.Appendf(nil, `{"N":%d}`, n))
	m.Schema = rapid.IntRange(1, 3).Draw(t, "schema")
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0, 1:
		m.Name, m.Schema, m.Data = "Marked", 1+m.Schema%2, fmt.Appendf(nil, `{"Text":"%d"}`, n)
	case 2:
		m.Name, m.Schema, m.Data = "Noted", 1, fmt.Appendf(nil, `{"Text":"noted %d"}`, n)
	case 3:
		m.Name, m.Data = "OfOthers", []byte("?")
	}
	return m
}

type repository = aggregate.Repository[sheet, any]

// drawRepository draws a way to load with snapshots, a cache, or both.
func drawRepository(t *rapid.T, plain aggregate.Config[sheet, any], snapshots es.Snapshots, name string) *repository {
	c := plain
	c.CacheSize = rapid.IntRange(0, 3).Draw(t, "cache size")
	if rapid.Bool().Draw(t, "has snapshots") {
		c.Snapshots, c.SnapshotName = snapshots, name
		c.SnapshotEvery = rapid.IntRange(1, 8).Draw(t, "snapshot every")
		if rapid.Bool().Draw(t, "by a policy of its own") {
			c.SnapshotWhen = func(chance aggregate.SnapshotChance) bool { return (chance.Version*7+chance.Snapshot)%3 == 0 }
		}
	}
	return newRepository(t, c)
}

func newRepository(t interface{ Fatal(...any) }, c aggregate.Config[sheet, any]) *repository {
	r, err := aggregate.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var ids = []string{"a", "b", "c-d"}

// TestSnapshotsAndCacheChangeNothing: with any policy for snapshots, any size of the cache and any upcasting, whatever happens to the streams
// and to the snapshots, the state is that without them.
func TestSnapshotsAndCacheChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		backend := memory.New()
		defer func() { _ = backend.Close() }()
		h := &history{T: t, backend: backend}
		plain := aggregate.Config[sheet, any]{
			Events: backend.Events(), Types: drawTypes(t), Category: "sheet", Evolve: evolve, Clone: clone, Unknown: es.SkipUnknown,
		}
		h.types, h.plain = plain.Types, newRepository(t, plain)
		for i := range 3 {
			name := "sheet" + strconv.Itoa(i)
			h.names, h.others = append(h.names, name), append(h.others, drawRepository(t, plain, backend.Snapshots(), name))
		}
		t.Repeat(map[string]func(*rapid.T){
			"":              h.compare,
			"update":        h.update,
			"append":        h.append,
			"appendMore":    h.append,
			"overtake":      h.overtake,
			"delete":        h.delete,
			"breakSnapshot": h.breakSnapshot,
			"past":          h.past,
		})
	})
}

// history is what happens to some aggregates.
type history struct {
	*rapid.T

	backend *memory.Backend
	types   *es.Types
	plain   *repository // neither snapshots nor a cache
	others  []*repository
	names   []string // of the others' snapshots
}

func (h *history) ctx() context.Context { return context.Background() }

func (h *history) anyone(t *rapid.T) *repository {
	return rapid.SampledFrom(h.others).Draw(t, "repository")
}

func (h *history) append(t *rapid.T) {
	stream := h.plain.Stream(rapid.SampledFrom(ids).Draw(t, "id"))
	var messages []*es.Message
	for range rapid.IntRange(1, 5).Draw(t, "events") {
		messages = append(messages, drawMessage(t, stream))
	}
	if _, err := h.backend.Events().Append(h.ctx(), es.AppendTo(stream, es.Any, messages...)); err != nil {
		t.Fatal(err)
	}
}

// spoil changes in place whatever a state refers to.
func spoil(s sheet) {
	for i := range s.Texts {
		s.Texts[i] = "spoilt"
	}
	clear(s.Seen)
}

func (h *history) update(t *rapid.T) {
	id, event := rapid.SampledFrom(ids).Draw(t, "id"), rapid.SampledFrom([]any{added{1}, added{2}, marked{"x"}}).Draw(t, "event")
	before, err := h.plain.Load(h.ctx(), id)
	if err != nil && !errors.Is(err, es.ErrNotFound) {
		t.Fatal(err)
	}
	done, err := h.anyone(t).Update(h.ctx(), id, func(s sheet) ([]any, error) {
		if !reflect.DeepEqual(s, before.State) {
			t.Errorf("the decision about %s sees %+v instead of %+v", id, s, before.State)
		}
		spoil(s)
		return []any{event, event}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := evolve(evolve(before.State, event), event); !reflect.DeepEqual(done.State, want) {
		t.Fatalf("%s was updated to %+v instead of %+v", id, done.State, want)
	}
	spoil(done.State)
}

// overtake appends while somebody decides, who may think better of it then.
func (h *history) overtake(t *rapid.T) {
	id, decided := rapid.SampledFrom(ids).Draw(t, "id"), 0
	refuses, refused := rapid.Bool().Draw(t, "refuses"), errors.New("refused")
	_, err := h.anyone(t).Update(h.ctx(), id, func(s sheet) ([]any, error) {
		spoil(s)
		if decided++; decided == 1 {
			m := drawMessage(t, h.plain.Stream(id))
			if _, err := h.backend.Events().Append(h.ctx(), es.AppendTo(m.Stream, es.Any, m)); err != nil {
				return nil, err
			}
		}
		if decided == 2 && refuses {
			return nil, refused
		}
		return []any{marked{"in spite of it"}}, nil
	})
	if decided != 2 || errors.Is(err, refused) != refuses || err != nil && !refuses {
		t.Fatalf("decided %d times: %v", decided, err)
	}
}

func (h *history) delete(t *rapid.T) {
	stream := h.plain.Stream(rapid.SampledFrom(ids).Draw(t, "id"))
	if err := h.backend.Events().Delete(h.ctx(), stream, es.SoftDelete); err != nil {
		t.Fatal(err)
	}
}

// breakSnapshot puts a snapshot in the place of another that nobody can use.
func (h *history) breakSnapshot(t *rapid.T) {
	key := es.SnapshotKey{
		Stream: h.plain.Stream(rapid.SampledFrom(ids).Draw(t, "id")), Name: rapid.SampledFrom(h.names).Draw(t, "name"), Schema: 1,
	}
	snapshots := h.backend.Snapshots()
	snapshot, err := snapshots.Load(h.ctx(), key)
	if errors.Is(err, es.ErrNotFound) {
		return
	}
	switch rapid.IntRange(0, 3).Draw(t, "how") {
	case 0:
		snapshot.Data = []byte(`{"Sum":`)
	case 1:
		snapshot.Version, snapshot.Data = snapshot.Version+50, []byte(`{"Sum":1}`)
	case 2: // as after a restore: the version is there, and the event is another
		snapshot.ContentType, snapshot.Data = "application/json; event="+es.NewID().String(), []byte(`{"Sum":1}`)
	case 3:
		snapshot.ContentType = "application/cbor"
	}
	if err := errors.Join(err, snapshots.Delete(h.ctx(), key), snapshots.Save(h.ctx(), snapshot)); err != nil {
		t.Fatal(err)
	}
}

// same fails when somebody has another answer than the plain repository.
func (h *history) same(t *rapid.T, what string, ask func(*repository) (aggregate.Loaded[sheet], error)) {
	want, wantErr := ask(h.plain)
	if wantErr != nil && !errors.Is(wantErr, es.ErrNotFound) {
		t.Fatalf("%s: %v", what, wantErr)
	}
	for i, r := range h.others {
		got, err := ask(r)
		if (err == nil) != (wantErr == nil) || err != nil && !errors.Is(err, es.ErrNotFound) || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: repository %d has %+v, %v; want %+v, %v", what, i, got, err, want, wantErr)
		}
		spoil(got.State)
	}
}

// replay builds a state without a repository.
func (h *history) replay(t *rapid.T, id string) (state sheet, version int64) {
	for m, err := range h.backend.Events().Read(h.ctx(), es.Query{Stream: "sheet-" + id}) {
		if err != nil {
			t.Fatal(err)
		}
		events, err := h.types.DecodeAll(nil, m, es.SkipUnknown)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			state = evolve(state, e.Value)
		}
		version = m.Version
	}
	return state, version
}

func (h *history) compare(t *rapid.T) {
	for _, id := range ids {
		want, version := h.replay(t, id)
		if got, err := h.plain.Load(h.ctx(), id); got.Version != version || !reflect.DeepEqual(got.State, want) {
			t.Fatalf("%s is %+v, %v; want %+v at version %d", id, got, err, want, version)
		}
		h.same(t, "now, "+id, func(r *repository) (aggregate.Loaded[sheet], error) { return r.Load(h.ctx(), id) })
	}
}

func (h *history) past(t *rapid.T) {
	id, version := rapid.SampledFrom(ids).Draw(t, "id"), rapid.Int64Range(1, 30).Draw(t, "version")
	h.same(t, fmt.Sprintf("%s at version %d", id, version), func(r *repository) (aggregate.Loaded[sheet], error) {
		return r.LoadAt(h.ctx(), id, version)
	})
	at, err := h.plain.LoadAt(h.ctx(), id, version)
	if err != nil {
		return
	}
	h.same(t, fmt.Sprintf("%s as of version %d", id, version), func(r *repository) (aggregate.Loaded[sheet], error) {
		return r.LoadAsOf(h.ctx(), id, at.Recorded)
	})
	h.same(t, fmt.Sprintf("%s before version %d", id, version), func(r *repository) (aggregate.Loaded[sheet], error) {
		return r.LoadAsOf(h.ctx(), id, at.Recorded.Add(-time.Microsecond))
	})
}
