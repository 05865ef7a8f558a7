package workloads

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

const (
	threeCommits   = "three commits and 1 ms"
	handedMessages = 200
	handedPace     = 2 * time.Millisecond
)

func sqliteOutboxToHandler() measure.Workload {
	return measure.Workload{
		Name:  "sqlite-outbox-handler",
		Title: "SQLite, synchronous=FULL: from Enqueue to the handler, at 500 messages a second",
		About: "Every 2 milliseconds a message is enqueued. An at-least-once processor appends it and publishes it in memory, and a router " +
			"brings it to the handler. The time is that from the call of Enqueue to that of the handler. Each message is handled once, in the " +
			"order of its stream.",
		Unit:     measure.Latency,
		Messages: handedMessages,
		Contenders: []measure.Contender{
			{
				Name: measure.Ours, Open: openHanding,
				How: "sqlite.Open, processor.NewAtLeastOnce, memory.PubSub and router.New with their defaults",
			},
			{
				Name: threeCommits, Open: openThreeCommits,
				How: "three times what a bare INSERT in a transaction of its own takes at the same pace, and a millisecond",
			},
		},
		Floors: []measure.Floor{
			{Against: threeCommits, Ratio: 1, Why: "to enqueue, claim and forward is a commit each; the goal is two and half a millisecond"},
		},
	}
}

// handing is a program that hands messages through its outbox to a handler.
type handing struct {
	backend es.Backend
	discard func() error // what the backend keeps, when it is closed
	broker  *memory.PubSub
	group   *es.Group
	total   uint64
	round   atomic.Pointer[handingRound]
}

// handingRound is what is known of the messages of a round.
type handingRound struct {
	first  uint64
	sent   []time.Time
	laps   []time.Duration
	ledger *measure.Ledger
	done   chan struct{} // closed when all have been handled
}

func openHanding(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	f, err := filledOurs(ctx, s, appendPlan{}.storing(s))
	if err != nil {
		return nil, err
	}
	h, err := newHanding(ctx, f.db)
	if err != nil {
		return nil, errors.Join(err, f.db.Close())
	}
	h.discard = func() error { return discard(f.path) }
	return h, nil
}

func newHanding(ctx context.Context, backend es.Backend) (*handing, error) {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return nil, err
	}
	h := &handing{backend: backend, broker: broker}
	forward, err := processor.NewAtLeastOnce(processor.Config{Outbox: backend.Outbox(), Events: backend.Events(), Publisher: broker})
	if err != nil {
		return nil, err
	}
	handle, err := router.New(router.Config{Subscriber: broker})
	if err != nil {
		return nil, err
	}
	if err := handle.Route(topic, h, router.Options{}); err != nil {
		return nil, err
	}
	h.group = es.NewGroup("handing", handle, forward)
	return h, h.group.Start(ctx)
}

// Handle implements [es.Handler].
func (h *handing) Handle(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
	now := time.Now()
	round := h.round.Load()
	number, err := stampedNumber(d.Data)
	if err != nil {
		return nil, err
	}
	i := number - round.first
	round.ledger.Take(i)
	round.laps = append(round.laps, now.Sub(round.sent[i]))
	if len(round.laps) == len(round.sent) {
		close(round.done)
	}
	return nil, nil
}

// Run enqueues n messages at their pace.
func (h *handing) Run(ctx context.Context, n int) (measure.Result, error) {
	round := &handingRound{
		first: h.total, sent: make([]time.Time, n), laps: make([]time.Duration, 0, n),
		ledger: measure.NewLedger(n, streamCount), done: make(chan struct{}),
	}
	h.total += uint64(n) //nolint:gosec // a count
	h.round.Store(round)
	var watch measure.Stopwatch
	watch.Start()
	err := paced(ctx, n, handedPace, func(i int) error {
		m := newEvent()
		m.Stream = fmt.Sprintf("%s-%d", topic, i%streamCount)
		round.sent[i] = time.Now()
		stamp(m, round.first+uint64(i), round.sent[i]) //nolint:gosec // a count
		return h.backend.Outbox().Enqueue(ctx, m)
	})
	if err != nil {
		return measure.Result{}, err
	}
	select {
	case <-round.done:
	case <-h.group.Done():
		return measure.Result{}, fmt.Errorf("a component has ended: %w", h.group.Err())
	case <-ctx.Done():
		return measure.Result{}, ctx.Err()
	}
	watch.Stop()
	result := watch.Result(round.ledger.Close())
	result.Median, result.Slowest = percentiles(round.laps)
	return result, nil
}

// Close stops the program, and looks at what is left.
func (h *handing) Close() error {
	ctx := context.Background()
	stopped := h.group.Stop(ctx)
	stats, err := h.backend.Outbox().Stats(ctx)
	if err == nil && stats.Depth+stats.Dead > 0 {
		err = fmt.Errorf("the outbox is left with %d messages and %d dead letters", stats.Depth, stats.Dead)
	}
	return errors.Join(stopped, err, h.broker.Close(), h.backend.Close(), h.discard())
}

// paced calls do n times, at a pace that does not wait for the calls to return, and waits for them at the end.
func paced(ctx context.Context, n int, pace time.Duration, do func(i int) error) error {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	var calls sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			calls.Wait()
			return ctx.Err()
		}
		calls.Go(func() { errs[i] = do(i) })
	}
	calls.Wait()
	return errors.Join(errs...)
}

// threeCommitsOf commits at a pace, and triples what that takes.
type threeCommitsOf struct {
	file    eventFile
	message *es.Message
	discard func(path string) error
	busy    sync.Mutex
	total   uint64
}

func openThreeCommits(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	f, err := filledBare(ctx, s, appendPlan{}.storing(s))
	if err != nil {
		return nil, err
	}
	return &threeCommitsOf{file: f, message: newEvent(), discard: discard}, nil
}

// Run commits n events.
func (t *threeCommitsOf) Run(ctx context.Context, n int) (measure.Result, error) {
	laps := make([]time.Duration, n)
	var watch measure.Stopwatch
	watch.Start()
	err := paced(ctx, n, handedPace, func(i int) error {
		t.busy.Lock()
		defer t.busy.Unlock()
		began := time.Now()
		stamp(t.message, t.total, began)
		t.total++
		t.message.Stream = streamName(t.total)
		_, err := t.file.append(ctx, es.AppendTo(t.message.Stream, es.NoStream, t.message))
		laps[i] = time.Since(began)
		return err
	})
	watch.Stop()
	result := watch.Result(measure.Faults{})
	median, slowest := percentiles(laps)
	result.Median, result.Slowest = 3*median+time.Millisecond, 3*slowest+time.Millisecond
	return result, err
}

// Close closes the file.
func (t *threeCommitsOf) Close() error {
	path, err := t.file.close()
	return errors.Join(err, t.discard(path))
}
