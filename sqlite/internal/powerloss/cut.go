package powerloss

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// ChangeKind is what was done to a file.
type ChangeKind int

const (
	// Written is a write.
	Written ChangeKind = iota
	// Truncated is that the file was cut, or made larger with zeros.
	Truncated
	// Created is that the name was given to a new file.
	Created
	// Deleted is that the name was taken from the file.
	Deleted
)

// Change is something that was not synced when the power was lost.
type Change struct {
	// Moment is when it was done, as [Disk.Moment] counts.
	Moment int
	// Kind is what was done.
	Kind ChangeKind
	// File is the name of the file.
	File string
	// Offset is where a write begins, and the size of a file that was truncated, in bytes.
	Offset int64
	// Bytes is how many bytes were written.
	Bytes int
	// Sectors is how many sectors they touch.
	Sectors int
}

// Fate is what becomes of a change that was not synced. The zero value is that of [Dropped].
type Fate struct {
	whole   bool
	grown   bool
	sectors []bool
}

// Kept is the fate of a change that is on the disk.
func Kept() Fate { return Fate{whole: true} }

// Dropped is the fate of a change that is lost.
func Dropped() Fate { return Fate{} }

// Grown is the fate of a write that is lost while the size that it gave to the file is not: there are zeros in its place.
func Grown() Fate { return Fate{grown: true} }

// Torn is the fate of a write of which only some sectors are on the disk: of those that it touches, in order, the ones that are
// true here. The others are lost. Changes other than writes cannot be torn, and are lost.
func Torn(sectors ...bool) Fate { return Fate{sectors: sectors} }

// Random returns a source of fates. How much survives differs between sources, from nearly everything to nearly nothing; with the
// same r and the same changes it is the same.
func Random(r *rand.Rand) func(Change) Fate {
	kept := r.Float64()
	return func(c Change) Fate {
		if r.Float64() < kept {
			return Kept()
		}
		switch r.IntN(5) {
		case 0:
			return Grown()
		case 1:
			return tornAfter(r.IntN(c.Sectors+1), c.Sectors)
		case 2:
			sectors := make([]bool, c.Sectors)
			for i := range sectors {
				sectors[i] = r.IntN(2) == 0
			}
			return Torn(sectors...)
		default:
			return Dropped()
		}
	}
}

// tornAfter is the fate of a write whose first sectors are there.
func tornAfter(n, of int) Fate {
	sectors := make([]bool, of)
	for i := range n {
		sectors[i] = true
	}
	return Torn(sectors...)
}

// Moment is how many things have happened to the disk so far: writes, truncations, syncs, files created and deleted. What has
// happened by then is safe if a sync that belongs to it has happened by then.
func (d *Disk) Moment() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.history.moment()
}

// Forget has the disk forget its history, so that a long test does not run out of memory. The power can no longer be cut, nor the
// program killed, at a moment before now.
func (d *Disk) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.history.forget()
}

// Cut returns the disk as it is found when the power is lost now. It is that of [Disk.CutAt].
func (d *Disk) Cut(r *rand.Rand) *Disk {
	d.tb.Helper()
	return d.CutBy(d.Moment(), Random(r))
}

// CutAt returns the disk as it is found when the power was lost right after a moment: a new disk, without faults, on which
// everything is safe. This one stays as it is, with all who use it. It fails the test when the moment is one that has not been yet,
// or that was forgotten.
func (d *Disk) CutAt(moment int, r *rand.Rand) *Disk {
	d.tb.Helper()
	return d.CutBy(moment, Random(r))
}

// CutBy is like [Disk.CutAt], with fates that the test chooses. It is asked once about each change that is not safe, when the file
// is there at all: first about names, and then about each file's changes in their order, file by file.
func (d *Disk) CutBy(moment int, fate func(Change) Fate) *Disk {
	d.tb.Helper()
	im := d.imageAt(moment)
	return newDisk(d.tb, d.config, im.settle(int64(d.config.Sector), fate))
}

// Kill returns the disk as it is found when the program is killed now. It is that of [Disk.KillAt].
func (d *Disk) Kill() *Disk {
	d.tb.Helper()
	return d.KillAt(d.Moment())
}

// KillAt returns the disk as it is found when the program was killed right after a moment while the system lives on: everything
// that was written is there. What was not synced stays as unsafe as it was, and the moments of the new disk go on from this one. The
// rest is as with [Disk.CutAt].
func (d *Disk) KillAt(moment int) *Disk {
	d.tb.Helper()
	im := d.imageAt(moment)
	twin := im.share()
	killed := newDisk(d.tb, d.config, im.settle(int64(d.config.Sector), func(Change) Fate { return Kept() }))
	killed.mu.Lock()
	defer killed.mu.Unlock()
	killed.inherit(twin, moment)
	return killed
}

// inherit makes an image the start of the history of a disk that has the files of the image.
func (d *Disk) inherit(im image, moment int) {
	names := maps.Clone(im.names)
	for _, c := range im.moves {
		if c.kind == created {
			names[c.name] = c.inode
		} else {
			delete(names, c.name)
		}
	}
	for id := range im.inodes {
		d.serial = max(d.serial, id)
	}
	for name, id := range names {
		d.files[name].serial = id
	}
	d.history.start, d.history.before = im, moment
}

// imageAt returns how the disk was after a moment.
func (d *Disk) imageAt(moment int) image {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if first, last := d.history.before, d.history.moment(); moment < first || moment > last {
		d.tb.Fatalf("powerloss: there is no moment %d; the disk remembers those from %d to %d", moment, first, last)
	}
	return d.history.at(moment)
}

// settle has the power lost, and returns what is there afterwards.
func (im *image) settle(sector int64, fate func(Change) Fate) map[string]content {
	for _, c := range im.moves {
		if fate(c.public(sector)).whole {
			im.move(c)
		}
	}
	files := map[string]content{}
	for _, name := range slices.Sorted(maps.Keys(im.names)) {
		s := im.inodes[im.names[name]]
		for _, c := range s.changes {
			if c.state == safe {
				s.safe.apply(c.event)
				continue
			}
			s.safe.suffer(c.event, sector, fate(c.public(sector)))
		}
		files[name] = s.safe
	}
	return files
}

// suffer does to a file what remains of an event.
func (c *content) suffer(e event, sector int64, f Fate) {
	if f.whole {
		c.apply(e)
		return
	}
	if e.kind != wrote {
		return
	}
	if f.grown {
		c.grow(e.offset + int64(len(e.data)))
	}
	rest, offset := e.data, e.offset
	for _, kept := range f.sectors {
		n := min(sector-offset%sector, int64(len(rest)))
		if n == 0 {
			return
		}
		if kept {
			c.write(rest[:n], offset)
		}
		rest, offset = rest[n:], offset+n
	}
}

// public is the change as those see it who decide about it.
func (c *change) public(sector int64) Change {
	out := Change{Moment: c.moment, File: c.name, Offset: c.offset, Bytes: len(c.data)}
	switch c.kind {
	case truncated:
		out.Kind = Truncated
	case created:
		out.Kind = Created
	case deleted:
		out.Kind = Deleted
	default:
		out.Kind = Written
		if out.Bytes > 0 {
			out.Sectors = int((c.offset+int64(out.Bytes)-1)/sector - c.offset/sector + 1)
		}
	}
	return out
}
