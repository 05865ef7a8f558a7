package index

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// countingBlocks gives blocks of a size, and counts.
type countingBlocks struct {
	size  int
	reads atomic.Int64
}

func (c *countingBlocks) Block(run int64, number int) ([]byte, error) {
	c.reads.Add(1)
	name := blockName{run, number}
	content := make([]byte, c.size-checksumBytes)
	copy(content, fmt.Sprint(name))
	return sealBlock(name, content), nil
}

// held returns how many bytes a cache holds.
func (c *Cache) held() int {
	held := 0
	for i := range c.shards {
		s := &c.shards[i]
		for _, generation := range []map[blockName][]byte{s.young, s.old} {
			for _, content := range generation {
				held += cap(content)
			}
		}
	}
	return held
}

func TestCacheKeepsWithinItsBound(t *testing.T) {
	t.Parallel()
	for _, bytes := range []int{0, 1, BlockBytes, 3 * BlockBytes, 1 << 20, 4 << 20} {
		blocks := &countingBlocks{size: BlockBytes}
		c := NewCache(blocks, bytes)
		for i := range 3000 {
			want, err := blocks.Block(int64(i%3), i)
			wantOK(t, err)
			got, err := c.Block(int64(i%3), i)
			if wantOK(t, err); string(got) != string(want) {
				t.Fatalf("block %d is %q", i, got)
			}
			if held := c.held(); held > bytes {
				t.Fatalf("of %d bytes it holds %d", bytes, held)
			}
		}
		if held := c.held(); bytes >= 1<<20 && held < bytes/4 {
			t.Errorf("of %d bytes it holds %d only", bytes, held)
		}
	}
}

// TestCacheKeepsWhatIsUsed reads a few blocks again and again among many that are read once.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	blocks := &countingBlocks{size: BlockBytes}
	c := NewCache(nil, 2<<20).With(blocks)
	const rounds, hot = 5000, 20
	for i := range rounds {
		for _, number := range []int{i % hot, 1000 + i} {
			_, err := c.Block(1, number)
			wantOK(t, err)
		}
	}
	if reads := blocks.reads.Load(); reads != rounds+hot {
		t.Errorf("there were %d reads", reads)
	}
}

func TestCacheIsSharedBySnapshots(t *testing.T) {
	t.Parallel()
	first, second := &countingBlocks{size: 100}, &countingBlocks{size: 100}
	c := NewCache(first, 1<<20)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 1000 {
				if _, err := c.With(second).Block(int64(i), 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for i := range 1000 {
		_, err := c.Block(int64(i), 0)
		wantOK(t, err)
	}
	if first.reads.Load() != 0 || second.reads.Load() < 1000 {
		t.Errorf("there were %d and %d reads", first.reads.Load(), second.reads.Load())
	}
}

func TestCacheDoesNotKeepDamage(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t)
	name := blockName{1, 0}
	whole := s.blocks.blocks[name]
	c := NewCache(s.blocks, 1<<20)
	s.blocks.blocks[name] = append([]byte{whole[0] + 1}, whole[1:]...)
	_, err := c.Block(name.run, name.number)
	if wantCorrupt(t, err); err == nil {
		t.Fatal("a damaged block was not noticed")
	}
	s.blocks.blocks[name] = whole
	_, err = c.Block(name.run, name.number)
	wantOK(t, err)
}
