package index

import (
	"encoding/binary"
)

// limits are how much goes into a block, without the checksum, and into each directory of a root. Tests have less.
type limits struct{ content, rootDirectory int }

func usualLimits() limits { return limits{contentBytes, rootDirectoryBytes} }

// runWriter makes the blocks of a run, and its root. Entries come by section, key and position, all rising.
type runWriter struct {
	run               Run
	limits            limits
	out               *output
	leaves            treeWriter
	filters           filterWriter
	ids               idWriter
	postings          postingsWriter
	newest            entryKey // of the entries that came
	smallest, largest Key      // of the IDs
}

func newRunWriter(run Run, l limits, emit func(number int, block []byte) error) *runWriter {
	out := &output{run: run.ID, most: l.content, emit: emit}
	w := &runWriter{run: run, limits: l, out: out}
	w.leaves.out, w.filters.tree.out = out, out
	w.ids.tree, w.postings.tree, w.postings.base = &w.leaves, &w.leaves, run.Base
	return w
}

// addID adds an ID. All of them come before other entries.
func (w *runWriter) addID(k *Key, position int64) error {
	if w.run.Events == 0 {
		w.smallest = *k
	}
	w.largest = *k
	w.run.Events++
	if err := w.enter(sectionIDs, k); err != nil {
		return err
	}
	return w.ids.add(k, position)
}

// addFrame adds events of a stream or a term. Only in streams the version matters.
func (w *runWriter) addFrame(s section, k *Key, f *frame) error {
	if err := w.enter(s, k); err != nil {
		return err
	}
	version := f.version
	for _, position := range f.positions[:f.n] {
		if err := w.postings.add(s, k, position, version); err != nil {
			return err
		}
		version++
	}
	return nil
}

// addPosting adds an event of a stream or a term.
func (w *runWriter) addPosting(s section, k *Key, position, version int64) error {
	if err := w.enter(s, k); err != nil {
		return err
	}
	return w.postings.add(s, k, position, version)
}

// enter takes note of a key, and of a section, when it is new.
func (w *runWriter) enter(s section, k *Key) error {
	before := w.newest.section()
	if before == s && Key(w.newest[1:]) == *k {
		return nil
	}
	if before == sectionIDs && s != before {
		if err := w.ids.flush(); err != nil {
			return err
		}
	}
	w.newest = newEntryKey(s, k)
	return w.filters.add(&w.newest)
}

// finish writes what is left, and returns the run, which is open.
func (w *runWriter) finish() (Run, error) {
	if err := w.ids.flush(); err != nil { // there may have been nothing else
		return Run{}, err
	}
	if err := w.postings.flush(); err != nil {
		return Run{}, err
	}
	leaves, err := w.leaves.finish(w.limits.rootDirectory)
	if err != nil {
		return Run{}, err
	}
	filters, err := w.filters.finish(w.limits.rootDirectory)
	if err != nil {
		return Run{}, err
	}
	w.run.Blocks = w.out.next
	b := append(make([]byte, 0, RootBytes), rootFormat)
	b = append(append(b, w.smallest[:]...), w.largest[:]...)
	for _, d := range [][]byte{leaves, filters} {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(d))) //nolint:gosec // at most rootDirectoryBytes
		b = append(b, d...)
	}
	w.run.Root = binary.LittleEndian.AppendUint32(b, w.run.checksum(b))
	return w.run, w.run.Open()
}
