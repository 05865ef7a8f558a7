package index

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
)

// specimen is two runs of few events with blocks of all types and directories of two levels, and the keys that they have.
type specimen struct {
	runs   []Run
	blocks *blockMap
	ids    []uuid.UUID
	keys   []Key // of streams, and of terms
}

func newSpecimen(t testing.TB) *specimen {
	random := rand.New(rand.NewPCG(1, 2))
	s := &specimen{blocks: newBlockMap()}
	tail := NewTail(0)
	var k Keys
	versions := map[string]int64{}
	for position := range int64(200) {
		e := Event{
			ID: uuid.UUID{byte(random.Uint32()), byte(random.Uint32()), 15: 1}, Stream: fmt.Sprintf("stream-%d", random.IntN(15)),
			Name: "name", Tags: []string{fmt.Sprintf("tag%d", random.IntN(30))},
		}
		versions[e.Stream]++
		k.Set(&e)
		k.Position, k.Version = position+1, versions[e.Stream]
		tail.Add(&k)
		s.ids = append(s.ids, e.ID)
		for _, key := range []Key{k.Stream, k.Name, k.Tags[0]} {
			if !slices.Contains(s.keys, key) {
				s.keys = append(s.keys, key)
			}
		}
	}
	for id := range int64(2) {
		span, ok := tail.Span(100*id, 100*id+100)
		if !ok {
			t.Fatal("a tail does not cover what it has")
		}
		run, err := build(id, span, limits{content: 200, rootDirectory: 100}, s.blocks.of(t, id))
		wantOK(t, err)
		if run.root.leaves.level < 2 || run.root.filters.keys.n < 1 {
			t.Fatalf("the leaves have %d levels of directories, and there are %d filters", run.root.leaves.level, run.root.filters.keys.n)
		}
		s.runs = append(s.runs, run)
	}
	return s
}

// clone returns a specimen to be damaged. Its runs are not open.
func (s *specimen) clone() *specimen {
	c := &specimen{runs: slices.Clone(s.runs), blocks: s.blocks.clone(), ids: s.ids, keys: s.keys}
	for i := range c.runs {
		c.runs[i].root = nil
	}
	return c
}

// lookAtAll looks everything up, merges everything, and returns the first error there was.
func (s *specimen) lookAtAll() error { return s.lookAt(1) }

// lookAt looks up every n-th ID and key only.
func (s *specimen) lookAt(n int) error {
	view, err := NewView(s.runs, s.blocks)
	if err != nil {
		return err
	}
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	for i := 0; i < len(s.ids); i += n {
		_, err := view.ID(s.ids[i])
		keep(err)
	}
	for i := 0; i < len(s.keys); i += n {
		key := s.keys[i]
		for _, d := range []Direction{Forward, Backward} {
			_, err := walkAll(view.Term(key, d), d)
			keep(err)
			_, err = walkAll(view.Stream(key, d), d)
			keep(err)
		}
		_, _, err := view.Head(key)
		keep(err)
		_, _, err = view.Stream(key, Forward).SeekVersion(3)
		keep(err)
	}
	_, err = Merge(100, s.runs, s.blocks, func(int, []byte) error { return nil })
	keep(err)
	return first
}

// walkAll returns the positions of a cursor.
func walkAll(c Cursor, d Direction) ([]int64, error) {
	p := int64(1)
	if d == Backward {
		p = math.MaxInt64
	}
	var positions []int64
	for {
		at, err := c.SeekPosition(p)
		if at == 0 || err != nil {
			return positions, err
		}
		if !d.reached(at, p) {
			return nil, fmt.Errorf("from %d a cursor went to %d", p, at)
		}
		positions = append(positions, at)
		p = at + 1
		if d == Backward {
			p = at - 1
		}
	}
}

// wantCorrupt fails unless an error is nil, or a CorruptError.
func wantCorrupt(t testing.TB, err error) {
	var corrupt *CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		t.Helper()
		t.Fatalf("%T: %v", err, err)
	}
}

// TestDamagedBlockIsAnError changes, cuts off, and swaps blocks, and the roots.
func TestDamagedBlockIsAnError(t *testing.T) {
	t.Parallel()
	whole := newSpecimen(t)
	wantOK(t, whole.lookAtAll())
	random := rand.New(rand.NewPCG(3, 4))
	damages := map[string]func(b []byte) []byte{
		"a bit":      func(b []byte) []byte { b[random.IntN(len(b))] ^= 1 << random.IntN(8); return b },
		"cut off":    func(b []byte) []byte { return b[:random.IntN(len(b))] },
		"longer":     func(b []byte) []byte { return append(b, 0) },
		"empty":      func([]byte) []byte { return nil },
		"very long":  func(b []byte) []byte { return append(b, make([]byte, BlockBytes)...) },
		"zeros":      func(b []byte) []byte { return make([]byte, len(b)) },
		"of another": func([]byte) []byte { return whole.blocks.blocks[blockName{9, 9}] },
	}
	whole.blocks.blocks[blockName{9, 9}] = whole.blocks.blocks[blockName{1, 1}]
	for what, damage := range damages {
		for name := range whole.blocks.blocks {
			if name.run == 9 || what == "of another" && name == (blockName{1, 1}) {
				continue
			}
			s := whole.clone()
			s.blocks.blocks[name] = damage(slices.Clone(s.blocks.blocks[name]))
			err := s.lookAtAll()
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || corrupt.Run != name.run || corrupt.Block != name.number || err.Error() == "" {
				t.Errorf("%s: %v is %v", what, name, err)
			}
		}
		for i := range whole.runs {
			s := whole.clone()
			s.runs[i].Root = damage(slices.Clone(s.runs[i].Root))
			err := s.runs[i].Open()
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || corrupt.Run != s.runs[i].ID || corrupt.Block != -1 || err.Error() == "" {
				t.Errorf("%s: the root of run %d is %v", what, i, err)
			}
			if s.lookAtAll() == nil {
				t.Errorf("%s: a view took the run %d", what, i)
			}
		}
	}
}

// TestRootBelongsToItsRun changes what a run says of itself.
func TestRootBelongsToItsRun(t *testing.T) {
	t.Parallel()
	whole := newSpecimen(t)
	for what, change := range map[string]func(r *Run){
		"ID":     func(r *Run) { r.ID++ },
		"base":   func(r *Run) { r.Base++ },
		"last":   func(r *Run) { r.Last++ },
		"events": func(r *Run) { r.Events++ },
		"blocks": func(r *Run) { r.Blocks++ },
	} {
		run := whole.clone().runs[0]
		change(&run)
		var corrupt *CorruptError
		if err := run.Open(); !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	run := whole.clone().runs[0]
	run.Level++
	wantOK(t, run.Open())
}

// sealBlock puts a right checksum behind any content.
func sealBlock(name blockName, content []byte) []byte {
	content = slices.Clone(content[:min(len(content), contentBytes)])
	return binary.LittleEndian.AppendUint32(content, checksum(name.run, name.number, content))
}

// FuzzBlock puts any bytes in the place of a block, with a checksum that is right: as if a program with an error had written them.
func FuzzBlock(f *testing.F) {
	whole := newSpecimen(f)
	names := make([]blockName, 0, len(whole.blocks.blocks))
	for run := range int64(2) {
		for number := range whole.runs[run].Blocks {
			names = append(names, blockName{run, number})
		}
	}
	for i, name := range names {
		block := whole.blocks.blocks[name]
		f.Add(uint(i), block[:len(block)-checksumBytes])
	}
	f.Fuzz(func(t *testing.T, i uint, content []byte) {
		name := names[i%uint(len(names))]
		s := whole.clone()
		s.blocks.blocks[name] = sealBlock(name, content)
		wantCorrupt(t, s.lookAtAll())
	})
}

// FuzzRoot does so with roots.
func FuzzRoot(f *testing.F) {
	whole := newSpecimen(f)
	for i, run := range whole.runs {
		f.Add(uint(i), run.Root[:len(run.Root)-checksumBytes])
	}
	f.Fuzz(func(t *testing.T, i uint, content []byte) {
		s := whole.clone()
		run := &s.runs[i%uint(len(s.runs))]
		run.Root = binary.LittleEndian.AppendUint32(slices.Clone(content), run.checksum(content))
		wantCorrupt(t, s.lookAtAll())
	})
}

// TestDamageOfEachByteIsNotAPanic sets each byte of each type of block to some values, with a checksum that is right.
func TestDamageOfEachByteIsNotAPanic(t *testing.T) {
	t.Parallel()
	whole := newSpecimen(t)
	seen := map[byte]int{}
	for name, block := range whole.blocks.blocks {
		content := block[:len(block)-checksumBytes]
		if seen[content[0]]++; seen[content[0]] > 1 {
			continue
		}
		for i := range content {
			for _, value := range []byte{content[i] + 1, 0xff} {
				s := whole.clone()
				changed := slices.Clone(content)
				changed[i] = value
				s.blocks.blocks[name] = sealBlock(name, changed)
				wantCorrupt(t, s.lookAt(5))
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("there were blocks of %d types", len(seen))
	}
}

// TestRandomDamageIsNotAPanic changes, cuts, lengthens and swaps contents at random, with checksums that are right.
func TestRandomDamageIsNotAPanic(t *testing.T) {
	t.Parallel()
	whole := newSpecimen(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	names := slices.SortedFunc(maps.Keys(whole.blocks.blocks), func(a, b blockName) int {
		return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.number, b.number))
	})
	for range 2000 {
		s := whole.clone()
		name := names[random.IntN(len(names))]
		from := name
		if random.IntN(4) == 0 {
			from = names[random.IntN(len(names))]
		}
		block := whole.blocks.blocks[from]
		content := slices.Clone(block[:len(block)-checksumBytes])
		for range 1 + random.IntN(3) {
			if i := random.IntN(len(content) + 1); i < len(content) && random.IntN(3) > 0 {
				content[i] = byte(random.Uint32())
			} else {
				end := min(len(content), i+random.IntN(4))
				content = slices.Replace(content, i, end, make([]byte, random.IntN(4))...)
			}
		}
		s.blocks.blocks[name] = sealBlock(name, content)
		wantCorrupt(t, s.lookAt(10))
	}
}
