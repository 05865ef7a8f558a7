package index

// postingsCursor goes through the events of a stream or term, piece by piece of a view.
type postingsCursor struct {
	view      *View
	target    target // what it looked for last
	direction Direction

	piece  int  // of the view; all events in those before it are behind
	opened bool // the piece may have events
	list   list // when the piece is a chunk
	frame  frame
	i      int // the event in the list, or in the frame
}

// SeekPosition implements [Cursor].
func (c *postingsCursor) SeekPosition(p int64) (int64, error) {
	if ok, err := c.seek(byPosition, p); !ok || err != nil {
		return 0, err
	}
	return c.position(), nil
}

// position and version are those of the event that was found last.
func (c *postingsCursor) position() int64 {
	if c.inRun() {
		return c.frame.positions[c.i]
	}
	return c.list.position(c.i)
}

func (c *postingsCursor) version() int64 {
	if c.inRun() {
		return c.frame.version + int64(c.i)
	}
	return c.list.version(c.i)
}

func (c *postingsCursor) inRun() bool { return c.piece < len(c.view.runs) }

// seek goes to the first event at a value or beyond it, and tells whether there is one.
func (c *postingsCursor) seek(a axis, value int64) (bool, error) {
	c.target.axis, c.target.value = a, max(value, 0)
	for c.piece >= 0 && c.piece < c.view.pieces {
		if ok, err := c.seekInPiece(); ok || err != nil {
			return ok, err
		}
		if c.direction == Backward {
			c.moveTo(c.piece - 1)
		} else {
			c.moveTo(c.piece + 1)
		}
	}
	return false, nil
}

func (c *postingsCursor) moveTo(piece int) {
	c.piece, c.opened, c.i, c.frame.n = piece, false, 0, 0
}

func (c *postingsCursor) seekInPiece() (bool, error) {
	if c.inRun() {
		return c.seekInRun()
	}
	if !c.opened {
		chunk, from, to := c.view.chunk(c.piece)
		c.list, c.opened = chunk.list((*Key)(c.target.key[1:]), from, to), true
	}
	return c.seekInList(), nil
}

func (c *postingsCursor) seekInRun() (bool, error) {
	t := &c.target
	if i, ok := c.frame.seek(t.axis, t.value, c.i, c.direction); ok {
		c.i = i
		return true, nil
	}
	r := c.view.reader(c.piece)
	if t.axis == byPosition && (c.direction == Forward && r.run.Last < t.value || c.direction == Backward && r.run.Base >= t.value) {
		return false, nil
	}
	if !c.opened {
		may, err := r.mayHave(t)
		if err != nil || !may {
			return false, err
		}
		c.opened = true
	}
	i, ok, err := r.seek(t, c.direction, &c.frame)
	c.i = i
	return ok, err
}

func (c *postingsCursor) seekInList() bool {
	a, value, n := c.target.axis, c.target.value, c.list.len()
	// Often it is the event that was found last, or the next one.
	for i := c.i; i < min(n, c.i+2) && c.direction == Forward; i++ {
		if c.list.at(a, i) >= value && (i == 0 || c.list.at(a, i-1) < value) {
			c.i = i
			return true
		}
	}
	if c.direction == Backward {
		c.i = c.list.upTo(a, value) - 1
		return c.i >= 0
	}
	c.i = c.list.upTo(a, value-1)
	return c.i < n
}

// StreamCursor goes through the events of a stream. It is a [Cursor], and knows versions.
type StreamCursor struct {
	postings postingsCursor
	begun    bool
}

// SeekPosition is that of [Cursor].
func (c *StreamCursor) SeekPosition(p int64) (int64, error) {
	c.begun = true
	return c.postings.SeekPosition(p)
}

// SeekVersion returns the first event at a version or beyond it in the cursor's direction; 0, 0 when there is none. It moves in
// that direction only, or stays, also relative to SeekPosition.
func (c *StreamCursor) SeekVersion(v int64) (version, position int64, err error) {
	if !c.begun && v > 1 && c.postings.direction == Forward {
		if err := c.begin(v); err != nil {
			return 0, 0, err
		}
	}
	c.begun = true
	if ok, err := c.postings.seek(byVersion, v); !ok || err != nil {
		return 0, 0, err
	}
	return c.postings.version(), c.postings.position(), nil
}

// begin goes to the newest piece whose first version is not beyond the given one: nothing that is older matters. Long streams are
// mostly read from a version near their end.
func (c *StreamCursor) begin(v int64) error {
	first := c.postings.view.pieces // the oldest piece with the stream among those that were looked at
	for piece := first - 1; piece >= 0; piece-- {
		c.postings.moveTo(piece)
		c.postings.target.axis, c.postings.target.value = byVersion, 0
		ok, err := c.postings.seekInPiece()
		if err != nil {
			return err
		}
		if ok {
			first = piece
			if c.postings.version() <= v {
				break
			}
		}
	}
	c.postings.moveTo(first)
	return nil
}

// Version returns the version of the event that was found last, by either method.
func (c *StreamCursor) Version() int64 { return c.postings.version() }
