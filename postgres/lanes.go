package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// lanes are the connections on which appends travel together that wait at the same moment. Each of them has its own outcome. What is to be
// enqueued travels with them: by itself, or with the append that it is to be committed with.
//
// What would wait for a lock, and what turns out to be more than a plain insert (it does not meet its expectation, or its IDs are there
// already), is told to go alone: it goes in a transaction of its own, by a connection of the pool, and is judged there; see
// [EventStore.appendIn]. So nobody's transaction holds up a batch, and no batch waits for another one.
type lanes struct {
	db         *DB
	keys       int64 // where the keys of the locks of this namespace begin
	sql        appendStatements
	statements laneStatements
	patience   time.Duration // see defaultPatience
	alone      chan struct{} // as many as wait for others at the same time, each by a connection of the pool
	wg         sync.WaitGroup

	mu      sync.Mutex
	waiting []*flyer // in the order they came
	board   board    // what flies, or goes alone
	behind  board    // of next: what those claim that stay
	idle    []*lane
	started int
	closed  bool
}

func newLanes(db *DB) *lanes {
	return &lanes{
		db: db, keys: lockKey("append", db.config.Schema, strconv.Itoa(int(db.names.space))), sql: newAppendStatements(db),
		statements: newLaneStatements(db), patience: defaultPatience,
		alone: make(chan struct{}, max(1, db.pool.Config().MaxConns/2)),
		board: board{streams: map[int64]struct{}{}}, behind: board{streams: map[int64]struct{}{}},
	}
}

// flyer is an append on its way, or entries of the outbox, or both, of which both are done or none.
type flyer struct {
	claims  claims
	events  []*es.Message
	expect  es.Expectation
	entries []*es.Message // as prepare returns them
	tells   topic         // what others are told when it is done
	size    int           // bytes, roughly
	single  bool          // it is not for a batch: it is to several streams, has no events or very much

	given  sync.Mutex // held by who reads what the caller gave
	append *es.Append // nil when the caller has given up

	state  flyerState // with lanes.mu
	answer chan answer
}

// flyerState is where an append is on its way.
type flyerState int

const (
	waits flyerState = iota
	flies
	answered
	givenUp
)

// answer is what a lane has to say about an append.
type answer struct {
	done  es.Appended
	err   error
	alone bool // it has to go alone, and keeps its streams
	waits bool // it will wait for others there
}

// stored tells whether the events of an append were stored by a batch.
func (a answer) stored() bool { return a.err == nil && !a.alone }

const (
	// What a batch has at most. The bytes are counted before the last one is taken in. An append with more does not go in a batch at all.
	batchAppends = 256
	batchBytes   = 4 << 20
	// eventOverhead is roughly what an event takes beside its payload.
	eventOverhead = 512
)

// flyerPool has flyers to be used again.
var flyerPool = sync.Pool{New: func() any { return &flyer{answer: make(chan answer, 1)} }} //nolint:gochecknoglobals // as pools are

// nothingAppended is the append of who has only entries of the outbox.
func nothingAppended(a *es.Append) bool { return len(a.Streams) == 0 && len(a.Unless) == 0 }

// newFlyer returns a flyer for an append, which is valid, and entries of the outbox. One of the two may be empty.
func (l *lanes) newFlyer(a *es.Append, entries []*es.Message) *flyer {
	f, _ := flyerPool.Get().(*flyer)
	f.append, f.entries, f.state, f.size, f.events, f.tells = a, entries, waits, 0, nil, 0
	for _, m := range entries {
		f.size += len(m.Data) + eventOverhead
	}
	if len(entries) > 0 {
		f.tells = outboxChanged
	}
	if nothingAppended(a) {
		f.claims.clear()
		f.single = f.size > batchBytes
		return f
	}
	l.claim(&f.claims, a)
	f.tells |= eventsChanged
	f.single = len(a.Streams) != 1 || len(a.Streams[0].Events) == 0
	if f.single {
		return f
	}
	f.events, f.expect = a.Streams[0].Events, a.Streams[0].Expect
	for _, m := range f.events {
		f.size += len(m.Data) + eventOverhead
	}
	f.single = f.size > batchBytes
	return f
}

// release takes back a flyer that nobody else has any more.
func (f *flyer) release() {
	f.append, f.events, f.entries = nil, nil, nil
	flyerPool.Put(f)
}

// enter lets appends wait for a lane, in order.
func (l *lanes) enter(fs ...*flyer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, fs...)
	l.dispatch()
}

// dispatch sends out what can fly, by lanes that have nothing to do.
func (l *lanes) dispatch() {
	for len(l.waiting) > 0 && l.ready() {
		batch := l.next()
		if len(batch) == 0 {
			return
		}
		l.takeIdle().work <- batch // it has room
	}
}

// ready tells whether there is a lane that has nothing to do.
func (l *lanes) ready() bool {
	if len(l.idle) == 0 && l.started < l.db.config.Lanes {
		l.start()
	}
	return len(l.idle) > 0
}

// takeIdle returns a lane that has nothing to do, and has now.
func (l *lanes) takeIdle() *lane {
	last := len(l.idle) - 1
	ln := l.idle[last]
	l.idle = l.idle[:last]
	return ln
}

// next takes the next batch out of those that wait. What must not fly now stays, and so does what would overtake it.
func (l *lanes) next() []*flyer {
	if len(l.waiting) == 0 {
		return nil
	}
	batch := make([]*flyer, 0, min(len(l.waiting), batchAppends))
	size, kept := 0, 0
	for i, f := range l.waiting {
		if len(batch) == batchAppends || size > batchBytes {
			kept += copy(l.waiting[kept:], l.waiting[i:])
			break
		}
		kind := allClaims
		if f.single {
			kind = aloneClaims
		}
		if !l.board.free(&f.claims, kind) || kept > 0 && !l.behind.free(&f.claims, allClaims) {
			if kept == 0 {
				l.behind.clear()
			}
			l.behind.add(&f.claims, allClaims)
			l.waiting[kept] = f
			kept++
			continue
		}
		l.board.add(&f.claims, kind)
		if f.single {
			l.reply(f, answer{alone: true})
			continue
		}
		f.state = flies
		batch = append(batch, f)
		size += f.size
	}
	clear(l.waiting[kept:])
	l.waiting = l.waiting[:kept]
	return batch
}

// reply tells an append what became of it. One whose caller has given up lets go of what it has kept.
func (l *lanes) reply(f *flyer, a answer) {
	if f.state == givenUp {
		if a.alone {
			l.board.remove(&f.claims, aloneClaims)
		}
		return
	}
	f.state = answered
	f.answer <- a // it has room
}

// landed lets go of the streams of an append that went alone.
func (l *lanes) landed(f *flyer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.board.remove(&f.claims, aloneClaims)
	l.dispatch()
}

// do does an append and enqueues entries, which [Outbox.prepare] has returned, both or neither. One of the two may be empty.
func (l *lanes) do(ctx context.Context, a *es.Append, entries []*es.Message) (es.Appended, error) {
	f := l.newFlyer(a, entries)
	if a, done := l.flyNow(ctx, f); done {
		return l.arrive(ctx, f, a)
	}
	l.enter(f)
	return l.outcome(ctx, f)
}

// outcome waits for what becomes of an append that has entered. The end of ctx takes an append back that waits; of one that flies the
// outcome is unknown then.
func (l *lanes) outcome(ctx context.Context, f *flyer) (es.Appended, error) {
	select {
	case a := <-f.answer:
		return l.arrive(ctx, f, a)
	case <-ctx.Done():
	}
	if !l.giveUp(f) {
		return es.Appended{}, ctx.Err()
	}
	return l.arrive(ctx, f, <-f.answer)
}

// arrive returns what became of an append, which it takes on where it has to go alone.
func (l *lanes) arrive(ctx context.Context, f *flyer, a answer) (es.Appended, error) {
	if a.alone {
		a.done, a.err = l.goAlone(ctx, f, a.waits)
		l.landed(f)
	}
	f.release()
	return a.done, a.err
}

// giveUp takes back an append whose caller does not wait any more. It tells whether there is an answer all the same.
func (l *lanes) giveUp(f *flyer) (answer bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch f.state {
	case answered:
		return true
	case waits:
		l.waiting = slices.DeleteFunc(l.waiting, func(other *flyer) bool { return other == f })
		l.dispatch() // others may have waited for it
	default:
		f.state = givenUp
	}
	f.given.Lock() // a lane that reads what the caller has given is done with it at once
	f.append, f.events, f.entries = nil, nil, nil
	f.given.Unlock()
	return false
}

// goAlone does an append in a transaction of its own. Those that wait there for others are not many at a time, so that the pool has
// connections for the rest.
func (l *lanes) goAlone(ctx context.Context, f *flyer, waits bool) (es.Appended, error) {
	if nothingAppended(f.append) {
		return es.Appended{}, l.db.outbox.enqueueAlone(ctx, f.entries)
	}
	if !waits {
		done, err := l.db.events.appendAlone(ctx, f.append, f.entries, hasty)
		if !errors.Is(err, ErrBusy) {
			return done, err
		}
	}
	select {
	case l.alone <- struct{}{}:
		defer func() { <-l.alone }()
	case <-ctx.Done():
		return es.Appended{}, ctx.Err()
	}
	return l.db.events.appendAlone(ctx, f.append, f.entries, patient)
}

// close waits for the appends that are under way, and closes the connections.
func (l *lanes) close() error { //nolint:unparam // as of all that a store closes
	l.mu.Lock()
	l.closed = true
	for _, idle := range l.idle {
		close(idle.work)
	}
	l.idle = nil
	l.mu.Unlock()
	l.wg.Wait()
	return nil
}
