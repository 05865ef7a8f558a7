package oracle

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Open opens another handle on a storage.
type Open func() (es.Backend, error)

// Property is what [CheckEventStore] checks.
type Property struct {
	// New makes a storage that has nothing in it, for one run. What it has to be freed of, it frees in t.Cleanup.
	New func(t *rapid.T) Open
	// Before is how many events the store has before a run, of which one is drawn; none by default.
	Before []int
}

// CheckEventStore does random things to an event store, over two handles that are closed and opened again now and then, and to a model
// that is as simple as can be. It compares every answer, and what can be read afterwards.
func CheckEventStore(t *testing.T, property Property) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		p := &pair{model: newModel(), open: property.New(t), handles: make([]es.Backend, 2)}
		for i := range p.handles {
			p.reopen(t, i)
		}
		defer p.close(t)
		if len(property.Before) > 0 {
			p.prepare(t, rapid.SampledFrom(property.Before).Draw(t, "events before"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"append":      p.append,
			"append more": p.append, // more often than the others
			"fill":        p.fill,
			"decide":      p.decide,
			"truncate":    p.truncate,
			"delete":      p.delete,
			"erase":       p.erase,
			"read":        p.read,
			"reopen":      p.reopenSome,
			"":            p.compare,
		})
		p.compareAfter(t, 0)
	})
}

// streams are the names of the streams that there are.
func streams() []string { return []string{"order-1", "order-2", "user-1", "user"} }

// pair is a store and its model, and what was made for them.
type pair struct {
	open    Open
	handles []es.Backend
	model   *model
	made    []*es.Message
}

// prepare appends the events that there are before a run.
func (p *pair) prepare(t *rapid.T, events int) {
	for ; events > 0; events -= fillMost {
		p.fillStream(t, drawStream(t), min(events, fillMost))
	}
}

func (p *pair) close(t *rapid.T) {
	for _, b := range p.handles {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func (p *pair) reopen(t *rapid.T, i int) {
	if b := p.handles[i]; b != nil {
		if err := b.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	b, err := p.open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	p.handles[i] = b
}

// reopenSome closes handles and opens them again: one while the other goes on, or one after the other.
func (p *pair) reopenSome(t *rapid.T) {
	switch rapid.IntRange(0, 5).Draw(t, "handles to open again") {
	case 0:
		for i, b := range p.handles { // nobody has the storage open
			if err := b.Close(); err != nil {
				t.Fatalf("close: %v", err)
			}
			p.handles[i] = nil
		}
		p.reopen(t, 0)
		p.reopen(t, 1)
	case 1:
		p.reopen(t, 0)
	case 2:
		p.reopen(t, 1)
	default:
		t.Skip("handles are to live for some time")
	}
}

func (p *pair) store(t *rapid.T) es.EventStore {
	return p.handles[rapid.IntRange(0, len(p.handles)-1).Draw(t, "handle")].Events()
}

func drawStream(t *rapid.T) string {
	return rapid.SampledFrom(streams()).Draw(t, "stream")
}

func drawNames(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"Opened", "Closed", "Never"}), 0, 2, rapid.ID[string]).Draw(t, "names")
}

func drawTags(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 3, rapid.ID[string]).Draw(t, "tags")
}

func drawCriteria(t *rapid.T, least int) []es.Criterion {
	criteria := make([]es.Criterion, rapid.IntRange(least, 3).Draw(t, "criteria"))
	for i := range criteria {
		criteria[i] = es.Criterion{Names: drawNames(t), Tags: drawTags(t)}
	}
	return criteria
}

func drawExpectation(t *rapid.T, version int64) es.Expectation {
	return rapid.SampledFrom([]es.Expectation{
		es.Any, es.Any, es.Any, es.NoStream, es.StreamExists, es.Exactly(version), es.Exactly(version + 1), es.Exactly(max(version-1, 0)),
	}).Draw(t, "expect")
}

// drawEvent is a new event, or one that was made before: as it was, with other content, or moved to another stream.
func (p *pair) drawEvent(t *rapid.T, stream string) *es.Message {
	if len(p.made) > 0 && rapid.IntRange(0, 2).Draw(t, "again") == 0 {
		of := slices.DeleteFunc(slices.Clone(p.made), func(m *es.Message) bool { return m.Stream != stream })
		if len(of) == 0 || rapid.IntRange(0, 9).Draw(t, "from anywhere") == 0 {
			of = p.made
		}
		m := rapid.SampledFrom(of).Draw(t, "which").Clone()
		m.Stream = stream
		m.Metadata = map[string]string{"attempt": "another"}
		if rapid.IntRange(0, 9).Draw(t, "changed") == 0 {
			m.Data = append(m.Data, '!')
		}
		return m
	}
	m := es.NewMessage(stream, rapid.SampledFrom([]string{"Opened", "Closed"}).Draw(t, "name"), nil)
	m.Tags = drawTags(t)
	m.Data = make([]byte, rapid.SampledFrom([]int{0, 1, 100, 5000}).Draw(t, "size"))
	if rapid.Bool().Draw(t, "with metadata") {
		m.Metadata = map[string]string{"tenant": "t", "size": strconv.Itoa(len(m.Data))}
		m.CorrelationID = "conversation"
	}
	p.made = append(p.made, m.Clone())
	return m
}

func (p *pair) drawAppend(t *rapid.T) es.Append {
	var a es.Append
	used := map[string]bool{}
	ids := map[string]bool{}
	for range rapid.IntRange(1, 3).Draw(t, "streams") {
		stream := drawStream(t)
		if used[stream] {
			continue
		}
		used[stream] = true
		s := es.StreamAppend{Stream: stream, Expect: drawExpectation(t, p.model.stream(stream).version)}
		for range rapid.IntRange(0, 4).Draw(t, "events") {
			m := p.drawEvent(t, stream)
			if id := m.ID.String(); !ids[id] {
				ids[id] = true
				s.Events = append(s.Events, m)
			}
		}
		a.Streams = append(a.Streams, s)
	}
	if rapid.IntRange(0, 3).Draw(t, "conditional") == 0 {
		a.Unless = append(a.Unless, es.Condition{
			Match: drawCriteria(t, 1),
			After: rapid.Int64Range(0, p.model.last()+1).Draw(t, "after"),
			Seen:  rapid.IntRange(0, 3).Draw(t, "seen"),
		})
	}
	return a
}

func (p *pair) append(t *rapid.T) {
	a := p.drawAppend(t)
	got, err := p.store(t).Append(context.Background(), a)
	want, wantErr := p.model.append(a)
	p.agree(t, got, err, want, wantErr)
}

// fillMost is the largest number of events that fill appends: more than a page of a store, and within every limit.
const fillMost = 1000

// fill appends many events.
func (p *pair) fill(t *rapid.T) {
	p.fillStream(t, drawStream(t), rapid.IntRange(1, 200).Draw(t, "events"))
}

func (p *pair) fillStream(t *rapid.T, stream string, n int) {
	a := es.AppendTo(stream, es.Any)
	for range n {
		m := es.NewMessage(stream, "Filled", make([]byte, 100))
		m.Tags = []string{"a", "filled"}
		a.Streams[0].Events = append(a.Streams[0].Events, m)
	}
	p.made = append(p.made, a.Streams[0].Events[0])
	got, err := p.store(t).Append(context.Background(), a)
	want, wantErr := p.model.append(a)
	p.agree(t, got, err, want, wantErr)
}

func (p *pair) agree(t *rapid.T, got es.Appended, err error, want es.Appended, wantErr error) {
	if !errors.Is(err, wantErr) {
		t.Fatalf("got %+v, %v; want the error %v", got, err, wantErr)
	}
	if got.Existing != want.Existing || got.Position != want.Position || !slices.Equal(got.Places, want.Places) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// decide makes a decision while others append: its condition must not hold if one of these matches, and must if none does.
func (p *pair) decide(t *rapid.T) {
	ctx := context.Background()
	store := p.store(t)
	match := drawCriteria(t, 1)
	condition, err := es.ReadForDecision(ctx, store, match, func(*es.Message) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	p.append(t)
	stream := drawStream(t)
	a := es.AppendTo(stream, es.Any, p.drawEvent(t, stream))
	a.Unless = []es.Condition{condition}
	got, err := store.Append(ctx, a)
	want, wantErr := p.model.append(a)
	p.agree(t, got, err, want, wantErr)
}

func (p *pair) truncate(t *rapid.T) {
	stream := drawStream(t)
	before := rapid.Int64Range(0, p.model.stream(stream).version+2).Draw(t, "before")
	if err := p.store(t).Truncate(context.Background(), stream, before); err != nil {
		t.Fatal(err)
	}
	p.model.truncate(stream, before)
}

func (p *pair) delete(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "really") != 0 {
		t.Skip("streams are to have some events most of the time")
	}
	stream, how := drawStream(t), es.SoftDelete
	if rapid.IntRange(0, 9).Draw(t, "for good") == 0 {
		how = es.Tombstone
	}
	if err := p.store(t).Delete(context.Background(), stream, how); err != nil {
		t.Fatal(err)
	}
	p.model.delete(stream, how)
}

func (p *pair) erase(t *rapid.T) {
	stream := drawStream(t)
	e := es.Erasure{Stream: stream, Audit: p.drawEvent(t, drawStream(t))}
	if version := p.model.stream(stream).version; rapid.Bool().Draw(t, "some versions") {
		e.Versions = rapid.SliceOfN(rapid.Int64Range(max(version-5, 0), version+1), 1, 3).Draw(t, "versions")
	}
	got, err := p.store(t).Erase(context.Background(), e)
	want, wantErr := p.model.erase(e)
	p.agree(t, got, err, want, wantErr)
}

// read reads what random queries select.
func (p *pair) read(t *rapid.T) {
	for range 5 {
		p.readOne(t)
	}
}

func (p *pair) readOne(t *rapid.T) {
	last := p.model.last()
	q := es.Query{Names: drawNames(t), Tags: drawTags(t), Any: drawCriteria(t, 0)}
	switch rapid.IntRange(0, 2).Draw(t, "of") {
	case 0:
		q.Stream = drawStream(t)
		last = p.model.stream(q.Stream).version
	case 1:
		q.Category = rapid.SampledFrom([]string{"order", "user", "nothing"}).Draw(t, "category")
	}
	if rapid.Bool().Draw(t, "bounded") {
		q.After = rapid.Int64Range(0, last).Draw(t, "after")
		q.UpTo = rapid.Int64Range(0, last+1).Draw(t, "up to")
	}
	q.Limit = rapid.SampledFrom([]int{0, 0, 1, 5, 40}).Draw(t, "limit")
	q.Reverse = rapid.Bool().Draw(t, "reverse")
	q.Unsettled = rapid.Bool().Draw(t, "unsettled")
	p.compareQuery(t, p.store(t), q)
}

// compare reads what was appended last: everything, unless the store was filled before.
func (p *pair) compare(t *rapid.T) {
	const most = 4000
	p.compareAfter(t, max(p.model.last()-most, 0))
}

func (p *pair) compareAfter(t *rapid.T, after int64) {
	store := p.store(t)
	head, err := store.Head(context.Background())
	if err != nil || head.Position != p.model.last() {
		t.Fatalf("the head is %+v, %v; want position %d", head, err, p.model.last())
	}
	p.compareQuery(t, store, es.Query{After: after})
	p.compareQuery(t, store, es.Query{After: after, Reverse: true})
}

func (p *pair) compareQuery(t *rapid.T, store es.EventStore, q es.Query) {
	want := p.model.read(q)
	n := 0
	for m, err := range store.Read(context.Background(), q) {
		switch {
		case err != nil:
			t.Fatalf("read %+v: %v", q, err)
		case n == len(want):
			t.Fatalf("read %+v goes on after %d events with %+v", q, n, *m)
		case !same(m, want[n]):
			t.Fatalf("read %+v gives as event %d\n%+v, want\n%+v", q, n, *m, *want[n])
		}
		n++
	}
	if n != len(want) {
		t.Fatalf("read %+v gives %d events, want %d", q, n, len(want))
	}
}
