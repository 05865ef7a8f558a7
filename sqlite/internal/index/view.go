package index

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// View is the index as of one snapshot of the database: the runs it has, and spans of tails for what lies beyond them. It is good for
// as long as its Blocks are, for several goroutines at once. Cursors are for one.
//
// Errors are those of its Blocks, and [*CorruptError].
type View struct {
	runs   []Run
	blocks Blocks
	spans  []Span
	pieces int // runs, and chunks of spans
	last   int64
}

// GapError says that nothing tells of the events in (From, To], or, when To is the lesser, that these would be told of twice.
type GapError struct{ From, To int64 }

func (e *GapError) Error() string {
	return fmt.Sprintf("index: what goes up to position %d is followed by what begins after %d", e.From, e.To)
}

// NewView returns a view of runs and spans, the oldest first. The runs should be open, see [Run.Open]. Neither are copied, so they
// must not be changed.
//
// Together they have all events from the first on: otherwise the error is a [*GapError]. To fill the gap, read the events that are
// missing, add them to a new [Tail], and take a span of that.
func NewView(runs []Run, blocks Blocks, spans ...Span) (View, error) {
	v := View{runs: runs, blocks: blocks, spans: spans, pieces: len(runs)}
	for i := range runs {
		if runs[i].Base != v.last {
			return View{}, &GapError{v.last, runs[i].Base}
		}
		v.last = runs[i].Last
		if v.runs[i].root == nil {
			if err := v.openRun(i); err != nil {
				return View{}, err
			}
		}
	}
	for i := range spans {
		if spans[i].from != v.last {
			return View{}, &GapError{v.last, spans[i].from}
		}
		v.last = spans[i].to
		v.pieces += len(spans[i].chunks)
	}
	return v, nil
}

// openRun opens a run, in a copy.
func (v *View) openRun(i int) error {
	v.runs = slices.Clone(v.runs)
	return v.runs[i].Open()
}

// Last returns the position up to which the view has events.
func (v *View) Last() int64 { return v.last }

// ID returns the position of the event with an ID, and 0 when there is none.
func (v *View) ID(id uuid.UUID) (position int64, err error) {
	k := Key(id)
	for i := v.pieces - 1; i >= len(v.runs); i-- {
		c, from, to := v.chunk(i)
		if position := c.find(&k, from, to); position != 0 {
			return position, nil
		}
	}
	for i := range slices.Backward(v.runs) {
		if position, err := v.reader(i).id(&k); position != 0 || err != nil {
			return position, err
		}
	}
	return 0, nil
}

// Head returns the newest event of a stream; 0, 0 when there is none.
func (v *View) Head(stream Key) (version, position int64, err error) {
	c := v.cursor(sectionStreams, &stream, Backward)
	if ok, err := c.seek(byPosition, v.last); !ok || err != nil {
		return 0, 0, err
	}
	return c.version(), c.position(), nil
}

// Stream goes through the events of a stream.
func (v *View) Stream(stream Key, d Direction) *StreamCursor {
	return &StreamCursor{postings: v.cursor(sectionStreams, &stream, d)}
}

// Term goes through the events of a category, or those with a name or a tag.
func (v *View) Term(term Key, d Direction) Cursor {
	c := v.cursor(sectionTerms, &term, d)
	return &c
}

func (v *View) cursor(s section, k *Key, d Direction) postingsCursor {
	c := postingsCursor{view: v, target: newTarget(s, k, byPosition, 0), direction: d}
	if d == Backward {
		c.piece = v.pieces - 1
	}
	return c
}

func (v *View) reader(run int) reader { return reader{&v.runs[run], v.blocks} }

// chunk returns the chunk that is the i-th piece, and the bounds of what is to be seen of it.
func (v *View) chunk(i int) (c *chunk, from, to int64) {
	i -= len(v.runs)
	s := 0
	for i >= len(v.spans[s].chunks) {
		i -= len(v.spans[s].chunks)
		s++
	}
	return v.spans[s].chunks[i], v.spans[s].from, v.spans[s].to
}

// compareKeys is bytes.Compare for keys.
func compareKeys(a, b *Key) int {
	x, y := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(b[:8])
	if x == y {
		x, y = binary.BigEndian.Uint64(a[8:]), binary.BigEndian.Uint64(b[8:])
	}
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
