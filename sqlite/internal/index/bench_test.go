package index

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// source makes events as an application with some load does: five of a stream, spread over the next hundreds of events, in ten
// categories, with one of thirty names, and a tag that ten streams share.
type source struct {
	random   *rand.Rand
	position int64
	streams  int
	versions map[int]int64
	open     []int
	random4  bool // IDs are random instead of time-ordered
}

func newSource() *source {
	return &source{random: rand.New(rand.NewPCG(1, 2)), versions: map[int]int64{}}
}

// idV7 returns an ID of a time, in milliseconds.
func (s *source) idV7(milliseconds int64) uuid.UUID {
	id := s.idV4()
	var time [8]byte
	binary.BigEndian.PutUint64(time[:], uint64(1_700_000_000_000+milliseconds))
	copy(id[:6], time[2:])
	id[6] = id[6]&0x0f | 0x70
	return id
}

func (s *source) idV4() uuid.UUID {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:], s.random.Uint64())
	binary.LittleEndian.PutUint64(id[8:], s.random.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func (s *source) stream(n int) string { return fmt.Sprintf("category%d-%08d", n%10, n) }

// next makes k the keys of the next event. There are 20 in a millisecond.
func (s *source) next(k *Keys) {
	s.position++
	if len(s.open) < 400 {
		s.open = append(s.open, s.streams)
		s.streams++
	}
	i := s.random.IntN(len(s.open))
	n := s.open[i]
	s.versions[n]++
	id := s.idV7(s.position / 20)
	if s.random4 {
		id = s.idV4()
	}
	k.Set(&Event{
		ID: id, Stream: s.stream(n), Name: fmt.Sprintf("Name%d", s.random.IntN(30)),
		Tags: []string{fmt.Sprintf("customer:%d", n/10)},
	})
	k.Position, k.Version = s.position, s.versions[n]
	if s.versions[n] == 5 {
		s.open[i] = s.open[len(s.open)-1]
		s.open = s.open[:len(s.open)-1]
	}
}

// sealed returns a span of a full chunk of events.
func (s *source) sealed() Span {
	tail := NewTail(s.position)
	from := s.position
	var k Keys
	for range ChunkEvents {
		s.next(&k)
		tail.Add(&k)
	}
	span, _ := tail.Span(from, s.position)
	return span
}

// twentyRunsFixture is the first moment at which a store has twenty runs: 14.6 million events, in six runs of level 2 and seven each of
// level 1 and 0. It takes half a minute to make.
type twentyRunsFixture struct {
	runs   []Run
	blocks *blockMap
	source *source
}

var twentyRuns = sync.OnceValue(func() *twentyRunsFixture {
	f := &twentyRunsFixture{blocks: newBlockMap(), source: newSource()}
	id := int64(0)
	emit := func(number int, block []byte) error {
		f.blocks.blocks[blockName{id, number}] = block
		return nil
	}
	must := func(r Run, err error) Run {
		if err != nil {
			panic(err)
		}
		return r
	}
	for len(f.runs) < 20 {
		id++
		f.runs = append(f.runs, must(Build(id, f.source.sealed(), emit)))
		for due := Due(f.runs); len(due) > 0; due = Due(f.runs) {
			id++
			merged := must(Merge(id, due, f.blocks, emit))
			for i := range f.runs {
				if f.runs[i].ID == due[0].ID {
					f.runs = append(append(append([]Run{}, f.runs[:i]...), merged), f.runs[i+len(due):]...)
					break
				}
			}
		}
	}
	return f
})

func (f *twentyRunsFixture) view(tb testing.TB) View {
	view, err := NewView(f.runs, NewCache(f.blocks, 256<<20))
	wantOK(tb, err)
	return view
}

func BenchmarkKeysSet(b *testing.B) {
	b.ReportAllocs()
	var k Keys
	e := Event{ID: uuid.New(), Stream: "order-0190f3c2-7b1a-7c3d-9e4f-123456789abc", Name: "OrderPlaced", Tags: []string{"customer:12345"}}
	for b.Loop() {
		k.Set(&e)
	}
}

func BenchmarkTailAdd(b *testing.B) {
	s := newSource()
	keys := make([]Keys, 4*ChunkEvents)
	for i := range keys {
		s.next(&keys[i])
	}
	b.ReportAllocs()
	tail, position := NewTail(0), int64(0)
	for b.Loop() {
		k := &keys[position%int64(len(keys))]
		position++
		k.Position = position
		tail.Add(k)
		if position%ChunkEvents == 0 {
			tail.Cut(position - ChunkEvents)
		}
	}
}

func BenchmarkTailHead(b *testing.B) {
	s := newSource()
	span := s.sealed()
	view, err := NewView(nil, nil, span)
	wantOK(b, err)
	keys := make([]Key, 4096)
	for i := range keys {
		keys[i] = KeyOf(KindStream, s.stream(s.random.IntN(s.streams)))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		_, _, err := view.Head(keys[i%len(keys)])
		wantOK(b, err)
		i++
	}
}

func BenchmarkNewView(b *testing.B) {
	f := twentyRuns()
	cache := NewCache(f.blocks, 256<<20)
	tail := NewTail(f.source.position)
	b.ReportAllocs()
	for b.Loop() {
		span, _ := tail.Span(f.source.position, f.source.position)
		_, err := NewView(f.runs, cache, span)
		wantOK(b, err)
	}
}

func BenchmarkIDMissNewV7(b *testing.B) {
	f := twentyRuns()
	view := f.view(b)
	id := f.source.idV7(f.source.position)
	b.ReportAllocs()
	for b.Loop() {
		_, err := view.ID(id)
		wantOK(b, err)
	}
}

// BenchmarkIDMissV4 looks for random IDs in twenty runs that have such, so that it takes a filter of each.
func BenchmarkIDMissV4(b *testing.B) {
	s, blocks := newSource(), newBlockMap()
	s.random4 = true
	var runs []Run
	for id := range int64(20) {
		run, err := Build(id, s.sealed(), func(number int, block []byte) error {
			blocks.blocks[blockName{id, number}] = block
			return nil
		})
		wantOK(b, err)
		runs = append(runs, run)
	}
	view, err := NewView(runs, NewCache(blocks, 256<<20))
	wantOK(b, err)
	ids := make([]uuid.UUID, 4096)
	for i := range ids {
		ids[i] = s.idV4()
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		_, err := view.ID(ids[i%len(ids)])
		wantOK(b, err)
		i++
	}
}

func BenchmarkIDHit(b *testing.B) {
	f := twentyRuns()
	view := f.view(b)
	ids := make([]uuid.UUID, 4096)
	s := newSource()
	var k Keys
	for i := range ids {
		for range 200 {
			s.next(&k)
		}
		ids[i] = uuid.UUID(k.ID)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		position, err := view.ID(ids[i%len(ids)])
		if wantOK(b, err); position == 0 {
			b.Fatal("not found")
		}
		i++
	}
}

func BenchmarkHeadOfNewStream(b *testing.B) {
	f := twentyRuns()
	view := f.view(b)
	keys := make([]Key, 4096)
	for i := range keys {
		keys[i] = KeyOf(KindStream, fmt.Sprintf("new-%d", i))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		version, _, err := view.Head(keys[i%len(keys)])
		if wantOK(b, err); version != 0 {
			b.Fatal("it is there")
		}
		i++
	}
}

func BenchmarkHeadOfOldStream(b *testing.B) {
	f := twentyRuns()
	view := f.view(b)
	keys := make([]Key, 4096)
	for i := range keys {
		keys[i] = KeyOf(KindStream, f.source.stream(f.source.random.IntN(f.source.streams-ChunkEvents))) // the newest may have no events
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		version, _, err := view.Head(keys[i%len(keys)])
		if wantOK(b, err); version == 0 {
			b.Fatal("it is not there")
		}
		i++
	}
}

// BenchmarkStreamOf1000 goes through a stream whose 1,024 events lie among 32,768.
func BenchmarkStreamOf1000(b *testing.B) {
	f := twentyRuns()
	s := newSource()
	s.position = f.source.position
	tail := NewTail(s.position)
	from := s.position
	blocks := f.blocks.clone()
	key := KeyOf(KindStream, "long-1")
	var k, long Keys
	for i := range int64(32 * 1024) {
		s.next(&k)
		if i%32 > 0 {
			tail.Add(&k)
			continue
		}
		long.Set(&Event{ID: s.idV7(s.position / 20), Stream: "long-1", Name: "Name"})
		long.Position, long.Version = s.position, i/32+1
		tail.Add(&long)
	}
	span, _ := tail.Span(from, s.position)
	for _, where := range []string{"run", "tail"} {
		b.Run(where, func(b *testing.B) {
			view, err := NewView(f.runs, NewCache(blocks, 256<<20), span)
			if where == "run" {
				const id = 1000
				run, err := Build(id, span, func(number int, block []byte) error {
					blocks.blocks[blockName{id, number}] = block
					return nil
				})
				wantOK(b, err)
				view, err = NewView(append(append([]Run{}, f.runs...), run), NewCache(blocks, 256<<20))
				wantOK(b, err)
			}
			wantOK(b, err)
			b.ReportAllocs()
			for b.Loop() {
				c := view.Stream(key, Forward)
				n := 0
				for version := int64(1); ; n++ {
					at, _, err := c.SeekVersion(version)
					wantOK(b, err)
					if at == 0 {
						break
					}
					version = at + 1
				}
				if n != 1024 {
					b.Fatal(n)
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/1024, "ns/event")
		})
	}
}

// BenchmarkTerm goes through a name, one event of thirty, and through a rare tag within a category.
func BenchmarkTerm(b *testing.B) {
	f := twentyRuns()
	view := f.view(b)
	b.Run("name", func(b *testing.B) {
		n := 0
		for b.Loop() {
			c := view.Term(KeyOf(KindName, "Name7"), Forward)
			n = walk(b, c, Forward, math.MaxInt)
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(n), "ns/event")
	})
	b.Run("newest 100 of a name", func(b *testing.B) {
		for b.Loop() {
			walk(b, view.Term(KeyOf(KindName, "Name7"), Backward), Backward, 100)
		}
	})
	b.Run("tag and category", func(b *testing.B) {
		for b.Loop() {
			n := walk(b, Intersect(Forward, view.Term(KeyOf(KindCategory, "category3"), Forward),
				view.Term(KeyOf(KindTag, "customer:5000"), Forward)), Forward, 100)
			if n != 5 {
				b.Fatal(n)
			}
		}
	})
}

// walk counts the positions of a cursor, up to some number.
func walk(tb testing.TB, c Cursor, d Direction, most int) int {
	p := int64(1)
	if d == Backward {
		p = math.MaxInt64
	}
	for n := range most {
		at, err := c.SeekPosition(p)
		wantOK(tb, err)
		if at == 0 {
			return n
		}
		p = at + 1
		if d == Backward {
			p = at - 1
		}
	}
	return most
}

func BenchmarkBuild(b *testing.B) {
	span := newSource().sealed()
	bytes := 0
	b.ReportAllocs()
	for b.Loop() {
		bytes = 0
		_, err := Build(1, span, func(_ int, block []byte) error {
			bytes += len(block)
			return nil
		})
		wantOK(b, err)
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/ChunkEvents, "ns/event")
	b.ReportMetric(float64(bytes)/ChunkEvents, "B/event")
}

func BenchmarkMerge(b *testing.B) {
	f := twentyRuns()
	for level := range f.runs[0].Level + 1 {
		b.Run(fmt.Sprintf("to level %d", level+1), func(b *testing.B) {
			var runs []Run
			for _, r := range f.runs {
				if r.Level == level && len(runs) < RunsPerMerge {
					runs = append(runs, r)
				}
			}
			bytes, events := 0, int64(0)
			b.ReportAllocs()
			for b.Loop() {
				bytes = 0
				run, err := Merge(1, runs, f.blocks, func(_ int, block []byte) error {
					bytes += len(block)
					return nil
				})
				wantOK(b, err)
				events = run.Events
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(events), "ns/event")
			b.ReportMetric(float64(bytes)/float64(events), "B/event")
			b.ReportMetric(float64(len(runs)), "runs")
		})
	}
}
