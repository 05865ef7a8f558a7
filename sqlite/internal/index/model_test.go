package index

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// blockMap keeps blocks in memory.
type blockMap struct {
	mu     sync.Mutex
	blocks map[blockName][]byte
}

func newBlockMap() *blockMap { return &blockMap{blocks: map[blockName][]byte{}} }

func (m *blockMap) Block(run int64, number int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	block, ok := m.blocks[blockName{run, number}]
	if !ok {
		return nil, fmt.Errorf("block %d of run %d is not there", number, run)
	}
	return block, nil
}

// of returns an emit function that keeps the blocks of a run.
func (m *blockMap) of(t testing.TB, run int64) func(int, []byte) error {
	next := 0
	return func(number int, block []byte) error {
		if number != next || len(block) > BlockBytes {
			t.Errorf("block %d of %d bytes came where %d was due", number, len(block), next)
		}
		next++
		m.mu.Lock()
		defer m.mu.Unlock()
		m.blocks[blockName{run, number}] = block
		return nil
	}
}

func (m *blockMap) clone() *blockMap { return &blockMap{blocks: maps.Clone(m.blocks)} }

// history makes random events, and indexes them in two ways: as a store and another process would.
type history struct {
	t      *testing.T
	random *rand.Rand
	limits limits
	names  int // how many streams, names and tags there are
	most   int // events in a transaction
	jumps  int // one position of so many is far from the one before

	events    []Event // all that are committed, and the open transaction's
	committed int
	heads     map[string]int64
	tails     []*Tail
	runs      []Run
	nextRun   int64
	blocks    *blockMap
	views     []snapshot
}

// snapshot is a view, and what it is to have.
type snapshot struct {
	view   View
	events []Event // they are committed, and do not change any more
}

func newHistory(t *testing.T, seed uint64) *history {
	random := rand.New(rand.NewPCG(seed, 0))
	h := &history{
		t: t, random: random, heads: map[string]int64{}, nextRun: 1, blocks: newBlockMap(),
		limits: limits{content: 150 + random.IntN(300), rootDirectory: 100 + random.IntN(100)},
		names:  1 + random.IntN(20), most: 40, jumps: 100,
	}
	full := 1 + random.IntN(30)
	if random.IntN(4) == 0 {
		h.limits = usualLimits()
	}
	for range 2 {
		h.tails = append(h.tails, NewTail(0))
		h.tails[len(h.tails)-1].full = full
	}
	return h
}

func (h *history) last() int64 {
	if h.committed == 0 {
		return 0
	}
	return h.events[h.committed-1].Position
}

func (h *history) stream() string {
	return fmt.Sprintf("s%d-%d", h.random.IntN(3), h.random.IntN(h.names))
}
func (h *history) name() string { return fmt.Sprintf("n%d", h.random.IntN(h.names)) }
func (h *history) tag() string  { return fmt.Sprintf("t%d", h.random.IntN(3*h.names)) }

// transact adds events, and undoes some of them now and then.
func (h *history) transact() {
	position := h.last()
	for range h.random.IntN(h.most) {
		position += 1 + int64(h.random.IntN(2)*h.random.IntN(300))
		if h.random.IntN(h.jumps) == 0 {
			position += math.MaxUint32
		}
		e := Event{Position: position, ID: h.id(), Stream: h.stream(), Name: h.name()}
		h.heads[e.Stream]++
		if h.random.IntN(10*h.names) == 0 {
			h.heads[e.Stream] += 3 // which no store should do
		}
		e.Version = h.heads[e.Stream]
		for range h.random.IntN(3) {
			e.Tags = append(e.Tags, h.tag()) // the same one twice, now and then
		}
		h.add(e)
		if h.random.IntN(h.most) == 0 {
			h.undo(h.committed + h.random.IntN(len(h.events)-h.committed+1))
			position = h.last()
			if len(h.events) > 0 {
				position = h.events[len(h.events)-1].Position
			}
		}
	}
	if h.random.IntN(5) == 0 {
		h.undo(h.committed)
	}
	h.committed = len(h.events)
}

func (h *history) id() uuid.UUID {
	if h.random.IntN(3) == 0 {
		var id uuid.UUID
		for i := range id {
			id[i] = byte(h.random.Uint32())
		}
		return id
	}
	return uuid.Must(uuid.NewV7())
}

func (h *history) add(e Event) {
	h.events = append(h.events, e)
	var k Keys
	k.Set(&e)
	k.Position, k.Version = e.Position, e.Version
	for _, tail := range h.tails {
		tail.Add(&k)
	}
}

// undo leaves so many events.
func (h *history) undo(kept int) {
	to := int64(0)
	if kept > 0 {
		to = h.events[kept-1].Position
	}
	for _, e := range h.events[kept:] {
		if e.Version-1 < h.heads[e.Stream] {
			h.heads[e.Stream] = 0
		}
	}
	h.events = h.events[:kept]
	for _, e := range h.events {
		h.heads[e.Stream] = max(h.heads[e.Stream], e.Version)
	}
	for _, tail := range h.tails {
		tail.Undo(to)
	}
}

// build makes a run of what one of the tails has sealed, or of any stretch beyond the last run.
func (h *history) build() {
	from, to, ok := h.tails[0].Sealed()
	if !ok || to > h.last() || h.random.IntN(3) == 0 {
		from = h.tails[0].Base()
		to = from + h.random.Int64N(h.last()-from+1)
	}
	span, ok := h.tails[0].Span(from, to)
	if !ok {
		h.t.Fatalf("the tail from %d to %d has no span from %d to %d", h.tails[0].Base(), h.tails[0].Last(), from, to)
	}
	run, err := build(h.nextRun, span, h.limits, h.blocks.of(h.t, h.nextRun))
	wantOK(h.t, err)
	h.nextRun++
	h.runs = append(slices.Clip(h.runs), h.stored(run))
	h.tails[0].Cut(to)
}

// stored returns a run as it is when it was read again.
func (h *history) stored(r Run) Run {
	if len(r.Root) > RootBytes {
		h.t.Errorf("a root has %d bytes", len(r.Root))
	}
	r.root = nil
	return r
}

// merge merges the runs that are due, or any others.
func (h *history) merge() {
	due := Due(h.runs)
	if len(due) == 0 || h.random.IntN(2) == 0 {
		if len(h.runs) == 0 {
			return
		}
		start := h.random.IntN(len(h.runs))
		due = h.runs[start : start+1+h.random.IntN(len(h.runs)-start)]
	}
	run, err := merge(h.nextRun, due, h.blocks, h.limits, h.blocks.of(h.t, h.nextRun))
	wantOK(h.t, err)
	h.nextRun++
	i := slices.IndexFunc(h.runs, func(r Run) bool { return r.ID == due[0].ID })
	merged := append(slices.Clone(h.runs[:i]), h.stored(run))
	h.runs = append(merged, h.runs[i+len(due):]...)
}

// look makes a view of one of the tails, as a reader would.
func (h *history) look() snapshot {
	base, last := int64(0), h.last()
	for i := range h.runs {
		if h.random.IntN(2) == 0 {
			wantOK(h.t, h.runs[i].Open())
		}
		base = h.runs[i].Last
	}
	tail := h.tails[h.random.IntN(len(h.tails))]
	if h.random.IntN(4) == 0 && len(h.runs) > 0 { // as of before the last run
		runs := h.runs[:len(h.runs)-1]
		base = h.runs[len(runs)].Base
		h.runs, runs = runs, h.runs
		defer func() { h.runs = runs }()
	}
	var spans []Span
	if !tail.Covers(base, last) {
		gap := NewTail(base)
		for _, e := range h.events[:h.committed] {
			if e.Position > base && e.Position <= tail.Base() {
				var k Keys
				k.Set(&e)
				k.Position, k.Version = e.Position, e.Version
				gap.Add(&k)
			}
		}
		gap.Advance(tail.Base())
		span, ok := gap.Span(base, tail.Base())
		if !ok {
			h.t.Fatal("a tail does not cover what it has")
		}
		spans, base = append(spans, span), tail.Base()
	}
	span, ok := tail.Span(base, last)
	if !ok {
		h.t.Fatalf("the tail from %d to %d has no span from %d to %d", tail.Base(), tail.Last(), base, last)
	}
	view, err := NewView(h.runs, h.cache(), append(spans, span)...)
	wantOK(h.t, err)
	return snapshot{view, h.events[:h.committed]}
}

func (h *history) cache() Blocks {
	if h.random.IntN(2) == 0 {
		return h.blocks
	}
	return NewCache(h.blocks, h.random.IntN(1<<16))
}

func wantOK(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

// TestIndexFindsWhatAMapFinds goes through random histories: transactions that are undone in part or as a whole, runs that are
// built and merged at any moment, tails that are cut at different places, and views that go on while all that happens.
func TestIndexFindsWhatAMapFinds(t *testing.T) {
	t.Parallel()
	histories := 1500
	if testing.Short() {
		histories = 150
	}
	goThrough(t, histories, func(seed uint64) *history { return newHistory(t, seed) })
}

// TestIndexFindsWhatAMapFindsInLongLists does so with many events of few streams, names and tags.
func TestIndexFindsWhatAMapFindsInLongLists(t *testing.T) {
	t.Parallel()
	histories := 50
	if testing.Short() {
		histories = 5
	}
	goThrough(t, histories, func(seed uint64) *history {
		h := newHistory(t, seed)
		h.names, h.most, h.jumps = 1+h.random.IntN(2), 600, 1+h.random.IntN(2000)
		h.limits.content = min(contentBytes, h.limits.content*(1+h.random.IntN(3)))
		full := 1 + h.random.IntN(2000)
		for _, tail := range h.tails {
			tail.full = full
		}
		return h
	})
}

func goThrough(t *testing.T, histories int, history func(seed uint64) *history) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range uint64(histories) {
		h := history(seed + i)
		for range 3 + h.random.IntN(40) {
			h.step()
		}
		for _, s := range h.views {
			h.check(s)
		}
		if t.Failed() {
			t.Fatalf("in the history of seed %d", seed+i)
		}
	}
}

func (h *history) step() {
	switch h.random.IntN(8) {
	case 0, 1, 2:
		h.transact()
	case 3:
		h.build()
	case 4:
		h.merge()
	case 5:
		if n := len(h.runs); n > 0 { // the other process notices some of the runs
			h.tails[1].Cut(h.runs[h.random.IntN(n)].Last)
		}
	default:
		h.views = append(h.views, h.look())
	}
	if got, want := h.tails[0].Len(), len(h.events)-h.upTo(h.tails[0].Base()); got != want {
		h.t.Errorf("a tail has %d events, want %d", got, want)
	}
}

// upTo returns how many events there are up to a position.
func (h *history) upTo(position int64) int {
	return search(len(h.events), func(i int) bool { return h.events[i].Position > position })
}

// check asks a view for all kinds of things.
func (h *history) check(s snapshot) {
	for range 4 {
		h.checkID(s)
		h.checkStream(s)
		h.checkTerms(s)
	}
	if want := int64(0); len(s.events) > 0 && s.view.Last() < s.events[len(s.events)-1].Position || s.view.Last() < want {
		h.t.Errorf("a view ends at %d", s.view.Last())
	}
}

func (h *history) checkID(s snapshot) {
	id, want := h.id(), int64(0)
	if n := len(h.events); n > 0 && h.random.IntN(4) > 0 {
		id = h.events[h.random.IntN(n)].ID
	}
	if h.random.IntN(4) == 0 {
		id[h.random.IntN(len(id))]++ // near one that is there
	}
	if i := slices.IndexFunc(s.events, func(e Event) bool { return e.ID == id }); i >= 0 {
		want = s.events[i].Position
	}
	got, err := s.view.ID(id)
	if wantOK(h.t, err); got != want {
		h.t.Errorf("%v is at %d, want %d", id, got, want)
	}
}

func (h *history) checkStream(s snapshot) {
	stream := h.stream()
	var want []*Event
	for i := range s.events {
		if s.events[i].Stream == stream {
			want = append(want, &s.events[i])
		}
	}
	head := &Event{}
	if n := len(want); n > 0 {
		head = want[n-1]
	}
	key := KeyOf(KindStream, stream)
	version, position, err := s.view.Head(key)
	if wantOK(h.t, err); version != head.Version || position != head.Position {
		h.t.Errorf("the head of %s is %d at %d, want %d at %d", stream, version, position, head.Version, head.Position)
	}
	d := h.direction()
	if d == Backward {
		slices.Reverse(want)
	}
	h.walkStream(s.view.Stream(key, d), d, head.Version, want)
}

func (h *history) direction() Direction { return Direction(h.random.IntN(2)) }

// walkStream goes through a stream by versions and positions, in small steps and large ones.
func (h *history) walkStream(c *StreamCursor, d Direction, head int64, want []*Event) {
	version := h.random.Int64N(head + 2)
	for range 50 {
		next := slices.IndexFunc(want, func(e *Event) bool { return d.reached(e.Version, version) })
		e := &Event{}
		if next >= 0 {
			e = want[next]
		}
		gotVersion, gotPosition, err := c.SeekVersion(version)
		if wantOK(h.t, err); gotVersion != e.Version || gotPosition != e.Position {
			h.t.Errorf("version %d is %d at %d, want %d at %d", version, gotVersion, gotPosition, e.Version, e.Position)
		}
		if next < 0 {
			return
		}
		got, err := c.SeekPosition(e.Position)
		if wantOK(h.t, err); got != e.Position || c.Version() != e.Version {
			h.t.Errorf("at %d there is %d with version %d, want %d", e.Position, got, c.Version(), e.Version)
		}
		version = h.beyond(e.Version, h.random.Int64N(2)*h.random.Int64N(5), d)
	}
}

// beyond returns what is more than one further on.
func (h *history) beyond(p, more int64, d Direction) int64 {
	if d == Backward {
		return p - 1 - more
	}
	return p + 1 + more
}

// checkTerms goes through some of the terms, combined.
func (h *history) checkTerms(s snapshot) {
	d := h.direction()
	c, matches := h.combination(&s.view, d, 2)
	var want []int64
	for i := range s.events {
		if matches(&s.events[i]) {
			want = append(want, s.events[i].Position)
		}
	}
	p := int64(1)
	if d == Backward {
		slices.Reverse(want)
		p = math.MaxInt64
	}
	if len(s.events) > 0 && h.random.IntN(2) == 0 {
		p = s.events[h.random.IntN(len(s.events))].Position
	}
	for range 300 {
		expected := int64(0)
		for ; len(want) > 0; want = want[1:] {
			if d.reached(want[0], p) {
				expected = want[0]
				break
			}
		}
		got, err := c.SeekPosition(p)
		if wantOK(h.t, err); got != expected {
			h.t.Errorf("in direction %d from %d there is %d, want %d", d, p, got, expected)
		}
		if expected == 0 || got != expected {
			return
		}
		p = h.beyond(expected, h.random.Int64N(2)*h.random.Int64N(100), d)
	}
}

// combination returns a cursor, and what it is to find.
func (h *history) combination(v *View, d Direction, depth int) (Cursor, func(*Event) bool) {
	kinds := 5
	if depth > 0 {
		kinds = 9
	}
	switch h.random.IntN(kinds) {
	case 0:
		name := h.name()
		return v.Term(KeyOf(KindName, name), d), func(e *Event) bool { return e.Name == name }
	case 1:
		category := es.Category(h.stream())
		return v.Term(KeyOf(KindCategory, category), d), func(e *Event) bool { return es.Category(e.Stream) == category }
	case 2:
		stream := h.stream()
		return v.Stream(KeyOf(KindStream, stream), d), func(e *Event) bool { return e.Stream == stream }
	case 3, 4:
		tag := h.tag()
		return v.Term(KeyOf(KindTag, tag), d), func(e *Event) bool { return slices.Contains(e.Tags, tag) }
	case 5, 6:
		cs, matches := h.combinations(v, d, depth)
		return Union(d, cs...), func(e *Event) bool {
			return slices.ContainsFunc(matches, func(is func(*Event) bool) bool { return is(e) })
		}
	default:
		cs, matches := h.combinations(v, d, depth)
		if h.random.IntN(4) == 0 {
			cs = append(cs, All(d, v.Last()))
		}
		return Intersect(d, cs...), func(e *Event) bool {
			return !slices.ContainsFunc(matches, func(is func(*Event) bool) bool { return !is(e) })
		}
	}
}

func (h *history) combinations(v *View, d Direction, depth int) (cs []Cursor, matches []func(*Event) bool) {
	for range 1 + h.random.IntN(3) {
		c, is := h.combination(v, d, depth-1)
		cs, matches = append(cs, c), append(matches, is)
	}
	return cs, matches
}
