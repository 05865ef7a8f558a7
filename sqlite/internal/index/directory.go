package index

// section is one of the parts in which the entries of a run stand, in this order.
type section byte

const (
	sectionIDs section = iota + 1
	sectionStreams
	sectionTerms // categories, names and tags
)

// entryKey is what entries are sorted by first: their section and key.
type entryKey [1 + len(Key{})]byte

func newEntryKey(s section, k *Key) entryKey {
	var e entryKey
	e[0] = byte(s)
	copy(e[1:], k[:])
	return e
}

func (e *entryKey) section() section { return section(e[0]) }

// significant returns how long the key is without the zeros at its end.
func (e *entryKey) significant() int {
	n := len(e)
	for n > 0 && e[n-1] == 0 {
		n--
	}
	return n
}

// axis is what entries with the same key are looked up by. They rise by both.
type axis int8

const (
	byPosition axis = iota
	byVersion
)

// fence is where a block begins. When it goes on with the key with which the block before it ends, it is the key, position and version
// of the first entry; otherwise it is no more of a key than it takes to tell that of the first entry from the one before.
type fence struct {
	key               entryKey
	position, version int64
	block             int
}

func (f *fence) at(a axis) int64 {
	if a == byVersion {
		return f.version
	}
	return f.position
}

// directory has the fences of blocks that follow each other: of leaves on level 1, of directories of the level below on the others.
type directory struct {
	level  int
	keys   keyColumn
	values [2]column // by axis
	blocks column
}

// maxLevel is more than any directory has: with 100 fences each, one of level 8 would have 100^8 leaves.
const maxLevel = 8

// directoryHeader is the type and the level.
const directoryHeader = 1 + 1

func parseDirectory(b []byte) (directory, error) {
	var d directory
	if len(b) < directoryHeader || b[0] != typeDirectory {
		return d, damage("it is no directory")
	}
	d.level = int(b[1])
	if d.level < 1 || d.level > maxLevel {
		return d, damage("it is a directory of an impossible level")
	}
	var err error
	if d.keys, b, err = parseKeyColumn(b[directoryHeader:], len(entryKey{})); err != nil {
		return d, err
	}
	for i := range d.values {
		if d.values[i], b, err = parseColumn(b, d.keys.n); err != nil {
			return d, err
		}
	}
	if d.blocks, b, err = parseColumn(b, d.keys.n); err != nil {
		return d, err
	}
	if len(b) > 0 {
		return d, damage("the directory has too many bytes")
	}
	return d, nil
}

// fence returns a fence.
func (d *directory) fence(i int) fence {
	f := fence{
		position: int64(d.values[byPosition].at(i)), //nolint:gosec // as it was; who uses it checks it
		version:  int64(d.values[byVersion].at(i)),  //nolint:gosec // as it was; who uses it checks it
		block:    d.block(i),
	}
	d.keys.get(i, f.key[:])
	return f
}

// block returns the number of the block behind a fence, which may be any number when the directory is damaged.
func (d *directory) block(i int) int {
	return int(d.blocks.at(i)) //nolint:gosec // as it was; who uses it checks it
}

// find returns the last fence that is not beyond a key and value, and -1 when there is none.
func (d *directory) find(key *entryKey, a axis, value int64) int {
	i := d.keys.upTo(key[:]) - 1
	if i < 0 || !d.keys.is(i, key[:]) || d.value(a, i) <= value {
		return i
	}
	// Several blocks go on with the same key.
	low := d.keys.below(key[:])
	return low - 1 + search(i-low, func(j int) bool { return d.value(a, low+j) > value })
}

func (d *directory) value(a axis, i int) int64 {
	return int64(d.values[a].at(i)) //nolint:gosec // as it was; who uses it checks it
}

// directoryWriter makes a directory.
type directoryWriter struct {
	fences    []fence
	longest   int       // of the keys, without the zeros at their end
	low, high [3]uint64 // of the positions, the versions and the blocks
}

func columnsOf(f *fence) [3]uint64 {
	return [3]uint64{uint64(f.position), uint64(f.version), uint64(f.block)} //nolint:gosec // none is negative
}

// with is what the directory is with one more fence: as far as its size depends on it.
func (w *directoryWriter) with(f *fence) directoryWriter {
	with := directoryWriter{longest: max(w.longest, f.key.significant())}
	for i, u := range columnsOf(f) {
		with.low[i], with.high[i] = u, u
		if len(w.fences) > 0 {
			with.low[i], with.high[i] = min(w.low[i], u), max(w.high[i], u)
		}
	}
	return with
}

// size is that of the directory with fences from first to last.
func (w *directoryWriter) size(n int, first, last *fence) int {
	size := directoryHeader + keyColumnBytes(n, first.key[:], last.key[:], w.longest)
	for i := range w.low {
		size += columnBytes(n, w.low[i], w.high[i])
	}
	return size
}

// fits tells whether the directory, with one more fence, has at most so many bytes.
func (w *directoryWriter) fits(f *fence, most int) bool {
	n := len(w.fences)
	if n == 0 {
		return true
	}
	with := w.with(f)
	return with.size(n+1, &w.fences[0], f) <= most
}

func (w *directoryWriter) add(f *fence) {
	with := w.with(f)
	w.longest, w.low, w.high = with.longest, with.low, with.high
	w.fences = append(w.fences, *f)
}

// take returns the directory, which has a fence or more, and begins another. There is room for a checksum behind it.
func (w *directoryWriter) take(level int) []byte {
	n := len(w.fences)
	b := make([]byte, 0, w.size(n, &w.fences[0], &w.fences[n-1])+checksumBytes)
	b = append(b, typeDirectory, byte(level)) //nolint:gosec // at most maxLevel
	b = appendKeyColumn(b, n, w.longest, func(i int) []byte { return w.fences[i].key[:] })
	for c := range w.low {
		b = appendColumn(b, n, w.low[c], w.high[c], func(i int) uint64 { return columnsOf(&w.fences[i])[c] })
	}
	w.fences, w.longest = w.fences[:0], 0
	return b
}

// treeWriter makes the directories over leaves as they are written, those of the upper levels as the lower ones are full.
type treeWriter struct {
	out    *output
	levels []directoryWriter
	last   entryKey // of the leaf before
}

// addLeaf adds a leaf, which begins with an entry and ends with a key.
func (t *treeWriter) addLeaf(first fence, last *entryKey) error {
	if n := sharedPrefix(first.key[:], t.last[:]); n < len(first.key) {
		clear(first.key[n+1:])
		first.position, first.version = 0, 0
	}
	t.last = *last
	return t.add(1, &first)
}

// add adds the fence of a block to a level, which the block is below. Leaves are below level 1.
func (t *treeWriter) add(level int, f *fence) error {
	if len(t.levels) < level {
		t.levels = append(t.levels, directoryWriter{})
	}
	w := &t.levels[level-1]
	if !w.fits(f, t.out.most) {
		if err := t.flush(level); err != nil {
			return err
		}
		w = &t.levels[level-1] // they may have moved
	}
	w.add(f)
	return nil
}

// flush writes the directory of a level, and begins another.
func (t *treeWriter) flush(level int) error {
	w := &t.levels[level-1]
	first := w.fences[0]
	number, err := t.out.write(w.take(level))
	if err != nil {
		return err
	}
	first.block = number
	return t.add(level+1, &first)
}

// finish writes what is left, and returns the directory over all of it, of at most so many bytes. It is empty when there are no
// leaves.
func (t *treeWriter) finish(most int) ([]byte, error) {
	for level := 1; level <= len(t.levels); level++ {
		w := &t.levels[level-1]
		n := len(w.fences)
		if level == len(t.levels) && w.size(n, &w.fences[0], &w.fences[n-1]) <= most {
			return w.take(level), nil
		}
		if err := t.flush(level); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
