package index

// EntryKind is what an [Entry] is found by.
type EntryKind uint8

// The kinds of entries, in their order in a run.
const (
	EntryID EntryKind = iota + 1
	EntryStream
	EntryTerm // a category, name or tag
)

// Entry says that the event at a position is found by a key. Only entries of streams have a version.
type Entry struct {
	Kind              EntryKind
	Key               Key
	Position, Version int64
}

// Entries returns what a run has of an event, appended to some. A term that an event has twice is there once.
func (k *Keys) Entries(to []Entry) []Entry {
	to = append(to, Entry{Kind: EntryID, Key: k.ID, Position: k.Position},
		Entry{Kind: EntryStream, Key: k.Stream, Position: k.Position, Version: k.Version})
	terms := len(to)
	to = append(to, Entry{Kind: EntryTerm, Key: k.Category, Position: k.Position},
		Entry{Kind: EntryTerm, Key: k.Name, Position: k.Position})
next:
	for _, tag := range k.Tags {
		for _, e := range to[terms:] {
			if e.Key == tag {
				continue next
			}
		}
		to = append(to, Entry{Kind: EntryTerm, Key: tag, Position: k.Position})
	}
	return to
}

// Walk goes through all entries of a run in their order, and looks each key up as well, so that it is certain that what is there is
// found. It reads most blocks several times in a row: give it a [Cache]. An error of visit ends it; another one is that of the blocks, or
// a [*CorruptError].
func Walk(run Run, blocks Blocks, visit func(Entry) error) error {
	s, err := newScanner(run, blocks)
	if err != nil {
		return err
	}
	w := walker{scanner: s, visit: visit}
	for !s.done {
		if err := w.entry(); err != nil {
			return err
		}
		if err := s.next(); err != nil {
			return err
		}
	}
	return nil
}

// walker looks up what a scanner comes across.
type walker struct {
	*scanner

	visit func(Entry) error
	last  entryKey // that was looked up
}

func (w *walker) entry() error {
	e := Entry{Kind: EntryKind(w.section), Key: Key(w.key[1:])}
	if w.section == sectionIDs {
		w.events++
		e.Position = w.ids.position(w.i)
		if err := w.findID(&e); err != nil {
			return err
		}
		return w.visit(e)
	}
	p, err := w.postings.part(w.i, w.run.Base)
	if err != nil {
		return w.corrupt(w.number, err)
	}
	for i := range p.frames() {
		if err := w.frame.read(&p, i, w.run.Base, w.run.Last); err != nil {
			return w.corrupt(w.number, err)
		}
		if w.frame.positions[0] <= w.newest {
			return w.corrupt(w.number, damage("a position is not in its place"))
		}
		w.newest = w.frame.positions[w.frame.n-1]
		if err := w.findFrame(e.Key); err != nil {
			return err
		}
		for j, position := range w.frame.positions[:w.frame.n] {
			e.Position = position
			if w.section == sectionStreams {
				e.Version = w.frame.version + int64(j)
			}
			if err := w.visit(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// findID looks up an ID.
func (w *walker) findID(e *Entry) error {
	if e.Position <= w.run.Base || e.Position > w.run.Last {
		return w.corrupt(w.number, errPosition)
	}
	position, err := w.id(&e.Key)
	if err == nil && position != e.Position {
		err = w.corrupt(w.number, damage("an ID is not found, or found elsewhere"))
	}
	return err
}

// findFrame looks up the key of the frame that was read, when it is new, and the first event of the frame.
func (w *walker) findFrame(k Key) error {
	first := w.frame.positions[0]
	if w.section == sectionStreams {
		t := newTarget(w.section, &k, byVersion, w.frame.version)
		if err := w.findFirst(&t, first); err != nil {
			return err
		}
	}
	t := newTarget(w.section, &k, byPosition, first)
	if t.key != w.last {
		w.last = t.key
		if may, err := w.mayHave(&t); err != nil {
			return err
		} else if !may {
			return w.corrupt(w.number, damage("a key is not found: its filter does not have it"))
		}
	}
	return w.findFirst(&t, first)
}

// findFirst looks up the first event of a frame.
func (w *walker) findFirst(t *target, first int64) error {
	var found frame
	i, ok, err := w.seek(t, Forward, &found)
	if err == nil && (!ok || found.positions[i] != first) {
		err = w.corrupt(w.number, damage("a position is not found under its key"))
	}
	return err
}
