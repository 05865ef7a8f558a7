package estest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// brokenProcessor are programs whose at-least-once processors have another configuration than they were given.
func brokenProcessor(change func(c *processor.Config)) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.AtLeastOnce = func(c processor.Config) (estest.Processor, error) {
			change(&c)
			return processor.NewAtLeastOnce(c)
		}
	})
}

// brokenPublisher are programs whose processors publish by something that is not what they were given.
func brokenPublisher(wrap func(p es.Publisher) es.Publisher) runtimeBreakage {
	return brokenProcessor(func(c *processor.Config) { c.Publisher = wrap(c.Publisher) })
}

// mostOnceForLeast are programs that may lose what they are to process at least once, and leastOnceForMost those that may repeat.
func mostOnceForLeast() runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.AtLeastOnce = func(c processor.Config) (estest.Processor, error) {
			c.Retry.Attempts = 0
			return processor.NewAtMostOnce(c)
		}
	})
}

func leastOnceForMost() runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.AtMostOnce = func(c processor.Config) (estest.Processor, error) { return processor.NewAtLeastOnce(c) }
	})
}

// publisherFunc is a publisher made of a function.
type publisherFunc func(ctx context.Context, pubs ...es.Publication) error

func (f publisherFunc) Publish(ctx context.Context, pubs ...es.Publication) error {
	return f(ctx, pubs...)
}

// renaming publishes each message under a new ID.
func renaming(to es.Publisher) es.Publisher {
	return publisherFunc(func(ctx context.Context, pubs ...es.Publication) error {
		pubs = slices.Clone(pubs)
		for i, pub := range pubs {
			pubs[i].Message = pub.Message.Clone()
			freshID(pubs[i].Message)
		}
		return to.Publish(ctx, pubs...)
	})
}

// blurring keeps nothing of an error but its text.
func blurring(to es.Publisher) es.Publisher {
	return publisherFunc(func(ctx context.Context, pubs ...es.Publication) error {
		for i, pub := range pubs {
			if err := to.Publish(ctx, pub); err != nil {
				errs := make([]error, len(pubs))
				for j := i; j < len(pubs); j++ {
					errs[j] = es.ErrHeldBack
				}
				errs[i] = errors.New(err.Error())
				return es.BatchErr(errs)
			}
		}
		return nil
	})
}

// backwards publishes the last first.
func backwards(to es.Publisher) es.Publisher {
	return publisherFunc(func(ctx context.Context, pubs ...es.Publication) error {
		for _, pub := range slices.Backward(pubs) {
			if err := to.Publish(ctx, pub); err != nil {
				return err
			}
		}
		return nil
	})
}

// stuck publishes nothing else as long as something has failed and has not succeeded since.
func stuck(to es.Publisher) es.Publisher {
	failed := uuid.Nil
	return publisherFunc(func(ctx context.Context, pubs ...es.Publication) error {
		if failed != uuid.Nil && !slices.ContainsFunc(pubs, func(p es.Publication) bool { return p.Message.ID == failed }) {
			return errBroken
		}
		for _, pub := range pubs {
			if err := to.Publish(ctx, pub); err != nil {
				failed = pub.Message.ID
				return errBroken
			}
		}
		failed = uuid.Nil
		return nil
	})
}

// appendedOtherwise are programs whose processors append by something that is not what they were given.
func appendedOtherwise(wrap func(e es.EventStore) es.EventStore) runtimeBreakage {
	return brokenProcessor(func(c *processor.Config) { c.Events = wrap(c.Events) })
}

// appending is an event store whose appends are changed, or their outcomes.
type appending struct {
	es.EventStore

	change  func(a es.Append) es.Append
	outcome func(a es.Append, o es.Outcome) es.Outcome
}

func (e appending) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	as = slices.Clone(as)
	if e.change != nil {
		for i := range as {
			as[i] = e.change(as[i])
		}
	}
	outcomes := slices.Clone(e.EventStore.AppendEach(ctx, as))
	if e.outcome != nil {
		for i := range outcomes {
			outcomes[i] = e.outcome(as[i], outcomes[i])
		}
	}
	return outcomes
}

func (e appending) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	o := e.AppendEach(ctx, []es.Append{a})[0]
	return o.Appended, o.Err
}

// selfCounting expects each stream at the version that it has counted to by itself.
func selfCounting(e es.EventStore) es.EventStore {
	versions := map[string]int64{}
	return appending{
		EventStore: e,
		change: func(a es.Append) es.Append {
			a.Streams = slices.Clone(a.Streams)
			for i := range a.Streams {
				a.Streams[i].Expect = es.Exactly(versions[a.Streams[i].Stream])
			}
			return a
		},
		outcome: func(a es.Append, o es.Outcome) es.Outcome {
			if o.Err == nil {
				for _, s := range a.Streams {
					versions[s.Stream] += int64(len(s.Events))
				}
			}
			return o
		},
	}
}

// doubling gives a message that it is to append again another ID.
func doubling(e es.EventStore) es.EventStore {
	seen := map[uuid.UUID]bool{}
	return appending{EventStore: e, change: func(a es.Append) es.Append {
		a.Streams = slices.Clone(a.Streams)
		for i, s := range a.Streams {
			a.Streams[i].Events = slices.Clone(s.Events)
			for j, m := range s.Events {
				if seen[m.ID] {
					a.Streams[i].Events[j] = m.Clone()
					freshID(a.Streams[i].Events[j])
				}
				seen[m.ID] = true
			}
		}
		return a
	}}
}

// resigning takes a conflict for the end.
func resigning(e es.EventStore) es.EventStore {
	return appending{EventStore: e, outcome: func(_ es.Append, o es.Outcome) es.Outcome {
		if errors.Is(o.Err, es.ErrConflict) {
			o.Err = es.ErrInvalid
		}
		return o
	}}
}

func runtimeCrashMutants() []runtimeMutant {
	lossy := mostOnceForLeast()
	return []runtimeMutant{
		{"O3/crash_before_the_append_loses_nothing", "completes first", lossy},
		{"O3/crash_after_the_append_loses_nothing", "completes first", lossy},
		{"O3/crash_before_the_publication_loses_nothing", "completes first", lossy},
		{"O3/crash_after_the_publication_loses_nothing", "publishes under new IDs", brokenPublisher(renaming)},
		{"O3/crash_before_the_completion_loses_nothing", "publishes under new IDs", brokenPublisher(renaming)},
		{
			"O3/crash_after_the_completion_repeats_nothing", "completes nothing",
			brokenOutbox(func(m *outboxMutant) { m.complete = func(context.Context, []es.Entry) error { return nil } }),
		},
		{"O3/crash_of_a_processor_that_only_appends_loses_nothing", "completes first", lossy},
		{"O3/a_restart_goes_on_without_a_conflict", "counts versions by itself", appendedOtherwise(selfCounting)},
		{
			"O3/published_is_what_is_stored", "publishes messages as they were enqueued",
			brokenPublisher(func(p es.Publisher) es.Publisher { return unplaced{p} }),
		},
		{"O5/crash_publishes_nothing_twice", "completes last", leastOnceForMost()},
	}
}

func runtimeFailureMutants() []runtimeMutant {
	return []runtimeMutant{
		{"O4/a_failed_append_is_tried_again", "drops it", mostOnceForLeast()},
		{"O4/an_append_that_conflicts_is_tried_again", "gives it up", appendedOtherwise(resigning)},
		{"O4/an_unknown_outcome_of_an_append_is_resolved", "appends again under another ID", appendedOtherwise(doubling)},
		{
			"O4/a_failed_publication_is_tried_and_then_a_dead_letter", "tries once more than it may",
			brokenProcessor(func(c *processor.Config) { c.Retry.Attempts++ }),
		},
		{"O4/a_failing_stream_holds_up_no_other", "holds up all", brokenPublisher(stuck)},
		{"O4/what_can_never_succeed_is_a_dead_letter_at_once", "does not look at the error", brokenPublisher(blurring)},
		{
			"O4/a_stream_goes_on_after_a_dead_letter", "parks it",
			brokenProcessor(func(c *processor.Config) { c.AfterDeadLetter = processor.Park }),
		},
		{
			"O4/a_parked_stream_waits_for_its_dead_letter", "goes on",
			brokenProcessor(func(c *processor.Config) { c.AfterDeadLetter = processor.Continue }),
		},
		{"O4/order_of_a_stream_is_kept_through_failures", "publishes the last first", brokenPublisher(backwards)},
	}
}

// brokenOutbox are programs on a backend whose outbox has calls that go wrong.
func brokenOutbox(change func(m *outboxMutant)) runtimeBreakage {
	return runtimeBreakage{backend: func(b es.Backend) es.Backend {
		m := &outboxMutant{Outbox: b.Outbox(), events: b.Events()}
		change(m)
		return backendWithOutbox{b, m}
	}}
}

type backendWithOutbox struct {
	es.Backend

	outbox es.Outbox
}

func (b backendWithOutbox) Outbox() es.Outbox { return b.outbox }

// deaf sleeps until it is told to end.
func deaf(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// oneClaimASleep gives entries once after each sleep, and sleeps for as long as it may.
func oneClaimASleep(m *outboxMutant) {
	var mu sync.Mutex
	rested := true
	m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if !rested {
			return 0, nil
		}
		n, err := m.Outbox.Claim(ctx, dst, opts)
		rested = n == 0
		return n, err
	}
	m.wait = func(ctx context.Context) error {
		mu.Lock()
		asleep := !rested
		mu.Unlock()
		if asleep {
			return deaf(ctx)
		}
		return m.Outbox.Wait(ctx)
	}
}

// hardOfHearing is woken by what is enqueued on its own handle alone.
func hardOfHearing(m *outboxMutant) {
	called := make(chan struct{}, 1)
	m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
		err := m.Outbox.Enqueue(ctx, msgs...)
		select {
		case called <- struct{}{}:
		default:
		}
		return err
	}
	m.wait = func(ctx context.Context) error {
		select {
		case <-called:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// brokenBatch are programs whose batches are flushed in another way than they should.
func brokenBatch(change func(f *processor.Flush)) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.Batch = func(c processor.Config, f processor.Flush) (estest.Processor, error) {
			change(&f)
			return processor.NewBatch(c, f)
		}
	})
}

func runtimeProcessorMutants() []runtimeMutant {
	return []runtimeMutant{
		{"O5/completed_before_published", "completes last", leastOnceForMost()},
		{"O5/what_fails_is_dropped_and_counted", "tries it again", leastOnceForMost()},
		{"O6/a_batch_is_flushed_when_it_is_full", "waits for nothing", brokenBatch(func(f *processor.Flush) { f.Size = 1 })},
		{"O6/a_batch_is_flushed_when_it_is_full", "waits for its time", brokenBatch(func(f *processor.Flush) { f.Size = 100 })},
		{"O6/a_batch_is_flushed_when_its_time_has_come", "waits until it is full", brokenBatch(func(f *processor.Flush) { f.Interval = time.Hour })},
		{
			"O6/a_batch_that_fails_goes_to_the_dead_stream_whole", "gives up one message alone",
			brokenParts(func(p *estest.Parts) {
				p.Batch = func(c processor.Config, _ processor.Flush) (estest.Processor, error) {
					c.Retry.Attempts = 1
					return processor.NewAtLeastOnce(c)
				}
			}),
		},
		{"O7/wakes_up_when_something_is_enqueued", "looks when its time has come", brokenOutbox(func(m *outboxMutant) { m.wait = deaf })},
		{"O7/wakes_up_for_another_handle", "hears its own handle alone", brokenOutbox(hardOfHearing)},
		{"O7/throughput_does_not_depend_on_polling", "takes one batch each time that it looks", brokenOutbox(oneClaimASleep)},
	}
}

// unstated is a processor that does not tell what is in its outbox.
type unstated struct{ estest.Processor }

func (u unstated) Stats(ctx context.Context) (processor.Stats, error) {
	stats, err := u.Processor.Stats(ctx)
	stats.Outbox = es.OutboxStats{}
	return stats, err
}

func runtimeDrainMutants() []runtimeMutant {
	return []runtimeMutant{
		{
			"O8/a_stop_finishes_what_is_in_hand", "takes more in hand than it may",
			brokenProcessor(func(c *processor.Config) { c.InHand = 256 }),
		},
		{
			"O8/what_is_broken_off_is_released_at_once", "keeps it until its lease ends",
			brokenOutbox(func(m *outboxMutant) { m.release = func(context.Context, []es.Entry) error { return nil } }),
		},
		{
			"O8/what_is_broken_off_is_released_at_once", "counts it as an attempt",
			brokenOutbox(func(m *outboxMutant) {
				m.release = func(ctx context.Context, entries []es.Entry) error {
					return m.Outbox.Fail(ctx, entries, es.Failure{Err: errBroken})
				}
			}),
		},
		{
			"O8/depth_age_and_failures_can_be_read", "tells nothing of the outbox",
			brokenParts(func(p *estest.Parts) {
				p.AtLeastOnce = func(c processor.Config) (estest.Processor, error) {
					proc, err := processor.NewAtLeastOnce(c)
					return unstated{proc}, err
				}
			}),
		},
	}
}
