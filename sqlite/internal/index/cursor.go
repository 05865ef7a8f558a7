package index

import (
	"slices"
)

// Direction is the order in which positions and versions are gone through.
type Direction int8

const (
	// Forward goes from the oldest to the newest.
	Forward Direction = iota
	// Backward goes from the newest to the oldest.
	Backward
)

// reached tells whether a position is at another or beyond it, in the direction.
func (d Direction) reached(position, other int64) bool {
	if d == Backward {
		return position <= other
	}
	return position >= other
}

// Cursor goes through positions in order, rising or falling.
type Cursor interface {
	// SeekPosition returns the first position at p or beyond it in the cursor's direction, and 0 when there is none. From call to call
	// p moves in that direction only, or stays. After an error the cursor is of no use.
	SeekPosition(p int64) (int64, error)
}

// All goes through every position from 1 to last, whether there is an event or not.
func All(d Direction, last int64) Cursor { return every{d, last} }

type every struct {
	direction Direction
	last      int64
}

func (e every) SeekPosition(p int64) (int64, error) {
	if e.direction == Backward {
		return max(min(p, e.last), 0), nil
	}
	if p = max(p, 1); p > e.last {
		return 0, nil
	}
	return p, nil
}

// Union goes through the positions of any of the cursors, which have its direction. Without cursors there are none.
func Union(d Direction, cs ...Cursor) Cursor {
	if len(cs) == 1 {
		return cs[0]
	}
	u := &union{direction: d}
	for _, c := range cs {
		u.members = append(u.members, member{cursor: c})
	}
	return u
}

type union struct {
	direction Direction
	members   []member // that are not at their end
}

// member is a cursor, and where it is; 0 at first.
type member struct {
	cursor   Cursor
	position int64
}

func (u *union) SeekPosition(p int64) (int64, error) {
	nearest := int64(0)
	for i := 0; i < len(u.members); {
		m := &u.members[i]
		if m.position == 0 || !u.direction.reached(m.position, p) {
			var err error
			if m.position, err = m.cursor.SeekPosition(p); err != nil {
				return 0, err
			}
		}
		if m.position == 0 {
			u.members = slices.Delete(u.members, i, i+1)
			continue
		}
		if nearest == 0 || u.direction.reached(nearest, m.position) {
			nearest = m.position
		}
		i++
	}
	return nearest, nil
}

// Intersect goes through the positions that are in all of the cursors, which have its direction. It takes one cursor or more; with
// none it would be every position, for which there is [All], and panics.
func Intersect(d Direction, cs ...Cursor) Cursor {
	switch len(cs) {
	case 0:
		panic("index: an intersection of no cursors")
	case 1:
		return cs[0]
	}
	return &intersection{d, slices.Clone(cs)}
}

// intersection lets the first cursor say where to go on. Any other that has less there takes its place: so the one that goes
// farthest at a time leads, without anybody having to know how many positions each has.
type intersection struct {
	direction Direction
	cursors   []Cursor
}

func (x *intersection) SeekPosition(p int64) (int64, error) {
	for {
		position, err := x.cursors[0].SeekPosition(p)
		if position == 0 || err != nil {
			return 0, err
		}
		i, next := 1, position
		for ; i < len(x.cursors) && next == position; i++ {
			if next, err = x.cursors[i].SeekPosition(position); next == 0 || err != nil {
				return 0, err
			}
		}
		if next == position {
			return position, nil
		}
		x.cursors[0], x.cursors[i-1] = x.cursors[i-1], x.cursors[0]
		p = next
	}
}
