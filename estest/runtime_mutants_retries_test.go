package estest_test

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// brokenRetry are programs whose retry has another configuration than it was given.
func brokenRetry(change func(c *middleware.RetryConfig)) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.Retry = func(c middleware.RetryConfig) es.Middleware {
			change(&c)
			return middleware.Retry(c)
		}
	})
}

// aroundHandler makes middleware of what is done around the rest of the chain.
func aroundHandler(do func(ctx context.Context, d *es.Delivery, next es.Handler) ([]*es.Message, error)) es.Middleware {
	return func(next es.Handler) es.Handler {
		return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) { return do(ctx, d, next) })
	}
}

// stubbornRetry tries everything again, whatever the handler says about it.
func stubbornRetry(c middleware.RetryConfig) es.Middleware {
	return aroundHandler(func(ctx context.Context, d *es.Delivery, next es.Handler) ([]*es.Message, error) {
		outputs, err := next.Handle(ctx, d)
		switch {
		case err == nil:
			return outputs, nil
		case d.Attempt < c.Attempts:
			return nil, es.RetryAfter(0, err)
		default:
			return nil, es.DeadLetter(err)
		}
	})
}

// sleepingRetry waits on the worker.
func sleepingRetry(c middleware.RetryConfig) es.Middleware {
	return aroundHandler(func(ctx context.Context, d *es.Delivery, next es.Handler) ([]*es.Message, error) {
		for attempt := 1; ; attempt++ {
			outputs, err := next.Handle(ctx, d)
			if err == nil {
				return outputs, nil
			}
			select {
			case <-time.After(c.Backoff.Delay(attempt)):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
}

func runtimeRetryMutants() []runtimeMutant {
	stubborn := brokenParts(func(p *estest.Parts) { p.Retry = stubbornRetry })
	return []runtimeMutant{
		{
			"R4/what_fails_comes_again_as_a_further_attempt", "calls each attempt the first",
			brokenBroker(breakage{receive: received(firstAttempt)}),
		},
		{"R4/attempts_are_bounded", "has no bound", brokenRetry(func(c *middleware.RetryConfig) { c.Attempts = -1 })},
		{"R4/elapsed_time_is_bounded", "has no bound", brokenRetry(func(c *middleware.RetryConfig) { c.Elapsed = 0 })},
		{"R4/a_retry_blocks_no_other_key", "sleeps on the worker", brokenParts(func(p *estest.Parts) { p.Retry = sleepingRetry })},
		{
			"R4/later_messages_of_the_key_wait_for_the_retry", "orders nothing",
			brokenRoute(func(o *router.Options) { o.Key = messageKey }),
		},
		{
			"R4/delays_grow_exponentially", "waits as long each time",
			brokenRetry(func(c *middleware.RetryConfig) { c.Backoff.Max = c.Backoff.Base }),
		},
		{
			"R4/retry_after_waits_as_long_as_it_says", "waits for nothing",
			brokenBroker(breakage{nack: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery, _ time.Duration) error {
				return s.sub.Nack(ctx, ds, 0)
			}}),
		},
		{"R4/skip_is_done", "takes it for a failure", brokenHandler(func(_ router.Config, next es.Handler) es.HandlerFunc {
			return func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
				outputs, err := next.Handle(ctx, d)
				if verdict, _ := es.Judge(err); verdict == es.VerdictSkip {
					return nil, errBroken
				}
				return outputs, err
			}
		})},
		{"R4/dead_letter_is_not_tried_again", "tries it again", stubborn},
		{"R4/permanent_error_is_not_tried_again", "tries it again", stubborn},
	}
}

// brokenLetters are programs whose dead letters are sent in another way, which is given that by which they should be.
func brokenLetters(by func(send router.Emitter) router.Emitter) runtimeBreakage {
	return brokenConfig(func(c *router.Config) { c.DeadLetter = by(c.Emit) })
}

// brokenRecord are programs whose dead letters have another message and record than they should.
func brokenRecord(change func(m *es.Message, r *es.DeadLetterRecord)) runtimeBreakage {
	return brokenLetters(func(send router.Emitter) router.Emitter {
		return func(ctx context.Context, msgs []*es.Message) error {
			own := make([]*es.Message, len(msgs))
			for i, m := range msgs {
				own[i] = m.Clone()
				var record es.DeadLetterRecord
				if err := json.Unmarshal(m.Data, &record); err != nil {
					return err
				}
				change(own[i], &record)
				data, err := json.Marshal(record)
				if err != nil {
					return err
				}
				own[i].Data = data
			}
			return send(ctx, own)
		}
	})
}

func runtimeDeadLetterMutants() []runtimeMutant {
	facts := func(name string, change func(r *es.DeadLetterRecord)) runtimeMutant {
		return runtimeMutant{
			"R5/a_dead_letter_has_all_the_facts", name,
			brokenRecord(func(_ *es.Message, r *es.DeadLetterRecord) { change(r) }),
		}
	}
	return []runtimeMutant{
		facts("leaves out the attempts", func(r *es.DeadLetterRecord) { r.Attempts = 0 }),
		facts("leaves out the error", func(r *es.DeadLetterRecord) { r.Error = "" }),
		facts("leaves out the route", func(r *es.DeadLetterRecord) { r.Handler = "" }),
		facts("leaves out the topic", func(r *es.DeadLetterRecord) { r.Topic = "" }),
		facts("leaves out the time", func(r *es.DeadLetterRecord) { r.Time = time.Time{} }),
		facts("leaves out the data", func(r *es.DeadLetterRecord) { r.Original.Data = nil }),
		facts("leaves out the metadata", func(r *es.DeadLetterRecord) { r.Original.Metadata = nil }),
		{"R5/a_dead_letter_names_its_original", "sends it under the ID of the original", brokenRecord(func(m *es.Message, r *es.DeadLetterRecord) {
			m.ID = r.Original.ID
		})},
		{"R5/a_dead_letter_names_its_original", "leaves out the cause", brokenRecord(func(m *es.Message, _ *es.DeadLetterRecord) {
			m.CausationID = ""
		})},
		{"R5/a_panic_has_its_stack", "leaves it out", brokenRecord(func(_ *es.Message, r *es.DeadLetterRecord) { r.Stack = "" })},
		{"R5/what_cannot_be_buried_is_not_lost", "says that it was sent", brokenLetters(unfailing)},
		{
			"R5/one_dead_letter_although_the_answer_was_lost", "gives dead letters new IDs",
			brokenRecord(func(m *es.Message, _ *es.DeadLetterRecord) { freshID(m) }),
		},
		{
			"R7/a_panic_is_a_failure_like_any_other", "takes it for a success",
			brokenParts(func(p *estest.Parts) {
				p.Recover = func(middleware.RecoverConfig) es.Middleware { return forgivingRecover }
			}),
		},
		{
			"R7/a_panic_is_a_failure_like_any_other", "does not recover",
			brokenParts(func(p *estest.Parts) { p.Recover = func(middleware.RecoverConfig) es.Middleware { return asItIs } }),
		},
		{"R7/a_panic_without_recover_harms_nobody", "takes it for a success", brokenHandler(func(_ router.Config, next es.Handler) es.HandlerFunc {
			return forgivingRecover(next).Handle
		})},
	}
}

// asItIs is middleware that does nothing.
func asItIs(next es.Handler) es.Handler { return next }

// forgivingRecover makes a success of a panic.
func forgivingRecover(next es.Handler) es.Handler {
	return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) (outputs []*es.Message, err error) {
		defer func() { _ = recover() }()
		return next.Handle(ctx, d)
	})
}

// brokenQueue is what looks after dead letters, with something wrong. What is nil is not broken.
type brokenQueue struct {
	*deadletter.Queue

	config    deadletter.Config
	discard   func(ctx context.Context, q brokenQueue, ids []uuid.UUID) error
	replay    func(ctx context.Context, q brokenQueue, ids []uuid.UUID) error
	replayAll func(ctx context.Context, q brokenQueue, f deadletter.Filter) (int, error)
}

func (q brokenQueue) Discard(ctx context.Context, ids ...uuid.UUID) error {
	if q.discard != nil {
		return q.discard(ctx, q, ids)
	}
	return q.Queue.Discard(ctx, ids...)
}

func (q brokenQueue) Replay(ctx context.Context, ids ...uuid.UUID) error {
	if q.replay != nil {
		return q.replay(ctx, q, ids)
	}
	return q.Queue.Replay(ctx, ids...)
}

func (q brokenQueue) ReplayAll(ctx context.Context, f deadletter.Filter) (int, error) {
	if q.replayAll != nil {
		return q.replayAll(ctx, q, f)
	}
	return q.Queue.ReplayAll(ctx, f)
}

func brokenDeadLetters(broken brokenQueue) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.DeadLetters = func(c deadletter.Config) (estest.DeadLetters, error) {
			q, err := deadletter.New(c)
			broken.Queue, broken.config = q, c
			return broken, err
		}
	})
}

// toEverybody puts the originals of dead letters into the outbox, from where they go to all who are subscribed to their topic.
func toEverybody(ctx context.Context, q brokenQueue, ids []uuid.UUID) error {
	for _, id := range ids {
		letter, err := q.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := q.config.Outbox.Enqueue(ctx, letter.Original.Message()); err != nil {
			return err
		}
	}
	return q.Queue.Discard(ctx, ids...)
}

// lastFirst replays dead letters in the wrong order.
func lastFirst(ctx context.Context, q brokenQueue, f deadletter.Filter) (int, error) {
	var ids []uuid.UUID
	for letter, err := range q.List(ctx, f) {
		if err != nil {
			return 0, err
		}
		ids = append([]uuid.UUID{letter.ID}, ids...)
	}
	for _, id := range ids {
		if err := q.Queue.Replay(ctx, id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func runtimeReplayMutants() []runtimeMutant {
	nothing := func(context.Context, brokenQueue, []uuid.UUID) error { return nil }
	return []runtimeMutant{
		{"R5/dead_letters_can_be_inspected_and_discarded", "discards nothing", brokenDeadLetters(brokenQueue{discard: nothing})},
		{
			"R5/a_replay_goes_to_the_route_that_failed_and_no_other", "replays to all routes of the topic",
			brokenDeadLetters(brokenQueue{replay: toEverybody}),
		},
		{"R5/a_replay_goes_to_the_route_that_failed_and_no_other", "takes no replays", brokenConfig(func(c *router.Config) { c.NoReplays = true })},
		{"R5/all_are_replayed_in_order", "replays the last first", brokenDeadLetters(brokenQueue{replayAll: lastFirst})},
		{
			"R5/what_fails_again_is_another_dead_letter", "has one ID for all dead letters of a message",
			brokenRecord(func(m *es.Message, r *es.DeadLetterRecord) { m.ID = es.DeriveID(r.Original.ID, "dead", 0) }),
		},
		{
			"R5/a_replay_is_handled_although_deduped", "marks what has failed",
			brokenDedupe(func(s *hastyDedupe) { s.before = true }),
		},
		{"R5/a_dead_letter_of_a_processor_goes_back_into_the_outbox", "replays nothing", brokenDeadLetters(brokenQueue{replay: nothing})},
	}
}
