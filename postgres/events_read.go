package postgres

import (
	"context"
	"iter"
	"math"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// reads is what the reads of a namespace have in common.
type reads struct {
	forward, backward readStatements
	version           string    // the statement for that of a stream
	decoders          sync.Pool // of *decoder

	// edits counts the truncations, deletions and erasures of this process: what was read before one of them, and was not handed out yet,
	// is read again.
	edits atomic.Uint64
}

func newReads(db *DB) *reads {
	return &reads{
		forward: newReadStatements(db.names, forward), backward: newReadStatements(db.names, backward), version: db.sql(readVersion),
	}
}

// Read yields the events that the query selects; see [es.EventStore]. It ends where the log ended when the loop began, so that a loop
// that appends what it reads comes to an end. Each page is a statement of its own, which sees what was committed when it began.
func (s *EventStore) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	return func(yield func(*es.Message, error) bool) {
		if err := s.readAll(ctx, q, yield); err != nil {
			yield(nil, err)
		}
	}
}

// readAll is Read but for the yielding of its error. It returns nil when the body of the loop wants no more.
func (s *EventStore) readAll(ctx context.Context, q es.Query, yield func(*es.Message, error) bool) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	if err := q.Validate(); err != nil {
		return err
	}
	selected, err := selectionOf(&q)
	if err != nil {
		return err
	}
	r := &logReader{store: s, query: q, selected: selected}
	for {
		if err := r.fetch(ctx); err != nil {
			return err
		}
		for _, m := range r.page {
			if err := s.running(ctx); err != nil {
				return err
			}
			if s.reads.edits.Load() != r.edits { // what was truncated or erased meanwhile is not handed out any more
				r.rewind(m)
				break
			}
			r.taken++
			if !yield(m, nil) {
				return nil
			}
		}
		if r.done {
			return nil
		}
	}
}

// running returns an error when the store was closed or the context has ended.
func (s *EventStore) running(ctx context.Context) error {
	select {
	case <-s.db.handle.done:
		return es.ErrClosed
	default:
	}
	return ctx.Err()
}

// lastVersion returns the version of a stream, 0 when it never had an event.
func (s *EventStore) lastVersion(ctx context.Context, stream string) (last int64, err error) {
	if err := s.db.handle.begin(ctx); err != nil {
		return 0, err
	}
	defer s.db.handle.leave()
	var b pgx.Batch
	b.Queue(planned)
	b.Queue(s.reads.version, stream).QueryRow(func(row pgx.Row) error { return row.Scan(&last) })
	return last, fault(s.db.pool.SendBatch(ctx, &b).Close())
}

// logReader reads what a query selects, in pages. Between them it has no connection.
type logReader struct {
	store    *EventStore
	query    es.Query
	selected selection

	begun, bounded bool
	low, high      int64   // what is still to be read: positions, or versions of the stream
	taken          int     // how many events were handed out
	size           int     // of the page
	weight         int     // mean bytes of an event
	density        float64 // which share of the positions is selected, as far as was read; 0 until something was

	page  []*es.Message
	edits uint64 // how many edits there were when the page was read
	done  bool   // there is nothing behind the page
}

// rewind makes the next page begin with a message that was not handed out.
func (r *logReader) rewind(m *es.Message) {
	r.done = false
	if r.query.Reverse {
		r.high = r.place(m)
	} else {
		r.low = r.place(m)
	}
}

// pass goes behind a position, or version, that was read.
func (r *logReader) pass(at int64) {
	switch {
	case at <= r.low && r.query.Reverse || at >= r.high && !r.query.Reverse:
		r.done = true
	case r.query.Reverse:
		r.high = at - 1
	default:
		r.low = at + 1
	}
}

// place is what the query bounds.
func (r *logReader) place(m *es.Message) int64 {
	if r.query.Stream != "" {
		return m.Version
	}
	return m.Position
}

// left returns how many events the next page may have because of the limit.
func (r *logReader) left() int {
	if r.query.Limit > 0 {
		return r.query.Limit - r.taken
	}
	return math.MaxInt
}

// fetch reads the next page. It may be empty without being the last.
func (r *logReader) fetch(ctx context.Context) error {
	r.page = r.page[:0]
	r.edits = r.store.reads.edits.Load()
	if !r.begun {
		if err := r.begin(ctx); err != nil {
			return err
		}
	} else if r.fromMemory() {
		// What others have truncated or erased meanwhile must not come from memory.
		if _, err := r.store.Head(ctx); err != nil {
			return err
		}
	}
	if r.low > r.high || r.selected.nothing {
		r.done = true
		return nil
	}
	if r.takeFromMemory() {
		return nil
	}
	if err := r.fetchPage(ctx); err != nil {
		return err
	}
	if len(r.page) == r.left() {
		r.done = true
	}
	if r.done || r.bounded {
		return nil
	}
	return r.bound(ctx)
}

// begin finds out what is to be read.
func (r *logReader) begin(ctx context.Context) error {
	q := &r.query
	r.begun = true
	r.low, r.high = q.After+1, math.MaxInt64
	if q.UpTo > 0 {
		r.high = q.UpTo
	}
	from := es.Checkpoint{Incarnation: q.Incarnation, Position: q.After}
	switch {
	case q.Stream != "":
		r.bounded = q.Reverse || q.UpTo > 0           // else see bound
		return r.store.fits(ctx, from, math.MaxInt64) // After is a version
	case q.Unsettled:
		r.bounded = q.Reverse || q.UpTo > 0
		return r.store.fits(ctx, from, r.store.tail.known())
	}
	r.bounded = true
	settled, err := r.settled(ctx)
	if err != nil {
		return err
	}
	r.high = min(r.high, settled)
	return r.store.fits(ctx, from, settled)
}

// settled returns a position that is settled, and is beyond all that there is to be read as far as that is settled.
func (r *logReader) settled(ctx context.Context) (int64, error) {
	if upTo := r.query.UpTo; upTo > 0 && upTo <= r.store.tail.known() && !r.fromMemory() {
		return upTo, nil
	}
	head, err := r.store.Head(ctx)
	return head.Position, err
}

// bound finds where the log, or the stream, ends that is read as far as there is: what is appended from now on is not of this read. Most
// reads have come to the end before. It is called before anything is handed out.
func (r *logReader) bound(ctx context.Context) (err error) {
	r.bounded = true
	var last int64
	if r.query.Stream != "" {
		last, err = r.store.lastVersion(ctx, r.query.Stream)
	} else {
		last, err = r.store.lastGiven(ctx)
	}
	r.high = min(r.high, last)
	return err
}

// inOrder tells whether what is left to be read is settled and read forward, so that the tail may have it.
func (r *logReader) inOrder() bool {
	return r.query.Stream == "" && !r.query.Unsettled && !r.query.Reverse
}

// fromMemory tells whether what is left to be read is in memory.
func (r *logReader) fromMemory() bool {
	if !r.inOrder() {
		return false
	}
	_, there := r.store.tail.cached(r.low-1, r.high)
	return there
}

// takeFromMemory makes a page of events that the tail has, if it has all that are left.
func (r *logReader) takeFromMemory() bool {
	if !r.inOrder() {
		return false
	}
	events, there := r.store.tail.cached(r.low-1, r.high)
	if !there {
		return false
	}
	size := min(lastPageEvents, r.left())
	for _, m := range events {
		if !r.query.Matches(m) {
			continue
		}
		r.page = append(r.page, m)
		if len(r.page) == size {
			r.pass(m.Position)
			r.done = r.done || size == r.left()
			return true
		}
	}
	r.done = true
	return true
}
