package router

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// lane brings messages from the subscriptions of a route to its handler, from the start of the route until it is stopped or paused.
//
// It has as many workers as the route handles messages at once, and a keeper. A worker that finds nothing to handle receives a batch,
// unless another is at that already, and puts it into queues by their keys; so with one worker everything happens in one goroutine.
// The keeper looks after what does not go by itself while handlers run: acknowledgements that wait for the rest of their
// batch, leases, busy messages whose time has come, answers that have to be given again, and what is left at the end. Where dead
// letters come back, one more goroutine receives them and puts their originals into the same queues, for the same workers; and there is
// one worker more than may handle at once (see seats), so that another need not be called back from waiting for messages.
type lane struct {
	spec

	chain    es.Handler
	onClosed func(error) // called when a subscription was closed by somebody else

	// These are set before the lane runs.
	messages  *intake
	replays   *intake         // nil when the route takes no dead letters back
	intakes   []*intake       // those there are
	receiving context.Context //nolint:containedctx // ends when no more messages are to be received
	handlers  context.Context //nolint:containedctx // ends when handlers are to be broken off
	answers   context.Context //nolint:containedctx // ends when nobody waits for answers any more
	marker    *es.Delivery    // stands for the delivery in handlers; see handling
	wake      chan struct{}   // tells the keeper to look
	gone      chan struct{}   // closed when every goroutine has ended
	seed      maphash.Seed

	stopReceiving context.CancelFunc
	breakOff      context.CancelCauseFunc
	giveUp        context.CancelFunc
	goroutines    sync.WaitGroup

	mu       sync.Mutex    // everything below
	idle     sync.Cond     // for workers without work
	waiting  int           // how many of them there are
	workers  int           // how many goroutines there are that bring or handle deliveries
	fetching bool          // a worker is receiving
	seats    int           // how many workers more may handle: those that wait or receive have none
	running  int           // how many handlers run
	stopping bool          // nothing new is begun
	quiet    chan struct{} // closed when the lane stops and no handler runs any more
	isQuiet  bool

	table      []*queue // those with something in them, by the hash of their key
	readyFirst *queue   // those that can be taken from
	readyLast  *queue
	readyCount int
	spareQueue *queue
	inHand     []*batch // with deliveries that are not answered

	parked    []parked
	unparking int       // how many of those are being given back
	flushDue  bool      // acknowledgements wait for the keeper
	retryAt   time.Time // when answers that failed are given again
	due       time.Time // when the keeper looks next; zero: when it is told

	stats      Stats
	brokenOff  int // how many handlers did not finish because they were stopped
	answerErr  trouble
	answerErrs int // how often in a row
	deadErr    trouble
}

// run begins to work. The lane ends by stop, or when a subscription is closed by somebody else; onGone is called then, as the last
// thing but for closing gone.
func (l *lane) run(base context.Context, onGone func(*lane)) {
	l.receiving, l.stopReceiving = context.WithCancel(base)
	l.answers, l.giveUp = context.WithCancel(base)
	handlers, breakOff := context.WithCancelCause(base)
	l.breakOff = breakOff
	l.handlers, l.marker = mark(handlers)
	l.wake = make(chan struct{}, 1)
	l.quiet = make(chan struct{})
	l.gone = make(chan struct{})
	l.idle.L = &l.mu
	l.seed = maphash.MakeSeed()
	slots := 1
	if l.opts.Concurrency > 1 {
		slots = slotsPerMessage * l.opts.Batch
	}
	l.table = make([]*queue, slots)
	l.seats, l.workers = l.opts.Concurrency, l.opts.Concurrency
	if l.replays != nil {
		l.workers += 2 // the one that receives replays, and one that receives messages while as many as may handle replays
		l.goroutines.Go(l.replays.work)
		l.goroutines.Go(l.work)
	}
	for range l.opts.Concurrency {
		l.goroutines.Go(l.work)
	}
	l.goroutines.Go(l.keep)
	go func() {
		l.goroutines.Wait()
		l.stopReceiving()
		l.breakOff(ErrStopped)
		l.giveUp()
		onGone(l)
		close(l.gone)
	}()
}

// slotsPerMessage is how large the table of queues is, for each message of a batch: most often not more than one is in hand.
const slotsPerMessage = 2

// stop lets no more deliveries be begun. What waits is given back by the keeper.
func (l *lane) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
	l.noteQuiet()
	l.idle.Broadcast()
	l.wakeKeeper()
	l.stopReceiving()
}

// answerPatience is how long the subscription has to take the last answers when patience is over and the last handler has returned.
const answerPatience = 5 * time.Second

// end waits until every goroutine of a lane that was stopped has ended: by itself as long as patience lasts, and with its context
// ended after that. It may be called by several at once; the shortest patience counts.
func (l *lane) end(patience <-chan struct{}) {
	select {
	case <-l.gone:
		return
	case <-patience:
	}
	l.breakOff(ErrStopped)
	<-l.quiet // however long that takes: what its handler did is to be acknowledged, and its lease to be held until then
	last := time.NewTimer(answerPatience)
	defer last.Stop()
	select {
	case <-l.gone:
		return
	case <-last.C:
	}
	l.log.Warn("the subscription does not take the last answers; giving up")
	l.giveUp()
	<-l.gone
}

// broken returns how many handlers did not finish because they were stopped.
func (l *lane) broken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.brokenOff
}

// noteQuiet tells those who wait for it when the last handler has returned.
func (l *lane) noteQuiet() {
	if l.stopping && l.running == 0 && !l.isQuiet {
		l.isQuiet = true
		close(l.quiet)
	}
}

// key returns the ordering key of an item.
func (l *lane) key(it *item) string {
	m := it.delivery().Message
	if l.opts.Key != nil {
		return l.opts.Key(m)
	}
	return m.Stream
}

// worker is what one worker has for itself.
type worker struct {
	contexts []handling // unused ones
	answers  answers
	seated   bool  // it may handle
	running  *item // nil while no handler runs
}

// contextsAtOnce is how many contexts are made at a time.
const contextsAtOnce = 128

func (w *worker) context(it *item) *handling {
	if len(w.contexts) == 0 {
		w.contexts = make([]handling, contextsAtOnce)
	}
	ctx := &w.contexts[0]
	w.contexts = w.contexts[1:]
	ctx.batch, ctx.d, ctx.gen = it.batch, it.delivery(), it.batch.gen
	return ctx
}

// work handles deliveries until the lane stops.
func (l *lane) work() {
	w := &worker{}
	defer func() {
		if w.running != nil { // the handler has ended the goroutine; another takes over
			l.replace(w)
		}
	}()
	l.mu.Lock()
	for {
		it := l.next(w)
		if it == nil {
			break
		}
		w.running = it
		l.running++
		l.mu.Unlock()
		out := l.handle(w.context(it), it.delivery())
		l.mu.Lock()
		w.running = nil
		l.ended()
		l.settle(w, it, out)
	}
	l.workers--
	l.wakeKeeper()
	l.mu.Unlock()
}

// ended notes that a handler has returned.
func (l *lane) ended() {
	l.running--
	l.noteQuiet()
}

var errGoexit = errors.New("the handler called runtime.Goexit")

// replace settles what a worker had in hand when its goroutine was ended by runtime.Goexit, and starts another.
func (l *lane) replace(w *worker) {
	out := l.judgeExit(w.context(w.running), w.running.delivery())
	l.mu.Lock()
	l.ended()
	l.settle(w, w.running, out)
	l.rise(w)
	l.mu.Unlock()
	l.goroutines.Go(l.work)
}

// next returns the next delivery to handle, and nil when there are to be no more.
func (l *lane) next(w *worker) *item {
	for !l.stopping {
		if l.sit(w) {
			if it := l.take(); it != nil {
				return it
			}
		}
		if w.seated || l.replaying() {
			if b := l.spareBatch(); b != nil {
				l.fetch(w, b)
				continue
			}
		}
		l.rise(w)
		l.waiting++
		l.idle.Wait()
		l.waiting--
	}
	return nil
}

// sit gives a worker the right to handle, if it can have it.
func (l *lane) sit(w *worker) bool {
	if !w.seated && l.seats > 0 {
		w.seated = true
		l.seats--
	}
	return w.seated
}

// rise takes the right to handle back from a worker that waits or receives.
func (l *lane) rise(w *worker) {
	if w.seated {
		w.seated = false
		l.seats++
	}
}

// replaying tells whether there are replays in hand. As long as that is so messages are received beside their handlers: otherwise they
// would wait until the last of however many replays is handled.
func (l *lane) replaying() bool { return l.replays != nil && l.replays.inHand > 0 }

// spareBatch returns a batch to receive messages into, and nil when another worker is receiving or there are enough in hand.
func (l *lane) spareBatch() *batch {
	if l.fetching {
		return nil
	}
	return l.messages.spareBatch()
}

// fetch receives a batch. What is handled is acknowledged before, because it may be what the next messages wait for.
func (l *lane) fetch(w *worker, b *batch) {
	l.fetching = true
	l.flush(&w.answers)
	if w.seated && l.readyCount > 0 { // it came meanwhile
		l.fetching = false
		l.messages.putBack(b)
		return
	}
	l.rise(w)
	l.mu.Unlock()
	n, err := l.messages.receive(l.receiving, b.room)
	now := time.Now()
	l.mu.Lock()
	l.fetching = false
	l.sit(w) // before another is woken for what this one takes itself
	if n == 0 {
		l.messages.putBack(b)
		l.messages.ended(err)
		l.idle.Broadcast()
		return
	}
	l.messages.err = trouble{}
	l.enqueue(b, n, now)
	if l.stopping {
		l.wakeKeeper()
		return
	}
	l.wakeWorkers()
}

// wakeWorkers wakes as many workers as there are queues to take from, and one to receive, as far as they may. The one that calls this
// takes one of these parts itself.
func (l *lane) wakeWorkers() {
	useful := l.seats
	if !l.fetching && l.replaying() {
		useful++
	}
	for range min(l.waiting, max(l.readyCount, 1), useful) {
		l.idle.Signal()
	}
}

// wakeKeeper tells the keeper that there is something to do.
func (l *lane) wakeKeeper() {
	select {
	case l.wake <- struct{}{}:
	default: // it was told already
	}
}
