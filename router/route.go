package router

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// route takes messages from one subscription to one handler.
//
// It has as many workers as it handles messages at once, and a keeper. A worker that finds nothing to handle receives a batch,
// unless another is at that already, and puts it into queues by their keys; so with one worker everything happens in one goroutine.
// The keeper looks after what does not go by itself while handlers run: acknowledgements that wait for the rest of their
// batch, leases, busy messages whose time has come, answers that have to be given again, and what is left at the end.
type route struct {
	topic, name string
	config      Config
	opts        Options
	handler     es.Handler
	log         *slog.Logger
	onClosed    func(error) // called when the subscription was closed by somebody else
	toDead      bool        // its topic is that of the dead letters

	// These are set when the route starts.
	chain     es.Handler
	sub       es.Subscription
	receiving context.Context //nolint:containedctx // ends when no more messages are to be received
	handlers  context.Context //nolint:containedctx // ends when handlers are to be broken off
	answers   context.Context //nolint:containedctx // ends when nobody waits for answers any more
	marker    *es.Delivery    // stands for the delivery in handlers; see handling
	wake      chan struct{}   // tells the keeper to look
	seed      maphash.Seed

	mu       sync.Mutex    // everything below
	idle     sync.Cond     // for workers without work
	waiting  int           // how many of them there are
	workers  int           // how many workers there are
	fetching bool          // a worker is receiving
	running  int           // how many handlers run
	stopping bool          // nothing new is begun
	quiet    chan struct{} // closed when the route stops and no handler runs any more
	isQuiet  bool

	table      []*queue // those with something in them, by the hash of their key
	readyFirst *queue   // those that can be taken from
	readyLast  *queue
	readyCount int
	spareQueue *queue
	inHand     []*batch // with deliveries that are not answered
	spare      []*batch
	batches    int // how many there are, in hand and spare
	pending    int // answers to be given, over all batches

	parked    []parked
	unparking int       // how many of those are being given back
	flushDue  bool      // acknowledgements wait for the keeper
	retryAt   time.Time // when answers that failed are given again
	due       time.Time // when the keeper looks next; zero: when it is told

	stats      Stats
	brokenOff  int // how many handlers did not finish because they were stopped
	receiveErr error
	answerErr  error
	answerErrs int // how often in a row
	deadErr    error
}

// start makes the chain and subscribes.
func (rt *route) start(ctx context.Context, subscriber es.Subscriber, outer []es.Middleware) error {
	chain, err := rt.link(outer)
	if err != nil {
		return err
	}
	rt.chain = chain
	rt.sub, err = subscriber.Subscribe(ctx, rt.topic, es.SubscribeOptions{
		Group: rt.name, Start: rt.opts.Start, Lease: rt.opts.Lease, Key: rt.opts.Key,
	})
	return err
}

// link wraps the handler: the router's middleware outermost, then the route's, then the sending of outputs.
func (rt *route) link(outer []es.Middleware) (es.Handler, error) {
	var chain es.Handler = &emitting{next: rt.handler, emit: rt.config.Emit, topic: rt.topic, route: rt.name}
	for _, middleware := range [][]es.Middleware{rt.opts.Middleware, outer} {
		for i, wrap := range slices.Backward(middleware) {
			if chain = wrap(chain); chain == nil {
				return nil, es.Invalidf("middleware", "at index %d made a handler that is nil", i)
			}
		}
	}
	return chain, nil
}

// run begins to work. Each goroutine is started by spawn.
func (rt *route) run(receiving, handlers, answers context.Context, spawn func(func())) {
	rt.receiving, rt.answers = receiving, answers
	rt.handlers, rt.marker = mark(handlers)
	rt.wake = make(chan struct{}, 1)
	rt.quiet = make(chan struct{})
	rt.idle.L = &rt.mu
	rt.seed = maphash.MakeSeed()
	slots := 1
	if rt.opts.Concurrency > 1 {
		slots = slotsPerMessage * rt.opts.Batch
	}
	rt.table = make([]*queue, slots)
	rt.workers = rt.opts.Concurrency
	for range rt.opts.Concurrency {
		spawn(func() { rt.work(spawn) }) //nolint:contextcheck // the contexts of the route live as long as it does
	}
	spawn(rt.keep)
}

// slotsPerMessage is how large the table of queues is, for each message of a batch: most often not more than one is in hand.
const slotsPerMessage = 2

// stop lets no more deliveries be begun. What waits is given back by the keeper.
func (rt *route) stop() {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.stopping = true
	rt.noteQuiet()
	rt.idle.Broadcast()
	rt.wakeKeeper()
}

// noteQuiet tells those who wait for it when the last handler has returned.
func (rt *route) noteQuiet() {
	if rt.stopping && rt.running == 0 && !rt.isQuiet {
		rt.isQuiet = true
		close(rt.quiet)
	}
}

// key returns the ordering key of an item.
func (rt *route) key(it *item) string {
	m := it.delivery().Message
	if rt.opts.Key != nil {
		return rt.opts.Key(m)
	}
	return m.Stream
}

// worker is what one worker has for itself.
type worker struct {
	contexts []handling // unused ones
	answers  answers
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

// work handles deliveries until the route stops.
func (rt *route) work(spawn func(func())) {
	w := &worker{}
	defer func() {
		if w.running != nil { // the handler has ended the goroutine; another takes over
			rt.replace(w, spawn)
		}
	}()
	rt.mu.Lock()
	for {
		it := rt.next(w)
		if it == nil {
			break
		}
		w.running = it
		rt.running++
		rt.mu.Unlock()
		out := rt.handle(w.context(it), it.delivery())
		rt.mu.Lock()
		w.running = nil
		rt.ended()
		rt.settle(w, it, out)
	}
	rt.workers--
	rt.wakeKeeper()
	rt.mu.Unlock()
}

// ended notes that a handler has returned.
func (rt *route) ended() {
	rt.running--
	rt.noteQuiet()
}

var errGoexit = errors.New("the handler called runtime.Goexit")

// replace settles what a worker had in hand when its goroutine was ended by runtime.Goexit, and starts another.
func (rt *route) replace(w *worker, spawn func(func())) {
	out := rt.judge(w.context(w.running), w.running.delivery(), errGoexit)
	rt.mu.Lock()
	rt.ended()
	rt.settle(w, w.running, out)
	rt.mu.Unlock()
	spawn(func() { rt.work(spawn) })
}

// next returns the next delivery to handle, and nil when there are to be no more.
func (rt *route) next(w *worker) *item {
	for !rt.stopping {
		if it := rt.take(); it != nil {
			return it
		}
		if b := rt.spareBatch(); b != nil {
			rt.fetch(w, b)
			continue
		}
		rt.waiting++
		rt.idle.Wait()
		rt.waiting--
	}
	return nil
}

// spareBatch returns a batch to receive into, and nil when another worker is receiving or there are enough batches in hand:
// one for each worker, that a slow message may hold, and one to go on with.
func (rt *route) spareBatch() *batch {
	if rt.fetching {
		return nil
	}
	if n := len(rt.spare); n > 0 {
		b := rt.spare[n-1]
		rt.spare = rt.spare[:n-1]
		return b
	}
	if rt.batches > rt.opts.Concurrency {
		return nil
	}
	rt.batches++
	return rt.newBatch()
}

// fetch receives a batch. What is handled is acknowledged before, because it may be what the next messages wait for.
func (rt *route) fetch(w *worker, b *batch) {
	rt.fetching = true
	if rt.pending > 0 {
		rt.flush(&w.answers)
	}
	rt.mu.Unlock()
	n, err := rt.receive(b.room)
	now := time.Now()
	rt.mu.Lock()
	rt.fetching = false
	if n == 0 {
		rt.spare = append(rt.spare, b)
		if err != nil {
			rt.stopping = true // only this route: its messages end here
			rt.receiveErr = err
			rt.onClosed(err)
		}
		rt.idle.Broadcast()
		return
	}
	rt.receiveErr = nil
	rt.enqueue(b, n, now)
	if rt.stopping {
		rt.wakeKeeper()
		return
	}
	rt.wakeWorkers()
}

// receiveDelay is how long to wait when nothing could be received so often in a row.
func (rt *route) receiveDelay(times int) time.Duration {
	return middleware.Backoff{Base: 100 * time.Millisecond, Max: 10 * time.Second, Random: rt.config.Backoff.Random}.Delay(times)
}

// receive waits for messages and returns how many there are: none when the route is to stop, and then an error when nobody has
// asked it to. Other errors are waited out.
func (rt *route) receive(room []es.Delivery) (int, error) {
	for attempt := 1; ; attempt++ {
		n, err := rt.sub.Receive(rt.receiving, room)
		switch {
		case n > 0 && err == nil:
			return n, nil
		case rt.receiving.Err() != nil:
			return 0, nil //nolint:nilerr // to be stopped is no error
		case errors.Is(err, es.ErrClosed):
			return 0, fmt.Errorf("route %q of topic %q: receive: %w", rt.name, rt.topic, err)
		case err == nil:
			err = errors.New("the subscription returned without a message")
		}
		delay := rt.receiveDelay(attempt)
		rt.log.Warn("messages could not be received; trying again", "error", err, "attempt", attempt, "delay", delay)
		rt.mu.Lock()
		rt.receiveErr = fmt.Errorf("receive: %w", err)
		rt.mu.Unlock()
		pause(rt.receiving, delay)
	}
}

// pause waits until a time has passed or ctx has ended.
func pause(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// wakeWorkers wakes as many workers as there are queues to take from, and one to receive. The one that calls this takes one
// of these parts itself.
func (rt *route) wakeWorkers() {
	for range min(rt.waiting, max(rt.readyCount, 1)) {
		rt.idle.Signal()
	}
}

// wakeKeeper tells the keeper that there is something to do.
func (rt *route) wakeKeeper() {
	select {
	case rt.wake <- struct{}{}:
	default: // it was told already
	}
}
