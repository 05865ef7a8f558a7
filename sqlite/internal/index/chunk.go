package index

import (
	"slices"
	"sync"
)

// chunk has up to ChunkEvents events of a tail, which have ordinals in it, from 0. What it has is added at the end and taken away
// from the end, never changed: so what a reader has taken hold of under the lock, as far as it is committed, it reads without.
type chunk struct {
	base int64 // all positions are beyond it
	seed seed  // of the tables

	mu                  sync.RWMutex
	ids                 []Key
	positions, versions []int64
	byID                table // ordinals
	groups              groupPages
	byKey               table    // numbers of groups
	room                []uint16 // for ordinals of groups
}

// group is a stream or a term, and the events it has.
type group struct {
	key      Key
	section  section
	ordinals []uint16
}

// groupPages numbers groups in the order in which they came.
type groupPages struct {
	pages [][]group
	n     int
}

const groupPage = 512

func (p *groupPages) at(number int) *group { return &p.pages[number/groupPage][number%groupPage] }

func (p *groupPages) add(g group) {
	if p.n == len(p.pages)*groupPage {
		p.pages = append(p.pages, make([]group, groupPage))
	}
	*p.at(p.n) = g
	p.n++
}

// newChunk returns a chunk with room for as many events and groups as its forerunner had, if there was one.
func newChunk(base int64, seed seed, before *chunk) *chunk {
	c := &chunk{base: base, seed: seed, byID: newTable(0), byKey: newTable(0)}
	if before != nil {
		n := len(before.ids)
		c.ids, c.positions, c.versions = make([]Key, 0, n), make([]int64, 0, n), make([]int64, 0, n)
		c.byID, c.byKey = newTable(n), newTable(before.groups.n)
	}
	return c
}

func (c *chunk) hash(k *Key) uint32 { return uint32(mix(k, c.seed) >> 32) }

func (c *chunk) add(k *Keys) {
	c.mu.Lock()
	ordinal := uint16(len(c.ids)) //nolint:gosec // below ChunkEvents
	c.ids = append(c.ids, k.ID)
	c.positions = append(c.positions, k.Position)
	c.versions = append(c.versions, k.Version)
	c.byID.add(c.hash(&k.ID), uint32(ordinal))
	c.addTo(sectionStreams, &k.Stream, ordinal)
	c.addTo(sectionTerms, &k.Category, ordinal)
	c.addTo(sectionTerms, &k.Name, ordinal)
	for i := range k.Tags {
		c.addTo(sectionTerms, &k.Tags[i], ordinal)
	}
	c.mu.Unlock()
}

func (c *chunk) addTo(s section, k *Key, ordinal uint16) {
	hash := c.hash(k)
	g := c.group(k, hash)
	if g == nil {
		number := c.groups.n
		c.groups.add(group{key: *k, section: s})
		c.byKey.add(hash, uint32(number)) //nolint:gosec // a chunk has far fewer
		g = c.groups.at(number)
	}
	n := len(g.ordinals)
	if n > 0 && g.ordinals[n-1] == ordinal { // a tag that is there twice
		return
	}
	if n == cap(g.ordinals) {
		grown := c.takeRoom(max(2, 2*n))
		g.ordinals = grown[:copy(grown, g.ordinals)]
	}
	g.ordinals = append(g.ordinals, ordinal)
}

// takeRoom returns room for n ordinals. Lists that outgrow theirs leave it unused, which at most doubles what is needed.
func (c *chunk) takeRoom(n int) []uint16 {
	const least = 4096
	if len(c.room) < n {
		c.room = make([]uint16, max(least, n))
	}
	taken := c.room[:n:n]
	c.room = c.room[n:]
	return taken
}

// group returns the group with a key, or nil.
func (c *chunk) group(k *Key, hash uint32) *group {
	for i := c.byKey.home(hash); c.byKey.slots[i] != 0; i = c.byKey.next(i) {
		if s := c.byKey.slots[i]; s.hash() == hash {
			if g := c.groups.at(int(s.number())); g.key == *k {
				return g
			}
		}
	}
	return nil
}

// undo forgets the events beyond a position.
func (c *chunk) undo(to int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := after(c.positions, to)
	for ordinal := len(c.ids) - 1; ordinal >= kept; ordinal-- {
		c.byID.remove(c.hash(&c.ids[ordinal]), uint32(ordinal)) //nolint:gosec // below ChunkEvents
	}
	c.ids, c.positions, c.versions = c.ids[:kept], c.positions[:kept], c.versions[:kept]
	for number := c.groups.n - 1; number >= 0; number-- {
		g := c.groups.at(number)
		g.ordinals = g.ordinals[:firstAt(g.ordinals, kept)]
		if len(g.ordinals) > 0 {
			continue
		}
		// The groups that only the forgotten events had are the newest: what is before them stays where it is.
		c.byKey.remove(c.hash(&g.key), uint32(number)) //nolint:gosec // a number that was given
		*g = group{}
		c.groups.n = number
	}
}

// find returns the position in (from, to] of the event with an ID, the newest if there were several, or 0.
func (c *chunk) find(id *Key, from, to int64) int64 {
	hash := c.hash(id)
	c.mu.RLock()
	defer c.mu.RUnlock()
	found := int64(0)
	for i := c.byID.home(hash); c.byID.slots[i] != 0; i = c.byID.next(i) {
		s := c.byID.slots[i]
		if s.hash() != hash || c.ids[s.number()] != *id {
			continue
		}
		if p := c.positions[s.number()]; p > from && p <= to {
			found = max(found, p)
		}
	}
	return found
}

// list returns the events in (from, to] that a stream or a term has.
func (c *chunk) list(k *Key, from, to int64) list {
	hash := c.hash(k)
	c.mu.RLock()
	defer c.mu.RUnlock()
	g := c.group(k, hash)
	if g == nil {
		return list{}
	}
	l := list{g.ordinals, c.positions, c.versions}
	// Nearly always all of them are wanted.
	if n := l.len(); l.position(0) <= from || l.position(n-1) > to {
		l.ordinals = l.ordinals[l.upTo(byPosition, from):l.upTo(byPosition, to)]
	}
	return l
}

// len returns how many events there are, and last the position of the newest, or the base.
func (c *chunk) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.ids)
}

func (c *chunk) last() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if n := len(c.positions); n > 0 {
		return c.positions[n-1]
	}
	return c.base
}

// count returns how many events there are beyond a position.
func (c *chunk) count(from int64) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.positions) - after(c.positions, from)
}

// after returns the index of the first position beyond p, in positions that rise.
func after(positions []int64, p int64) int {
	i, _ := slices.BinarySearch(positions, p+1)
	return i
}

// firstAt returns the index of the first ordinal at or beyond the given one.
func firstAt(ordinals []uint16, ordinal int) int {
	n := len(ordinals)
	if n == 0 || int(ordinals[n-1]) < ordinal {
		return n
	}
	i, _ := slices.BinarySearch(ordinals, uint16(ordinal)) //nolint:gosec // not beyond one that is there
	return i
}

// list is the events of a stream or a term in a chunk, as they were when it was taken.
type list struct {
	ordinals            []uint16
	positions, versions []int64 // of all events, by ordinal
}

func (l *list) len() int             { return len(l.ordinals) }
func (l *list) position(i int) int64 { return l.positions[l.ordinals[i]] }
func (l *list) version(i int) int64  { return l.versions[l.ordinals[i]] }

// at returns an event's position or version.
func (l *list) at(a axis, i int) int64 {
	if a == byVersion {
		return l.version(i)
	}
	return l.position(i)
}

// upTo returns how many events are not beyond a value.
func (l *list) upTo(a axis, value int64) int {
	return search(len(l.ordinals), func(i int) bool { return l.at(a, i) > value })
}

// search is [sort.Search]: the first of n for which is holds, which it does for all behind it.
func search(n int, is func(i int) bool) int {
	low, high := 0, n
	for low < high {
		middle := int(uint(low+high) >> 1)
		if is(middle) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}
