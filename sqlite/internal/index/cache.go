package index

import (
	"math/bits"
	"sync"
)

// Cache keeps blocks in memory, the most used ones, up to a bound in bytes. It is safe for concurrent use.
type Cache struct {
	blocks Blocks
	shards []cacheShard
}

// cacheShard has two generations of blocks. What is used goes to the young one; when that has half of what is allowed, it becomes the
// old one, and what the old one had, which was not used since, is forgotten.
type cacheShard struct {
	mu         sync.Mutex
	young, old map[blockName][]byte // contents of blocks that were checked
	size       int                  // of the young ones
	most       int                  // that a generation may have
}

type blockName struct {
	run    int64
	number int
}

const (
	maxCacheShards     = 16
	leastPerCacheShard = 64 * BlockBytes
	// cachedOverhead is about what a map takes for a block, and the allocator.
	cachedOverhead = 128
)

// NewCache returns a cache of at most so many bytes.
func NewCache(blocks Blocks, bytes int) *Cache {
	shards := maxCacheShards
	for shards > 1 && bytes/shards < leastPerCacheShard {
		shards /= 2
	}
	c := &Cache{blocks: blocks, shards: make([]cacheShard, shards)}
	for i := range c.shards {
		s := &c.shards[i]
		s.young, s.old, s.most = map[blockName][]byte{}, map[blockName][]byte{}, bytes/shards/2
	}
	return c
}

// With returns a cache with the same memory that reads what is missing from other blocks: those of a snapshot of the database which
// still has the runs of its views, whatever was merged since.
func (c *Cache) With(blocks Blocks) *Cache { return &Cache{blocks: blocks, shards: c.shards} }

// Block returns the content of a block, which was checked, with its checksum.
func (c *Cache) Block(run int64, number int) ([]byte, error) {
	content, err := c.content(run, number)
	if err != nil {
		return nil, err
	}
	return content[:len(content)+checksumBytes], nil
}

// content returns the content of a block, which was checked.
func (c *Cache) content(run int64, number int) ([]byte, error) {
	name := blockName{run, number}
	s := c.shard(name)
	if content := s.get(name); content != nil {
		return content, nil
	}
	content, err := readBlock(c.blocks, run, number)
	if err != nil {
		return nil, err
	}
	s.put(name, content)
	return content, nil
}

func (c *Cache) shard(name blockName) *cacheShard {
	const odd1, odd2 = 0x9e3779b97f4a7c15, 0xd1b54a32d192ed03
	high, low := bits.Mul64(uint64(name.run)*odd1^uint64(name.number), odd2) //nolint:gosec // the bits matter
	return &c.shards[int((high^low)&uint64(len(c.shards)-1))]                //nolint:gosec // below the number of shards
}

func (s *cacheShard) get(name blockName) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if content := s.young[name]; content != nil {
		return content
	}
	content := s.old[name]
	if content != nil {
		s.add(name, content)
	}
	return content
}

func (s *cacheShard) put(name blockName, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young[name] == nil { // another reader may have been faster
		s.add(name, content)
	}
}

func (s *cacheShard) add(name blockName, content []byte) {
	size := cap(content) + cachedOverhead
	if size > s.most {
		return
	}
	if s.size+size > s.most {
		clear(s.old)
		s.young, s.old = s.old, s.young
		s.size = 0
	}
	s.young[name] = content
	s.size += size
}
