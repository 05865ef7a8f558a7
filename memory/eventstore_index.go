package memory

import (
	"slices"
	"strings"
)

// slab keeps values in pages, so that it grows without moving them, and refers to them by number.
type slab[T any] struct {
	pages [][]T
	n     uint32
	free  []uint32
}

const slabPage = 64

func (s *slab[T]) at(ref uint32) *T { return &s.pages[ref/slabPage][ref%slabPage] }

// add returns a zero value, and its number.
func (s *slab[T]) add() (uint32, *T) {
	if n := len(s.free); n > 0 {
		ref := s.free[n-1]
		s.free = s.free[:n-1]
		return ref, s.at(ref)
	}
	ref := s.n
	if ref%slabPage == 0 {
		s.pages = append(s.pages, make([]T, slabPage))
	}
	s.n++
	return ref, s.at(ref)
}

// remove makes a value zero, and its number free to be given again.
func (s *slab[T]) remove(ref uint32) {
	var zero T
	*s.at(ref) = zero
	s.free = append(s.free, ref)
}

// termTable numbers the categories, the names or the tags, and knows where each stands.
type termTable struct {
	refs  map[string]uint32
	terms slab[term]
}

// term is a category, a name or a tag.
type term struct {
	text     string
	postings postings
}

func newTermTable() termTable { return termTable{refs: map[string]uint32{}} }

// intern returns the number of a term, which it gets when it is new.
func (t *termTable) intern(text string) uint32 {
	if ref, ok := t.refs[text]; ok {
		return ref
	}
	ref, added := t.terms.add()
	added.text = strings.Clone(text)
	t.refs[added.text] = ref
	return ref
}

// postings returns where a term stands, or nil.
func (t *termTable) postings(text string) *postings {
	if ref, ok := t.refs[text]; ok {
		return &t.terms.at(ref).postings
	}
	return nil
}

// remove takes rising positions from a term, and forgets the term when none are left.
func (t *termTable) remove(ref uint32, positions []uint32) {
	kept := t.terms.at(ref)
	kept.postings.remove(positions)
	if kept.postings.n == 0 {
		delete(t.refs, kept.text)
		t.terms.remove(ref)
	}
}

// contentTypes numbers content types from 1. There are few in use; should there be many, the rest get 0 and stand in their
// records.
type contentTypes struct{ texts []string }

func (c *contentTypes) intern(text string) uint64 {
	const most = 16
	i := slices.Index(c.texts, text)
	if i < 0 {
		if len(c.texts) == most || len(text) > 255 {
			return 0
		}
		i = len(c.texts)
		c.texts = append(c.texts, strings.Clone(text))
	}
	return uint64(i) + 1
}

// postings are positions that rise. They stand in pages, so that a long list grows without being copied, and a short one is
// short.
type postings struct {
	full [][]uint32
	tail []uint32
	n    int
}

const postingsPage = 512

// add adds a position beyond the last.
func (p *postings) add(position uint32) {
	if len(p.tail) == postingsPage {
		p.full = append(p.full, p.tail)
		p.tail = make([]uint32, 0, postingsPage)
	}
	p.tail = append(p.tail, position)
	p.n++
}

// last returns the largest position, or 0. There may be no list at all.
func (p *postings) last() uint32 {
	switch {
	case p == nil || p.n == 0:
		return 0
	case len(p.tail) > 0:
		return p.tail[len(p.tail)-1]
	}
	page := p.full[len(p.full)-1]
	return page[len(page)-1]
}

// pages returns how many pages there are, and page returns one of them.
func (p *postings) pages() int {
	if len(p.tail) == 0 {
		return len(p.full)
	}
	return len(p.full) + 1
}

func (p *postings) page(i int) []uint32 {
	if i == len(p.full) {
		return p.tail
	}
	return p.full[i]
}

// at returns the i-th position, of a list that nothing was taken from but at its front: all pages but the first and the last
// are as long as pages get.
func (p *postings) at(i int) uint32 {
	first := p.page(0)
	if i < len(first) {
		return first[i]
	}
	i -= len(first)
	return p.page(1 + i/postingsPage)[i%postingsPage]
}

// dropFront takes the first n positions away.
func (p *postings) dropFront(n int) {
	p.n -= n
	for len(p.full) > 0 && n >= len(p.full[0]) {
		n -= len(p.full[0])
		p.full = p.full[1:]
	}
	if n == 0 {
		return
	}
	if len(p.full) > 0 {
		p.full[0] = p.full[0][n:]
		return
	}
	p.tail = slices.Clone(p.tail[n:])
}

// remove takes rising positions away, those of them that are there.
func (p *postings) remove(positions []uint32) {
	emptied := false
	for i := p.pageOf(positions[0]); i < p.pages() && len(positions) > 0; i++ {
		page := p.page(i)
		past, exact := slices.BinarySearch(positions, page[len(page)-1])
		if exact {
			past++
		}
		if past == 0 {
			continue
		}
		kept := without(page, positions[:past])
		positions = positions[past:]
		p.n -= len(page) - len(kept)
		if i == len(p.full) {
			p.tail = kept
			break
		}
		p.full[i] = kept
		emptied = emptied || len(kept) == 0
	}
	if emptied {
		p.full = slices.DeleteFunc(p.full, func(page []uint32) bool { return len(page) == 0 })
	}
}

// without takes rising positions out of a page, and gives it less room when it has become much shorter.
func without(page, positions []uint32) []uint32 {
	kept := page[:0]
	for _, position := range page {
		for len(positions) > 0 && positions[0] < position {
			positions = positions[1:]
		}
		if len(positions) == 0 || positions[0] != position {
			kept = append(kept, position)
		}
	}
	if len(kept) < cap(kept)/2 {
		return slices.Clone(kept)
	}
	return kept
}

// pageOf returns the first page that ends at a position or beyond it.
func (p *postings) pageOf(position uint32) int {
	i, _ := slices.BinarySearchFunc(p.full, position, func(page []uint32, position uint32) int {
		if page[len(page)-1] < position {
			return -1
		}
		return 1
	})
	return i
}
