package powerloss

import (
	"maps"
	"slices"
)

// event is something that happened to a disk.
type event struct {
	kind   kind
	inode  int
	name   string // of the file, when it was opened
	offset int64  // of a write; the size of a truncation
	data   []byte // of a write
}

type kind int

const (
	wrote kind = iota
	truncated
	created
	deleted
	synced       // a file: all that was done to it
	syncFailed   // nobody knows what became of that
	folderSynced // all names
	damaged      // a file was replaced, on the disk too
)

// history is what happened to a disk, from a start on.
type history struct {
	start  image
	before int // how many events the start includes
	events []event
}

// record adds an event. What happens to temporary files is of no interest: nobody finds them after a loss of power.
func (h *history) record(e event) {
	if e.inode == 0 && e.kind != folderSynced {
		return
	}
	h.events = append(h.events, e)
}

// moment is the number of events there were.
func (h *history) moment() int { return h.before + len(h.events) }

// at returns how the disk is after so many events.
func (h *history) at(moment int) image {
	im := h.start.share()
	for i, e := range h.events[:moment-h.before] {
		im.apply(e, h.before+i+1)
	}
	return im
}

// forget makes the present the start.
func (h *history) forget() {
	for i, e := range h.events {
		h.start.apply(e, h.before+i+1)
	}
	h.before, h.events = h.moment(), nil
	h.start.prune()
}

// image is a disk with all that is on its way there.
type image struct {
	folder FolderMode
	inodes map[int]*stored
	names  map[string]int
	moves  []change // files created and deleted since the folder was synced
}

// stored is a file on the disk: what is there for sure, and what was done to it since.
type stored struct {
	safe    content
	changes []change
}

// change is an event that is on its way to the disk.
type change struct {
	event

	moment int
	state  changeState
}

type changeState int

const (
	pending changeState = iota // a sync makes it safe
	doomed                     // its sync has failed, and no later one helps
	safe                       // it is on the disk, and stands here because one before it may not be
)

func newImage(folder FolderMode) image {
	return image{folder: folder, inodes: map[int]*stored{}, names: map[string]int{}}
}

// put adds a file that is safe.
func (im *image) put(name string, inode int, c content) {
	im.names[name] = inode
	im.inodes[inode] = &stored{safe: c}
}

// share returns a copy whose files share their bytes with this one.
func (im *image) share() image {
	twin := newImage(im.folder)
	for id, s := range im.inodes {
		twin.inodes[id] = &stored{safe: s.safe.share(), changes: slices.Clone(s.changes)}
	}
	twin.names = maps.Clone(im.names)
	twin.moves = slices.Clone(im.moves)
	return twin
}

// apply adds an event, which is the moment-th of the disk.
func (im *image) apply(e event, moment int) {
	switch e.kind {
	case created, deleted:
		if e.kind == created {
			im.inodes[e.inode] = &stored{}
		}
		im.moves = append(im.moves, change{event: e, moment: moment})
		if im.folder == FolderAtOnce {
			im.syncFolder()
		}
	case folderSynced:
		im.syncFolder()
	case damaged:
		im.moves = slices.DeleteFunc(im.moves, func(c change) bool { return c.name == e.name })
		im.put(e.name, e.inode, content{bytes: e.data, shared: true})
	default:
		if s := im.inodes[e.inode]; s != nil { // else it was pruned: nobody can find it anymore
			s.take(e, moment)
		}
	}
}

// take adds an event of a file.
func (s *stored) take(e event, moment int) {
	switch e.kind {
	case synced:
		s.mark(safe)
	case syncFailed:
		s.mark(doomed)
	default:
		s.changes = append(s.changes, change{event: e, moment: moment})
	}
}

// syncFolder makes the names safe.
func (im *image) syncFolder() {
	for _, c := range im.moves {
		im.move(c)
	}
	im.moves = nil
}

// move creates a file, or deletes it.
func (im *image) move(c change) {
	if c.kind == created {
		im.names[c.name] = c.inode
		return
	}
	delete(im.names, c.name)
}

// prune forgets the files that nobody can find after a loss of power.
func (im *image) prune() {
	found := map[int]bool{}
	for _, id := range im.names {
		found[id] = true
	}
	for _, c := range im.moves {
		found[c.inode] = true
	}
	for id := range im.inodes {
		if !found[id] {
			delete(im.inodes, id)
		}
	}
}

// mark gives the pending changes another state.
func (s *stored) mark(state changeState) {
	for i := range s.changes {
		if s.changes[i].state == pending {
			s.changes[i].state = state
		}
	}
	n := 0
	for n < len(s.changes) && s.changes[n].state == safe {
		s.safe.apply(s.changes[n].event)
		n++
	}
	s.changes = slices.Clone(s.changes[n:])
}

// apply does an event to a file, whole.
func (c *content) apply(e event) {
	if e.kind == truncated {
		c.resize(e.offset)
		return
	}
	c.write(e.data, e.offset)
}
