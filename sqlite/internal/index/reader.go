package index

import (
	"math"
)

// reader looks things up in a run.
type reader struct {
	run    *Run
	blocks Blocks
}

// corrupt makes what parsing a block returns an error that says where.
func (r reader) corrupt(number int, err error) error {
	if d, ok := err.(damage); ok { //nolint:errorlint // nobody wraps it
		return &CorruptError{r.run.ID, number, string(d)}
	}
	return err
}

// content reads a block.
func (r reader) content(number int) ([]byte, error) {
	if number < 0 || number >= r.run.Blocks {
		return nil, &CorruptError{r.run.ID, -1, "a directory leads to a block that is not there"}
	}
	return readBlock(r.blocks, r.run.ID, number)
}

// directory reads a directory of a level.
func (r reader) directory(number, level int) (directory, error) {
	b, err := r.content(number)
	if err != nil {
		return directory{}, err
	}
	d, err := parseDirectory(b)
	if err == nil && d.level != level {
		err = damage("it is a directory of the wrong level")
	}
	if err != nil {
		return directory{}, r.corrupt(number, err)
	}
	return d, nil
}

// target is what to look up: an entry with a key, at a value or beyond it.
type target struct {
	key   entryKey
	axis  axis
	value int64
}

func newTarget(s section, k *Key, a axis, value int64) target {
	return target{newEntryKey(s, k), a, value}
}

// noLeaf stands for the number of a leaf that is not there.
const noLeaf = -1

// descend returns the number of the leaf that a target would be in: the one with the last fence that is not beyond it. The fence that
// follows goes to next, if it is wanted and there is one; otherwise next stays as it is.
func (r reader) descend(d *directory, t *target, next *fence) (int, error) {
	var lower directory
	for {
		if d.keys.n == 0 {
			return noLeaf, nil
		}
		i := d.find(&t.key, t.axis, t.value)
		if next != nil && i+1 < d.keys.n {
			*next = d.fence(i + 1)
		}
		if i < 0 {
			return noLeaf, nil
		}
		if d.level == 1 {
			return d.block(i), nil
		}
		var err error
		if lower, err = r.directory(d.block(i), d.level-1); err != nil {
			return noLeaf, err
		}
		d = &lower
	}
}

// mayHave tells whether a key may be in the run. False is certain.
func (r reader) mayHave(t *target) (bool, error) {
	leaf, err := r.descend(&r.run.root.filters, t, nil)
	if leaf == noLeaf || err != nil {
		return false, err
	}
	b, err := r.content(leaf)
	if err != nil {
		return false, err
	}
	is, err := inFilter(b, (*Key)(t.key[1:]))
	return is, r.corrupt(leaf, err)
}

// id returns the position of the event with an ID, or 0.
func (r reader) id(k *Key) (int64, error) {
	root := r.run.root
	if compareKeys(k, &root.smallest) < 0 || compareKeys(k, &root.largest) > 0 {
		return 0, nil
	}
	t := newTarget(sectionIDs, k, byPosition, math.MaxInt64)
	if may, err := r.mayHave(&t); !may || err != nil {
		return 0, err
	}
	leaf, err := r.descend(&root.leaves, &t, nil)
	if leaf == noLeaf || err != nil {
		return 0, err
	}
	b, err := r.content(leaf)
	if err != nil {
		return 0, err
	}
	position, err := r.idInLeaf(b, k)
	return position, r.corrupt(leaf, err)
}

func (r reader) idInLeaf(b []byte, k *Key) (int64, error) {
	l, err := parseIDLeaf(b)
	if err != nil {
		return 0, err
	}
	i := l.keys.upTo(k[:]) - 1
	if i < 0 || !l.keys.is(i, k[:]) {
		return 0, nil
	}
	position := l.position(i)
	if position <= r.run.Base || position > r.run.Last {
		return 0, errPosition
	}
	return position, nil
}

// seek reads the frame with the first event of a stream or term at a value or beyond it, in a direction, and returns its index
// there. It is not found when there is none in the run.
func (r reader) seek(t *target, d Direction, f *frame) (int, bool, error) {
	next := fence{block: noLeaf}
	leaf, err := r.descend(&r.run.root.leaves, t, &next)
	if err != nil {
		return 0, false, err
	}
	if leaf != noLeaf {
		b, err := r.content(leaf)
		if err != nil {
			return 0, false, err
		}
		i, ok, err := r.seekInLeaf(b, t, d, f)
		if err != nil {
			return 0, false, r.corrupt(leaf, err)
		}
		if ok && !d.reached(f.at(t.axis, i), t.value) {
			return 0, false, &CorruptError{r.run.ID, leaf, "a position is not in its place"}
		}
		if ok {
			return i, true, nil
		}
	}
	if d == Backward || next.block == noLeaf || next.key != t.key {
		return 0, false, nil
	}
	// The next leaf goes on with the key, and its fence says with what.
	if next.position <= r.run.Base || next.position > r.run.Last || next.at(t.axis) <= t.value {
		return 0, false, &CorruptError{r.run.ID, next.block, "its fence is not that of the block"}
	}
	f.n, f.version, f.positions[0] = 1, next.version, next.position
	return 0, true, nil
}

func (r reader) seekInLeaf(b []byte, t *target, d Direction, f *frame) (int, bool, error) {
	l, err := parsePostingsLeaf(b)
	if err != nil {
		if b[0] == typeIDs { // the last of them, when what is looked for would be before all streams
			return 0, false, nil
		}
		return 0, false, err
	}
	if l.section != t.key.section() {
		return 0, false, nil
	}
	k := (*Key)(t.key[1:])
	p, i, ok, err := l.find(k, t.axis, t.value, r.run.Base)
	if err != nil {
		return 0, false, err
	}
	if ok {
		i, ok, err := r.seekInPart(&p, t, d, f)
		if ok || err != nil {
			return i, ok, err
		}
	}
	if i++; d == Backward || i == l.keys.n || !l.keys.is(i, k[:]) {
		return 0, false, nil
	}
	if p, err = l.part(i, r.run.Base); err != nil {
		return 0, false, err
	}
	return 0, true, f.read(&p, 0, r.run.Base, r.run.Last)
}

// seekInPart reads the frame of a part that begins at the target or before it. What is looked for may be beyond it.
func (r reader) seekInPart(p *part, t *target, d Direction, f *frame) (int, bool, error) {
	var n int
	if t.axis == byVersion {
		n = int(min(t.value-p.version, int64(p.count)-1)) / frameEvents
	} else {
		n = p.frame(t.value)
	}
	if err := f.read(p, n, r.run.Base, r.run.Last); err != nil {
		return 0, false, err
	}
	if t.value > f.end(t.axis) {
		if d == Backward {
			return f.n - 1, true, nil
		}
		if n++; n == p.frames() {
			return 0, false, nil
		}
		return 0, true, f.read(p, n, r.run.Base, r.run.Last)
	}
	i, ok := f.seek(t.axis, t.value, 0, d)
	return i, ok, nil
}
