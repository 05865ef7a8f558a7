package postgres

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// tail reads the end of the log, for all the readers of the process: it knows up to where the log is settled, and has the last events in
// memory. How it finds out is told at [fence].
//
// A reader of the global order calls settled, or takes known when that is enough, and reads up to there in a later statement, from memory
// if cached has it.
type tail struct {
	db      *DB
	pages   pages
	decoder *decoder
	step    func(name string) // for tests: called between the steps of a look
	wanted  atomic.Int64      // when somebody asked for events the last time, in nanoseconds since 1970
	last    time.Time         // when the last look began
	filled  int64             // the last page has looked into all gaps below it
	begun   sync.Once
	start   time.Time // of the first call

	mu      sync.Mutex
	fence   fence
	window  window
	edits   int64 // as it was at the last look
	skipped int64 // positions that were given up by those who drew them
}

// These bound what the tail keeps and reads.
const (
	// rowsTime is for how long the tail reads events, and not only their positions, after somebody has asked for some.
	rowsTime = 10 * time.Second
	// startTime is for how long the first callers wait for the appends that are open at the time; see [tail.settled].
	startTime = time.Second
	// askPace is the least time between two questions for the locks of the sequence, which writers feel.
	askPace = 5 * time.Millisecond
)

func newTail(db *DB) *tail {
	return &tail{db: db, pages: newPages(db), decoder: newDecoder(), step: func(string) {}}
}

// settled returns the settled head, as it was at some moment during the call: everything that was committed before the call is at or
// below it, unless an append is open that drew a smaller position. Read what is settled in a later statement.
//
// The first calls of a process, which knows nothing of what was before, wait a little for appends that are open: as long as they are, the
// head that it can tell is right, but far from the end of a long log.
func (t *tail) settled(ctx context.Context) (int64, error) { return t.look(ctx, true) }

// settledSoon is settled for those who wait in any case: many looks that follow each other are made one.
func (t *tail) settledSoon(ctx context.Context) (int64, error) { return t.look(ctx, false) }

func (t *tail) look(ctx context.Context, urgent bool) (int64, error) {
	t.begun.Do(func() { t.start = time.Now() })
	for {
		l, err := t.db.watch.look(ctx, urgent)
		if err != nil {
			return 0, err
		}
		if !l.behind || time.Since(t.start) > startTime {
			return l.settled, nil
		}
		if err := t.db.wait(ctx, nil, time.Now().Add(askPace)); err != nil {
			return 0, err
		}
	}
}

// known returns a position that is known to be settled, without a look at the database: who reads up to it, or waits for something at or
// below it, need not call settled. It does not fall, unless the database has lost what it had committed.
func (t *tail) known() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fence.settled
}

// cached returns the events beyond a position up to another one, which is settled, from memory, those that are hidden left out. It tells
// whether they are there. They are as they were at the last call of settled, or later. They are shared, and the slice too: it is not to
// be changed.
func (t *tail) cached(after, upTo int64) ([]*es.Message, bool) {
	t.wanted.Store(time.Now().UnixNano())
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.window.slice(after, upTo)
}

// open tells whether there are positions of which nobody knows yet whether they will appear.
func (t *tail) open() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.fence.gaps) > 0
}

// behind tells whether part of the log was not looked at, and waits for appends that are open.
func (t *tail) behind() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.fence.gaps) > 0 && t.fence.gaps[0].unread
}

// patience returns how long to wait until the next look while positions are open: the longer the longer they are, as nobody tells when
// they are given up.
func (t *tail) patience(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(50*time.Millisecond, max(askPace/2, now.Sub(t.fence.since)/8))
}

// givenUp returns how many positions were given up, of those that this process has looked at.
func (t *tail) givenUp() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skipped
}

// reconnected is called when the connection is a new one, with the last position that the server it leads to has given out.
func (t *tail) reconnected(last int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last < t.fence.settled {
		t.db.config.Logger.Warn("postgres: the database has lost events that were read before, as after a failover or when it was restored; "+
			"checkpoints beyond its last position are refused", "last", last, "settled", t.fence.settled)
		t.fence.settled = 0
	}
	t.forget()
}

// forget forgets everything that was seen and is not settled.
func (t *tail) forget() {
	t.fence.forget()
	t.window.restart(t.fence.settled)
}

// close ends it. Its goroutine is that of the watch.
func (t *tail) close() error { return nil }
