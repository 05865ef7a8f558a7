package estest_test

import (
	"context"
	"errors"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// withoutValues is a context without what it carries.
type withoutValues struct{ context.Context }

func (withoutValues) Value(any) any { return nil }

func pubsubBoundMutants() []pubsubMutant {
	overflow := func(o estest.Overflow) func(estest.Bounds) estest.Bounds {
		return func(b estest.Bounds) estest.Bounds {
			b.Overflow = o
			return b
		}
	}
	forgive := func(what error) func(context.Context, *memory.PubSub, []es.Publication) error {
		return func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
			if err := ps.Publish(ctx, pubs...); !errors.Is(err, what) {
				return err
			}
			return nil
		}
	}
	return []pubsubMutant{
		{"P4/blocks_the_publisher_until_there_is_room", "drops what there is no room for", breakage{
			bounds: overflow(estest.OverflowEvictOldest),
		}},
		{"P4/blocked_publisher_ends_with_its_context", "says that it has taken what it has not", breakage{
			publish: forgive(context.DeadlineExceeded),
		}},
		{"P4/blocked_publisher_ends_with_its_context", "says nothing of the messages it has taken", breakage{
			publish: func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
				if err := ps.Publish(ctx, pubs...); err != nil && ctx.Err() != nil {
					return ctx.Err()
				}
				return nil
			},
		}},
		{"P4/blocked_publisher_ends_with_close", "takes messages after close", breakage{publish: forgive(es.ErrClosed)}},
		{"P4/evicts_the_oldest_and_counts", "does not count", breakage{evicted: func(int64) int64 { return 0 }}},
		{"P4/evicts_the_oldest_and_counts", "drops the newest", breakage{
			bounds: overflow(estest.OverflowFail), publish: forgive(es.ErrFull),
			evicted: func(int64) int64 { return 28 },
		}},
		{"P4/fails_the_publish_and_keeps_the_order", "drops the oldest", breakage{bounds: overflow(estest.OverflowEvictOldest)}},
		{"P4/backlog_evicts_the_oldest_and_counts", "has a backlog without bounds", breakage{
			bounds: func(b estest.Bounds) estest.Bounds {
				b.Backlog = 1000
				return b
			},
		}},
		{"P4/group_without_members_is_bounded", "waits for nobody", breakage{
			subscribe: func(ctx context.Context, _ testing.TB, ps *memory.PubSub, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
				if _, err := ps.Subscribe(ctx, topic, opts); err != nil {
					return nil, err
				}
				return ps.Subscribe(ctx, topic, opts)
			},
		}},
		{"P4/own_topic_publish_is_an_error_not_a_deadlock", "waits for itself", breakage{
			publish: func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
				return ps.Publish(withoutValues{ctx}, pubs...)
			},
		}},
		{"P4/own_topic_publish_is_an_error_not_a_deadlock", "lets no handler wait", breakage{
			bounds: overflow(estest.OverflowFail),
		}},
	}
}

func pubsubLifetimeMutants() []pubsubMutant {
	return []pubsubMutant{
		{"P5/receive_does_not_wait_for_more", "fills the batch", breakage{
			receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
				for n := 0; n < len(dst); {
					more, err := s.sub.Receive(ctx, dst[n:])
					if err != nil {
						return 0, err
					}
					n += more
				}
				return len(dst), nil
			},
		}},
		{"P5/receive_gives_at_most_what_fits", "fills the slice to its capacity", breakage{
			receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
				n, err := s.sub.Receive(ctx, dst[:cap(dst)])
				return min(n, len(dst)), err
			},
		}},
		{"P5/receive_waits_for_the_first", "returns without a message", breakage{
			receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				n, _ := s.sub.Receive(ctx, dst)
				return n, nil
			},
		}},
		{"P5/every_waiting_member_is_served", "serves one at a time", breakage{
			receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
				s.mu.Lock()
				if s.turn == nil {
					s.turn = make(chan struct{}, 1)
				}
				turn := s.turn
				s.mu.Unlock()
				select {
				case turn <- struct{}{}: // until the answer
				case <-ctx.Done():
					return 0, ctx.Err()
				}
				return s.sub.Receive(ctx, dst)
			},
		}},
		{"P5/receive_ends_with_its_context", "does not look at its context", breakage{
			receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
				return s.sub.Receive(context.WithoutCancel(ctx), dst)
			},
		}},
		{"P5/receive_ends_with_its_subscription", "leaves those waiting who wait", breakage{
			closeSub: func(*brokenSubscription) error { return nil },
		}},
		{"P5/receive_ends_with_the_pubsub", "leaves those waiting who wait", breakage{
			closePubSub: func(*memory.PubSub) error { return nil },
		}},
		{"P5/closed_subscription_leaves_the_others", "closes all of them", breakage{
			closeSub: func(s *brokenSubscription) error { return s.of.ps.Close() },
		}},
		{"P5/publish_during_close", "panics", breakage{
			publish: func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
				if err := ps.Publish(ctx, pubs...); errors.Is(err, es.ErrClosed) {
					panic("assignment to entry in nil map")
				}
				return nil
			},
		}},
		{"P5/publish_during_close", "has an error of its own", breakage{
			publish: func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
				if err := ps.Publish(ctx, pubs...); errors.Is(err, es.ErrClosed) {
					return errors.New("use of closed network connection")
				}
				return nil
			},
		}},
		{"P5/closed_is_closed", "minds a second close", breakage{closePubSub: func(ps *memory.PubSub) error {
			if err := ps.Publish(context.Background()); err != nil {
				return err
			}
			return ps.Close()
		}}},
		{"P5/closed_is_closed", "lets people subscribe", breakage{
			subscribe: func(ctx context.Context, t testing.TB, _ *memory.PubSub, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
				return openMemoryPubSub(t, memory.PubSubConfig{}).Subscribe(ctx, topic, opts)
			},
		}},
		{"P6/undecodable_comes_with_its_bytes", "throws it away", breakage{
			receive: func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
				for {
					n, err := s.sub.Receive(ctx, dst[:1])
					if err != nil || dst[0].Err == nil {
						return n, err
					}
					if err := s.sub.Ack(ctx, dst[:1]); err != nil {
						return 0, err
					}
				}
			},
		}},
		{"P6/undecodable_comes_with_its_bytes", "has lost the bytes", breakage{receive: received(func(ds []es.Delivery) {
			for i := range ds {
				ds[i].Raw = nil
			}
		})}},
		{"P8/no_goroutine_left", "leaves one behind", breakage{
			subscribe: func(ctx context.Context, t testing.TB, ps *memory.PubSub, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
				end := make(chan struct{})
				t.Cleanup(func() { close(end) })
				go func() { <-end }()
				return ps.Subscribe(ctx, topic, opts)
			},
		}},
	}
}
