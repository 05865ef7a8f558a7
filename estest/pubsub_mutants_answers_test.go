package estest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func pubsubAnswerMutants() []pubsubMutant {
	return []pubsubMutant{
		{"P3/delivery_says_what_it_is", "has no topic", breakage{receive: received(func(ds []es.Delivery) {
			for i := range ds {
				ds[i].Topic = ""
			}
		})}},
		{"P3/delivery_says_what_it_is", "has a deadline that has passed", breakage{receive: received(func(ds []es.Delivery) {
			for i := range ds {
				ds[i].Deadline = ds[i].Deadline.Add(-time.Hour)
			}
		})}},
		{"P3/delivery_says_what_it_is", "says of each delivery that it is the first", breakage{receive: received(func(ds []es.Delivery) {
			for i := range ds {
				ds[i].First = ds[i].First.Add(time.Duration(ds[i].Attempt) * time.Millisecond)
			}
		})}},
		{"P3/nack_raises_the_attempt_after_its_delay", "does not wait", breakage{
			nack: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery, _ time.Duration) error {
				return s.sub.Nack(ctx, ds, 0)
			},
		}},
		{"P3/nack_raises_the_attempt_after_its_delay", "does not count", breakage{receive: received(firstAttempt)}},
		{"P3/release_keeps_the_attempt", "counts a release", breakage{
			release: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error {
				return s.sub.Nack(ctx, ds, 0)
			},
		}},
		{"P3/close_in_the_middle_of_a_batch_loses_nothing", "deletes the whole batch", breakage{closeSub: forget}},
		{"P3/acks_come_in_any_order", "takes acks in order only", breakage{
			ack: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error {
				var inOrder []es.Delivery
				for _, d := range ds {
					if len(inOrder) == 0 || d.Receipt > inOrder[len(inOrder)-1].Receipt {
						inOrder = append(inOrder, d)
					}
				}
				return s.sub.Ack(ctx, inOrder)
			},
		}},
		{"P3/second_answer_is_lease_lost", "takes a second answer", breakage{answerError: swallow}},
		{"P3/answer_after_close_is_lease_lost", "takes an answer after close", breakage{answerError: swallow}},
		{"P3/the_rest_of_a_call_is_answered", "stops at the first that is lost", breakage{
			ack: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error {
				errs := make([]error, len(ds))
				for i := range ds {
					if errs[i] = es.Of(s.sub.Ack(ctx, ds[i:i+1]), 0); errs[i] != nil {
						break
					}
				}
				return es.BatchErr(errs)
			},
		}},
		{"P3/receipts_are_not_reused", "gives the number of a slot", breakage{
			receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
				n, err := s.sub.Receive(ctx, dst)
				for i := range dst[:n] {
					dst[i].Raw = []byte{byte(i)}
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				s.out = slices.Clone(dst[:n])
				for i := range dst[:n] {
					dst[i].Receipt = uint64(i)
				}
				return n, err
			},
			release: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.sub.Release(ctx, s.out[:len(ds)])
			},
		}},
		{"P2/order_kept_after_lease_end", "knows no keys", breakage{options: keyByID}},
		{"P2/order_kept_after_lease_end", "puts an overdue message at the end", breakage{
			receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
				n, err := s.sub.Receive(ctx, dst)
				if err == nil && n == 1 && dst[0].Attempt == 2 && string(dst[0].Data) == `"a1"` {
					if err := republish(ctx, s, dst[:1]); err != nil {
						return 0, err
					}
					return s.sub.Receive(ctx, dst)
				}
				return n, err
			},
		}},
		{"P3/lease_end_raises_the_attempt", "does not count", breakage{receive: received(firstAttempt)}},
		{"P3/lease_end_raises_the_attempt", "ends it early", breakage{options: func(opts *es.SubscribeOptions) { opts.Lease /= 3 }}},
		{"P3/lease_end_raises_the_attempt", "has no leases", breakage{options: func(opts *es.SubscribeOptions) { opts.Lease = time.Hour }}},
		{"P3/stale_answer_is_lease_lost", "takes an answer after the lease", breakage{answerError: swallow}},
		{"P3/late_answer_of_an_old_owner_moves_nothing", "takes an answer after the lease", breakage{answerError: swallow}},
		{"P3/late_answer_of_an_old_owner_moves_nothing", "turns it down and moves on", movesOn()},
		{"P3/extend_keeps_the_delivery", "moves the deadline and not the lease", breakage{
			extend: func(_ context.Context, _ *brokenSubscription, ds []es.Delivery) error {
				for i := range ds {
					ds[i].Deadline = ds[i].Deadline.Add(time.Second)
				}
				return nil
			},
		}},
		{"P3/attempts_survive_a_restart", "does not count", breakage{durable: true, receive: received(firstAttempt)}},
		{"P3/first_survives_a_restart", "dates each delivery", breakage{durable: true, receive: received(func(ds []es.Delivery) {
			for i := range ds {
				ds[i].First = ds[i].First.Add(time.Duration(ds[i].Attempt) * time.Millisecond)
			}
		})}},
		{"P7/message_that_kills_comes_alone", "gives those beside it too", breakage{
			receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
				n, err := s.sub.Receive(ctx, dst)
				if err != nil || dst[0].Attempt == 1 {
					return n, err
				}
				ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
				defer cancel()
				for n < len(dst) {
					more, err := s.sub.Receive(ctx, dst[n:])
					if err != nil {
						break
					}
					n += more
				}
				return n, nil
			},
		}},
		{"P7/message_that_kills_comes_alone", "does not count", breakage{receive: received(firstAttempt)}},
	}
}

// movesOn says of an acknowledgement that came too late that it is lost, and does not give the message to anybody any more.
func movesOn() breakage {
	var late sync.Map // by ID
	return breakage{
		ack: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error {
			err := s.sub.Ack(ctx, ds)
			for i, d := range ds {
				if errors.Is(es.Of(err, i), es.ErrLeaseLost) {
					late.Store(d.ID, nil)
				}
			}
			return err
		},
		receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
			for {
				n, err := s.sub.Receive(ctx, dst)
				left := slices.DeleteFunc(dst[:n], func(d es.Delivery) bool {
					_, acked := late.Load(d.ID)
					return acked && s.sub.Ack(ctx, []es.Delivery{d}) == nil
				})
				if len(left) > 0 || err != nil {
					return len(left), err
				}
			}
		},
	}
}
