package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// entriesOf returns what a walk through a run comes across.
func entriesOf(run Run, blocks Blocks) (all []Entry, err error) {
	err = Walk(run, NewCache(blocks, 1<<20), func(e Entry) error {
		all = append(all, e)
		return nil
	})
	return all, err
}

// wantEntries fails unless a run has the entries of some events, each once.
func wantEntries(t *testing.T, run Run, blocks Blocks, events []Keys) {
	t.Helper()
	got, err := entriesOf(run, blocks)
	wantOK(t, err)
	want := map[Entry]int{}
	for i := range events {
		for _, e := range events[i].Entries(nil) {
			want[e]++
		}
	}
	for _, e := range got {
		if want[e]--; want[e] < 0 {
			t.Errorf("%+v is there, and is not to be", e)
		}
	}
	for e, n := range want {
		if n > 0 {
			t.Errorf("%+v is not there", e)
		}
	}
	if !slices.IsSortedFunc(got, func(a, b Entry) int { return int(a.Kind) - int(b.Kind) }) {
		t.Error("the kinds are not in their order")
	}
}

// walkedRuns are runs of so many events, with the blocks and the keys of their events.
func walkedRuns(t *testing.T, events int) (runs []Run, blocks *blockMap, all [][]Keys) {
	random := rand.New(rand.NewPCG(5, 6))
	blocks = newBlockMap()
	tail, versions := NewTail(0), map[string]int64{}
	for id := range int64(3) {
		var keys []Keys
		for range events {
			position := tail.Last() + 1
			e := Event{Stream: fmt.Sprintf("stream-%d", random.IntN(20)), Name: fmt.Sprintf("name%d", random.IntN(3))}
			binary.BigEndian.PutUint64(e.ID[:], random.Uint64())
			for range random.IntN(3) {
				e.Tags = append(e.Tags, fmt.Sprintf("tag%d", random.IntN(4))) // which may be there twice
			}
			versions[e.Stream]++
			var k Keys
			k.Set(&e)
			k.Position, k.Version = position, versions[e.Stream]
			tail.Add(&k)
			keys = append(keys, k)
		}
		span, _ := tail.Span(id*int64(events), (id+1)*int64(events))
		run, err := build(id, span, limits{content: 300, rootDirectory: 100}, blocks.of(t, id))
		wantOK(t, err)
		runs, all = append(runs, run), append(all, keys)
	}
	return runs, blocks, all
}

func TestWalkComesAcrossAllThatARunHas(t *testing.T) {
	t.Parallel()
	for _, events := range []int{1, 10, 500} {
		runs, blocks, keys := walkedRuns(t, events)
		for i, run := range runs {
			wantEntries(t, run, blocks, keys[i])
		}
		merged, err := merge(10, runs, blocks, limits{content: 300, rootDirectory: 100}, blocks.of(t, 10))
		wantOK(t, err)
		wantEntries(t, merged, blocks, slices.Concat(keys...))
	}
}

func TestWalkEndsWithAnErrorOfTheVisitor(t *testing.T) {
	t.Parallel()
	runs, blocks, _ := walkedRuns(t, 10)
	mine := errors.New("mine")
	for most := range 25 {
		n := 0
		err := Walk(runs[0], blocks, func(Entry) error {
			if n++; n > most {
				return mine
			}
			return nil
		})
		if !errors.Is(err, mine) || n != most+1 {
			t.Errorf("after %d entries: %v", n, err)
		}
	}
}

// resealed gives a block another content, and the checksum of that, as a mistake in a program would.
func resealed(run int64, number int, block []byte, change func(content []byte)) []byte {
	content := slices.Clone(block[:len(block)-checksumBytes])
	change(content)
	return binary.LittleEndian.AppendUint32(content, checksum(run, number, content))
}

// What is there and is not found is damage: a filter without a key, a fence that leads past it.
func TestWalkNoticesWhatIsNotFound(t *testing.T) {
	t.Parallel()
	runs, blocks, _ := walkedRuns(t, 500)
	seen := map[byte]bool{}
	for name, block := range blocks.blocks {
		if block[0] != typeFilter && block[0] != typeDirectory {
			continue
		}
		changed := &blockMap{blocks: map[blockName][]byte{}}
		maps.Copy(changed.blocks, blocks.blocks)
		changed.blocks[name] = resealed(name.run, name.number, block, func(content []byte) {
			if content[0] == typeFilter {
				clear(content[filterHeader:])
				return
			}
			content[len(content)-1] ^= 1 // of the last block's number
		})
		_, err := entriesOf(runs[name.run], changed)
		if _, corrupt := errors.AsType[*CorruptError](err); !corrupt {
			t.Errorf("block %v of type %d: %v", name, block[0], err)
		}
		seen[block[0]] = true
	}
	if len(seen) < 2 {
		t.Errorf("there were blocks of types %v", seen)
	}
}

// Whatever a block has, with the right checksum, a walk comes to an end.
func TestWalkOutlivesEveryBlock(t *testing.T) {
	t.Parallel()
	runs, blocks, _ := walkedRuns(t, 100)
	random := rand.New(rand.NewPCG(7, 8))
	for name, block := range blocks.blocks {
		for range 30 {
			changed := &blockMap{blocks: map[blockName][]byte{}}
			maps.Copy(changed.blocks, blocks.blocks)
			changed.blocks[name] = resealed(name.run, name.number, block, func(content []byte) {
				for range 1 + random.IntN(4) {
					content[random.IntN(len(content))] = byte(random.Uint32())
				}
			})
			_, err := entriesOf(runs[name.run], changed)
			wantCorrupt(t, err)
		}
	}
}
