package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	es "github.com/eventsourcing-go/eventsourcing"
)

// lane is a connection for batches, and the goroutine that it belongs to.
type lane struct {
	lanes *lanes
	work  chan []*flyer
	conn  *laneConn // nil until it is needed, and after a loss

	// Of the batch that flies:
	batch      []*flyer
	single     [1]*flyer // room for a batch of one
	answers    []answer
	open       []bool // which have no answer yet
	appends    int    // how many these are
	conditions int
	events     []*es.Message // nil when they are encoded, because the callers may not wait any more
	owners     []int32       // of each event, the number of its append
	ids        []uuid.UUID
	entries    []laneEntry
	locks      []int64
	exclusive  int // so many of the locks, the first
	args       [4]wire
	lost       time.Time // when a connection was lost by which the batch may have been sent

	// What came back:
	taken    map[int64]struct{} // keys that others have
	unfit    bool               // the batch must not go by this connection
	inserted []insertedRow
}

// insertedRow is an event that was inserted.
type insertedRow struct {
	place es.Place
	id    uuid.UUID
}

// start starts another lane.
func (l *lanes) start() {
	ln := &lane{lanes: l, work: make(chan []*flyer, 1), taken: map[int64]struct{}{}}
	l.started++
	l.idle = append(l.idle, ln)
	l.wg.Go(ln.run)
}

// run flies batches until the lanes are closed.
func (ln *lane) run() {
	for batch := range ln.work {
		for len(batch) > 0 {
			answers := ln.fly(context.Background(), batch)
			batch = ln.lanes.land(ln, batch, answers)
		}
	}
	ln.hangUp(context.Background())
}

// flyNow does an append at once, if a lane is free and nobody waits, and tells whether it was so. This is done in the goroutine of the
// caller: to hand it over and back takes longer than a good part of the way.
func (l *lanes) flyNow(ctx context.Context, f *flyer) (answer, bool) {
	l.mu.Lock()
	if f.single || len(l.waiting) > 0 || !l.board.free(&f.claims, allClaims) || !l.ready() {
		l.mu.Unlock()
		return answer{}, false
	}
	ln := l.takeIdle()
	l.board.add(&f.claims, allClaims)
	l.mu.Unlock()

	ln.single[0] = f
	a := ln.fly(ctx, ln.single[:])[0]
	l.announce(ln.single[:], ln.answers)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.board.land(&f.claims, a.alone)
	l.idle = append(l.idle, ln)
	l.dispatch()
	return a, true
}

// land answers the appends of a batch, and returns the next one.
func (l *lanes) land(ln *lane, batch []*flyer, answers []answer) []*flyer {
	l.announce(batch, answers)
	l.mu.Lock()
	for i, f := range batch {
		l.board.land(&f.claims, answers[i].alone)
		l.reply(f, answers[i])
	}
	l.mu.Unlock()
	runtime.Gosched() // those who were answered are quick to come again, and then go together with those who have waited
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.next()
	if len(next) == 0 {
		if l.closed {
			close(ln.work)
		} else {
			l.idle = append(l.idle, ln)
		}
	}
	l.dispatch()
	return next
}

// announce tells others what a batch has done.
func (l *lanes) announce(batch []*flyer, answers []answer) {
	var what topic
	for i, a := range answers {
		if a.stored() {
			what |= batch[i].tells
		}
	}
	switch {
	case what&outboxChanged != 0:
		l.db.outbox.changed(what)
	case what != 0:
		l.db.tell(what)
	}
}

// fly does a batch, and returns an answer for each of its appends, which is good until the next flight. What does not fit in is taken out,
// and the others fly again. When ctx ends, which is that of the only append of the batch if it does, the connection is given up.
func (ln *lane) fly(ctx context.Context, batch []*flyer) []answer {
	ln.batch, ln.answers, ln.open = batch, ln.answers[:0], ln.open[:0]
	for range batch {
		ln.answers, ln.open = append(ln.answers, answer{}), append(ln.open, true)
	}
	ln.lost = time.Time{}
	var waited time.Duration // for locks
	for {
		if ln.encode(); ln.appends == 0 {
			return ln.answers
		}
		err := ln.attempt(ctx)
		if err == nil {
			ln.settleEntries()
		}
		if ln.conn != nil && ln.conn.pg.IsClosed() {
			ln.conn = nil
		}
		if ln.lost.IsZero() && isLoss(err) && !isRefusal(err) {
			ln.lost = time.Now()
		}
		waits := err == nil && len(ln.taken) > 0 && ln.held() > cap(ln.lanes.alone)
		switch {
		case err == nil && len(ln.taken) == 0 && !ln.unfit:
			ln.deliver()
			return ln.answers
		case ctx.Err() != nil:
			ln.settleAll(answer{err: ctx.Err()})
		case isLoss(err) && !ln.lost.IsZero() && time.Since(ln.lost) < ln.lanes.patience:
			// Whether it was done is unknown, and looking would not tell: it may still be about to be. It is done again. Where it was
			// done, the IDs turn out to be there.
			rest(ctx, rand.N(50*time.Millisecond))
		case waits && waited < longestWait:
			// Others have what many of them need, which is the whole store or a common name. They do not have it for long.
			pause := time.Millisecond + rand.N(time.Millisecond)
			rest(ctx, pause)
			waited += pause
		default:
			ln.takeOut(ctx, err)
		}
	}
}

// longestWait is how long a batch waits for locks that others have, before its appends wait for them each by itself.
const longestWait = 10 * time.Millisecond

// held returns how many appends of the batch need a lock that others have.
func (ln *lane) held() (n int) {
	for i, f := range ln.batch {
		if ln.open[i] && ln.lanes.needs(&f.claims, ln.taken) {
			n++
		}
	}
	return n
}

// isLoss tells whether an error has ended the connection, so that nothing is known about what was under way.
func isLoss(err error) bool { return errors.Is(fault(err), ErrUnavailable) }

// isRefusal tells whether an error is that of an attempt to connect.
func isRefusal(err error) bool {
	_, refused := errors.AsType[*pgconn.ConnectError](err)
	return refused
}

// rest waits for a time, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// settle gives an append its answer.
func (ln *lane) settle(i int, a answer) {
	ln.answers[i], ln.open[i] = a, false
}

// settleAll gives all appends the same answer that have none yet.
func (ln *lane) settleAll(a answer) {
	for i := range ln.batch {
		if ln.open[i] {
			ln.settle(i, a)
		}
	}
}

// settleEntries answers those that have entries of the outbox and nothing else. They are done with any transaction that was committed, also
// when the appends of the batch did not get their locks.
func (ln *lane) settleEntries() {
	for _, e := range ln.entries {
		if ln.open[e.owner] && e.event == uuid.Nil {
			ln.settle(e.owner, answer{})
		}
	}
}

// attempt sends the batch, and reads what became of it.
func (ln *lane) attempt(ctx context.Context) (err error) {
	clear(ln.taken)
	ln.unfit, ln.inserted = false, ln.inserted[:0]
	if ln.conn == nil {
		if ln.conn, err = ln.lanes.connect(ctx); err != nil {
			return err
		}
	}
	if err := ln.conn.hurry(); err != nil {
		return err
	}
	if err := ln.conn.replan(ctx); err != nil {
		return err
	}
	s := &ln.lanes.statements
	lock, insert, entries := &s.lock, &s.insert, &s.entries
	switch {
	case ln.short():
		lock, insert = &s.lockFew[len(ln.locks)], &s.insertOne
	case len(ln.locks) == 0:
		lock = &s.lockFew[0]
	}
	if ln.conditions > 0 {
		insert = &s.insertIf
	}
	if len(ln.entries) == 1 {
		entries = &s.entry
	}
	var b pgconn.Batch
	var reads [4]func(row [][]byte) error
	statements := 0
	for i, one := range [...]struct {
		*laneStatement

		needed bool
		read   func(row [][]byte) error
	}{
		{lock, true, ln.readLock},
		{&s.conditions, ln.conditions > 0, nil},
		{insert, len(ln.ids) > 0, ln.readInserted},
		{entries, len(ln.entries) > 0, nil},
	} {
		if !one.needed {
			continue
		}
		if err := ln.conn.queue(ctx, &b, one.laneStatement, ln.args[i].values()); err != nil {
			return err
		}
		reads[statements] = one.read
		statements++
	}
	return ln.conn.send(ctx, &b, func(statement int, row [][]byte) error {
		if read := reads[statement]; read != nil {
			return read(row)
		}
		return nil
	})
}

// short tells whether the batch is one that is most often: one event, and few locks.
func (ln *lane) short() bool {
	return len(ln.ids) == 1 && ln.conditions == 0 && len(ln.locks) <= maxFewLocks && ln.exclusive == 1 && !ln.lanes.db.serial
}

// readLock reads a row of the statement that takes the locks: a key that others have, or that the batch cannot go this way.
func (ln *lane) readLock(row [][]byte) error {
	if row[0] == nil {
		return nil
	}
	if len(row[1]) == 0 || ln.short() || len(ln.locks) == 0 {
		ln.unfit = true
		return nil
	}
	key, err := strconv.ParseInt(string(row[0]), 10, 64)
	ln.taken[key] = struct{}{}
	return err
}

func (ln *lane) readInserted(row [][]byte) error {
	if len(row) != 3 || len(row[0]) != 8 || len(row[1]) != 8 || len(row[2]) != 16 {
		return errors.New("postgres: a row has other columns than it was asked for")
	}
	number := func(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) } //nolint:gosec // as it is, bit by bit
	ln.inserted = append(ln.inserted, insertedRow{es.Place{Position: number(row[0]), Version: number(row[1])}, uuid.UUID(row[2])})
	return nil
}

// deliver answers the appends whose events were inserted. Those that are not among them go alone to hear why.
func (ln *lane) deliver() {
	places := make([]es.Place, 0, len(ln.inserted))
	rows := ln.inserted
	for event := 0; event < len(ln.ids); {
		owner, n := ln.owners[event], 1
		for event+n < len(ln.ids) && ln.owners[event+n] == owner {
			n++
		}
		if len(rows) < n || rows[0].id != ln.ids[event] {
			ln.settle(int(owner), answer{alone: true})
			event += n
			continue
		}
		from := len(places)
		for i := range n {
			if rows[i].id != ln.ids[event+i] {
				ln.settle(int(owner), answer{err: fmt.Errorf("event %s was stored in part of an append", rows[i].id)})
			}
			places = append(places, rows[i].place)
		}
		if ln.open[owner] {
			done := es.Appended{Places: places[from:len(places):len(places)], Position: places[len(places)-1].Position}
			ln.settle(int(owner), answer{done: done})
		}
		rows, event = rows[n:], event+n
	}
}
