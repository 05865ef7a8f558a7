package index

import (
	"bytes"
	"fmt"
)

// scanner goes through all entries of a run in order.
type scanner struct {
	reader
	path []step // from the root to the leaf

	key    entryKey // of the entry
	done   bool     // there is none
	events int64    // how many IDs there were
	read   int      // how many blocks there were

	// The leaf with the entry.
	number   int
	section  section
	keys     *keyColumn // of one of the next two
	ids      idLeaf
	postings postingsLeaf
	i        int // the entry
	frame    frame
	newest   int64 // position under its key
}

// step is a directory on the way to a leaf, and which of its fences it goes by.
type step struct {
	directory directory
	i         int
}

// newScanner returns a scanner at the first entry.
func newScanner(run Run, blocks Blocks) (*scanner, error) {
	if err := run.Open(); err != nil {
		return nil, err
	}
	s := &scanner{reader: reader{&run, blocks}, keys: &keyColumn{}}
	if d := run.root.leaves; d.keys.n > 0 {
		s.path = append(s.path, step{d, -1})
	}
	return s, s.next()
}

// next goes to the next entry.
func (s *scanner) next() error {
	s.i++
	if s.i >= s.keys.n {
		if err := s.nextLeaf(); err != nil || s.done {
			return err
		}
	}
	var key entryKey
	key[0] = byte(s.section)
	s.keys.get(s.i, key[1:])
	switch c := bytes.Compare(key[:], s.key[:]); {
	case c < 0:
		return s.corrupt(s.number, damage("a key is not in its place"))
	case c > 0:
		s.key, s.newest = key, s.run.Base
	}
	return nil
}

// nextLeaf goes to the first entry of the next leaf.
func (s *scanner) nextLeaf() error {
	for len(s.path) > 0 {
		top := &s.path[len(s.path)-1]
		if top.i++; top.i == top.directory.keys.n {
			s.path = s.path[:len(s.path)-1]
			continue
		}
		number := top.directory.block(top.i)
		if s.read++; s.read > s.run.Blocks { // somebody has made it so that it would take years
			return s.corrupt(-1, damage("directories lead to the same blocks again"))
		}
		if top.directory.level == 1 {
			s.number = number
			return s.openLeaf()
		}
		d, err := s.directory(number, top.directory.level-1)
		if err != nil {
			return err
		}
		s.path = append(s.path, step{d, -1})
	}
	s.done = true
	if s.events != s.run.Events {
		return s.corrupt(-1, damage(fmt.Sprintf("it tells of %d events, and the blocks of %d", s.run.Events, s.events)))
	}
	return nil
}

func (s *scanner) openLeaf() error {
	b, err := s.content(s.number)
	if err != nil {
		return err
	}
	s.i = 0
	if b[0] == typeIDs {
		s.ids, err = parseIDLeaf(b)
		s.keys, s.section = &s.ids.keys, sectionIDs
	} else {
		s.postings, err = parsePostingsLeaf(b)
		s.keys, s.section = &s.postings.keys, s.postings.section
		if err == nil && s.section != sectionStreams && s.section != sectionTerms {
			err = damage("it is of no section")
		}
	}
	return s.corrupt(s.number, err)
}

// copyTo copies the entry to another run, and those that follow it, as long as it is not the turn of another scanner, if there is one.
func (s *scanner) copyTo(w *runWriter, other *scanner) error {
	for !s.done && s.before(other) {
		if err := s.copyEntry(w); err != nil {
			return err
		}
		if err := s.next(); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) before(other *scanner) bool {
	if other == nil {
		return true
	}
	c := bytes.Compare(s.key[:], other.key[:])
	return c < 0 || c == 0 && s.run.Base < other.run.Base
}

func (s *scanner) copyEntry(w *runWriter) error {
	k := (*Key)(s.key[1:])
	if s.section == sectionIDs {
		s.events++
		position := s.ids.position(s.i)
		if position <= s.run.Base || position > s.run.Last {
			return s.corrupt(s.number, errPosition)
		}
		return w.addID(k, position)
	}
	p, err := s.postings.part(s.i, s.run.Base)
	if err != nil {
		return s.corrupt(s.number, err)
	}
	for i := range p.frames() {
		if err := s.frame.read(&p, i, s.run.Base, s.run.Last); err != nil {
			return s.corrupt(s.number, err)
		}
		if s.frame.positions[0] <= s.newest {
			return s.corrupt(s.number, damage("a position is not in its place"))
		}
		s.newest = s.frame.positions[s.frame.n-1]
		if err := w.addFrame(s.section, k, &s.frame); err != nil {
			return err
		}
	}
	return nil
}
