package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// How long things take at the least, or are kept.
const (
	// lookPace is the time between looks at the end of the log while appends follow each other, unless a caller asks for one: who waits
	// is told of many at once then. A few that follow a pause need not wait.
	lookPace, lookBurst = 2500 * time.Microsecond, 4
	// notifyPace is the time between two notifications of other processes, and quietPace when nobody has listened to the last one.
	notifyPace, quietPace = 3 * time.Millisecond, 8 * time.Millisecond
	// slowPoll is how often to look while notifications come, since any of them may be lost.
	slowPoll = time.Second
	// linger is how long to listen after the last of those who wait has gone.
	linger = time.Second
	// keepTime is how long the connection is kept that nobody uses.
	keepTime = time.Minute
	// lookTimeout is how long a look may take until the connection is given up.
	lookTimeout = 30 * time.Second
)

// wakeUpSlack is what is promised beyond the poll interval until somebody who waits learns of what others have committed: the pace of the
// looks, and a look, which asks for the holders of the sequence at most every few milliseconds (see [fence]). A notification takes as long
// as the interval at the most, and the rest is the same.
const wakeUpSlack = 5 * time.Millisecond

// watch learns of what others have changed, as long as somebody waits for it, and lets others know of what this process has. It has the
// one connection that is not of the pool, and a goroutine that has it look at the end of the log, for all who ask at the same time.
//
// Who waits in this process is told directly. Other processes get a notification after the commit and not in it, where it would make
// all who commit wait for each other; many commits share one. A notification is a hint: when it is lost, or cannot be had because of a
// pooler, those who wait find out by looking time and again.
type watch struct {
	db    *DB
	stop  context.CancelFunc
	ended chan struct{} // closed when the goroutine has ended; nil before it has begun
	keep  time.Duration // how long the connection is kept that nobody uses

	mu        sync.Mutex
	closed    bool
	interrupt context.CancelFunc // of the rest of the goroutine; nil while it is at work
	waiting   int                // how many wait
	waited    time.Time          // when the last of them went
	changed   topic              // here, since the tail has looked
	untold    topic              // what other processes do not know of yet
	next      *look              // that is asked for, and has not begun
	urgent    bool               // it is to begin at once

	// What follows is the goroutine's own.
	line     *line         // nil without a connection
	looked   time.Time     // when the last look began
	paced    time.Time     // when the next one would be due if they had followed each other at their pace
	failed   int           // looks and connections since one succeeded
	polled   time.Time     // when everybody was woken the last time, to be sure
	interval time.Duration // from then to the next time
	used     time.Time     // when the connection was of use
	notified time.Time     // when others were told
	heeded   bool          // somebody listened
}

// look is one look at the end of the log, which all share who asked before it began.
type look struct {
	done    chan struct{} // closed when it is over
	callers int           // who share it
	settled int64
	behind  bool // see [tail.behind]
	err     error
}

func newWatch(db *DB) *watch { return &watch{db: db, keep: keepTime, heeded: true} }

// begin says that somebody waits from now on; it must be followed by end. What others commit from now on rings the bells. A look after
// begin misses nothing.
func (w *watch) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return es.ErrClosed
	}
	w.waiting++
	if w.waiting == 1 {
		w.wake()
	}
	return nil
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting--; w.waiting == 0 {
		w.waited = time.Now()
	}
}

// tell lets everybody know, here and in other processes, of what was changed by a transaction that has been committed. It does not wait
// for the others. Those who wait for events are woken when the tail has seen them.
func (db *DB) tell(changed topic) {
	db.ring(changed &^ eventsChanged)
	w := db.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.changed&changed == changed && w.untold&changed == changed {
		return // the goroutine knows
	}
	w.changed |= changed
	w.untold |= changed
	w.wake()
}

// look has the tail look at the end of the log, and returns what it found. The look begins after the call. An urgent one begins as
// soon as the one has ended that is under way; others are made when time has come.
func (w *watch) look(ctx context.Context, urgent bool) (*look, error) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil, es.ErrClosed
	}
	if w.next == nil {
		w.next = &look{done: make(chan struct{})}
	}
	l := w.next
	l.callers++
	w.urgent = w.urgent || urgent
	w.wake()
	w.mu.Unlock()
	select {
	case <-l.done:
		if errors.Is(l.err, context.Canceled) { // by close
			return nil, es.ErrClosed
		}
		return l, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.db.handle.done:
		return nil, es.ErrClosed
	}
}

// wake has the goroutine see what there is to do; it is begun if need be. The mutex is held.
//
//nolint:contextcheck,nolintlint // the goroutine outlives the call, and that is to be known at the calls
func (w *watch) wake() {
	if w.ended == nil {
		ctx, stop := context.WithCancel(context.Background())
		w.stop, w.ended = stop, make(chan struct{})
		go w.run(ctx)
	}
	if w.interrupt != nil {
		w.interrupt()
	}
}

// close ends it, and waits for its goroutine.
func (w *watch) close() error { //nolint:unparam // as others that are closed with it
	w.mu.Lock()
	w.closed = true
	if w.ended == nil {
		w.mu.Unlock()
		return nil
	}
	w.stop()
	w.mu.Unlock()
	<-w.ended
	return nil
}

// run does what there is to do until the store is closed.
func (w *watch) run(ctx context.Context) {
	defer close(w.ended)
	defer w.hangUp(ctx)
	for {
		w.mu.Lock()
		if w.closed {
			if w.next != nil {
				w.next.err = es.ErrClosed
				close(w.next.done)
			}
			w.mu.Unlock()
			return
		}
		todo, until := w.due(time.Now())
		if todo == (work{}) {
			w.rest(ctx, until)
			continue
		}
		w.mu.Unlock()
		w.do(ctx, todo)
	}
}

// rest waits for something to do: somebody asks, a time has come, or a notification comes. The mutex is held, and given up.
func (w *watch) rest(ctx context.Context, until time.Time) {
	var cancel context.CancelFunc
	if until.IsZero() {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithDeadline(ctx, until)
	}
	w.interrupt = cancel
	w.mu.Unlock()
	if w.line == nil || !w.line.listening {
		<-ctx.Done()
	} else if err := w.line.await(ctx); err != nil {
		w.hangUp(ctx)
	}
	w.mu.Lock()
	w.interrupt = nil
	w.mu.Unlock()
	cancel()
	w.hear()
}

// hear takes in the notifications that have come.
func (w *watch) hear() {
	if w.line == nil || w.line.heard == 0 {
		return
	}
	heard := w.line.heard
	w.line.heard = 0
	w.db.ring(heard &^ eventsChanged)
	w.mu.Lock()
	w.changed |= heard & eventsChanged
	w.mu.Unlock()
}

// do does what there is to do. What fails and is asked for by nobody is done again later.
func (w *watch) do(ctx context.Context, todo work) {
	if todo.poll {
		w.poll()
	}
	if todo.look != nil || todo.awaited || todo.connect {
		w.lookFor(ctx, todo.look)
	}
	if todo.listen && w.line != nil {
		// Those who wait have looked before somebody tells them, and look once more.
		_ = w.lost(ctx, w.line.listen(ctx)) // it looks time and again then
		if w.line != nil && w.line.listening {
			w.line.heard = everything
		}
	}
	if todo.notify != 0 {
		w.notify(ctx, todo.notify)
	}
	if todo.unlisten && w.line != nil {
		_ = w.lost(ctx, w.line.unlisten(ctx)) // it only hears of what it does not need
	}
	if todo.hangUp {
		w.hangUp(ctx)
	}
	w.hear()
}

// poll wakes everybody, as a notification may have been lost, and says when to do so again: not at the same moment as other processes.
func (w *watch) poll() {
	w.polled, w.interval = time.Now(), w.db.config.PollInterval
	if w.line != nil && w.line.listening {
		w.interval = max(w.interval, slowPoll)
	}
	w.interval -= rand.N(w.interval/8 + 1)
	w.mu.Lock()
	w.changed |= eventsChanged
	w.mu.Unlock()
	w.db.ring(everything &^ eventsChanged)
}

// lookFor has the tail look, and tells those who asked and those who wait.
func (w *watch) lookFor(ctx context.Context, l *look) {
	t := w.db.events.tail
	before := t.known()
	w.looked = time.Now()
	if w.paced.Before(w.looked) {
		w.paced = w.looked
	}
	w.paced = w.paced.Add(lookPace)
	err := w.lookOnce(ctx)
	if w.failed++; err == nil {
		w.failed = 0
	}
	if l != nil {
		l.settled, l.behind, l.err = t.known(), t.behind(), err
		close(l.done)
	}
	// With an error, those who wait find out for themselves what is wrong.
	if err != nil || t.known() != before {
		w.db.eventsBell.ring()
	}
}

// lookOnce has the tail look, on a new connection when the one that there was has been lost meanwhile.
func (w *watch) lookOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	kept := w.line != nil
	err := w.lookOn(ctx)
	if w.line == nil && kept && ctx.Err() == nil {
		err = w.lookOn(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &engineError{kind: ErrUnavailable, err: err} // nobody's context has ended
	}
	return fault(err)
}

func (w *watch) lookOn(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	return w.lost(ctx, w.db.events.tail.round(ctx, w.line))
}

// connect connects, if there is no connection.
func (w *watch) connect(ctx context.Context) (err error) {
	w.used = time.Now()
	if w.line != nil {
		return nil
	}
	if w.line, err = w.db.openLine(ctx); err != nil {
		return err
	}
	w.polled = time.Time{} // what came while there was no connection
	return nil
}

// notify tells other processes. That they are not told costs them time, and nothing else.
func (w *watch) notify(ctx context.Context, changed topic) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	w.notified = time.Now()
	if w.connect(ctx) != nil || w.line.mute {
		return
	}
	heeded, err := w.line.notify(ctx, changed)
	w.heeded = heeded && w.lost(ctx, err) == nil
}

// lost gives the connection up when an error has ended it. It returns the error.
func (w *watch) lost(ctx context.Context, err error) error {
	if err != nil && w.line != nil && w.line.conn.IsClosed() {
		w.hangUp(ctx)
	}
	return err
}

// hangUp closes the connection.
func (w *watch) hangUp(ctx context.Context) {
	if w.line != nil {
		w.line.close(ctx)
		w.line = nil
	}
}

// awaited tells whether somebody listens for the bell.
func (b *bell) awaited() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rung != nil
}
