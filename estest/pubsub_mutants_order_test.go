package estest_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func pubsubMessageMutants() []pubsubMutant {
	originals := struct {
		sync.Mutex
		byID map[string]*es.Message
	}{byID: map[string]*es.Message{}}
	return []pubsubMutant{
		{"M2/every_field_survives", "loses the causation", breakage{publish: changed(func(m *es.Message) { m.CausationID = "" })}},
		{"M2/every_field_survives", "truncates the time", breakage{publish: changed(func(m *es.Message) {
			m.Time = m.Time.Truncate(time.Second).Add(-time.Second)
		})}},
		{"M2/any_bytes_and_a_mebibyte_survive", "makes the data UTF-8", breakage{publish: changed(func(m *es.Message) {
			m.Data = bytes.ToValidUTF8(m.Data, []byte("?"))
		})}},
		{"M2/invalid_message_publishes_nothing", "publishes those before the invalid one", breakage{
			publish: func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
				for _, pub := range pubs {
					if err := ps.Publish(ctx, pub); err != nil {
						return err
					}
				}
				return nil
			},
		}},
		{"M3/names_are_checked", "takes any topic", breakage{
			publish: func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
				if err := ps.Publish(ctx, pubs...); pubs[0].Message == nil {
					return err
				}
				return nil
			},
		}},
		{"M3/namespaces_see_nothing_of_each_other", "has one namespace", breakage{namespace: func(string) string { return "one" }}},
		{"M5/publisher_may_reuse_its_message", "keeps the message it is given", breakage{
			publish: func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
				originals.Lock()
				defer originals.Unlock()
				for _, pub := range pubs {
					originals.byID[pub.Message.ID.String()] = pub.Message
				}
				return ps.Publish(ctx, pubs...)
			},
			receive: received(func(ds []es.Delivery) {
				originals.Lock()
				defer originals.Unlock()
				for i := range ds {
					ds[i].Message = originals.byID[ds[i].ID.String()]
				}
			}),
		}},
	}
}

func pubsubSharingMutants() []pubsubMutant {
	group := func(name string) func(*es.SubscribeOptions) {
		return func(opts *es.SubscribeOptions) { opts.Group = name }
	}
	start := func(from, to es.StartKind) func(*es.SubscribeOptions) {
		return func(opts *es.SubscribeOptions) {
			if opts.Start.Kind == from {
				opts.Start = es.Start{Kind: to}
			}
		}
	}
	return []pubsubMutant{
		{"P1/every_subscription_sees_all", "lets all subscriptions share", breakage{options: group("one")}},
		{"P1/only_its_own_topic", "publishes to every topic", breakage{
			publish: func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
				for _, pub := range pubs {
					for _, topic := range []string{"orders", "invoices"} {
						if err := ps.Publish(ctx, es.Publication{Topic: topic, Message: pub.Message}); err != nil {
							return err
						}
					}
				}
				return nil
			},
		}},
		{"P1/members_share", "gives every member all", breakage{options: group("")}},
		{"P1/every_group_sees_all", "has one group for all", breakage{options: group("one")}},
		{"P1/group_keeps_its_place", "forgets a group without members", breakage{
			subscribe: func(ctx context.Context, _ testing.TB, ps *memory.PubSub, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
				_ = ps.DropGroup(topic, opts.Group)
				return ps.Subscribe(ctx, topic, opts)
			},
		}},
		{"P1/backlog_goes_to_the_first", "has no backlog", breakage{options: start(es.StartDefault, es.StartEnd)}},
		{"P1/backlog_comes_back", "deletes what was received", breakage{closeSub: forget}},
		{"P1/starts_at_the_end", "starts with the backlog", breakage{options: start(es.StartEnd, es.StartDefault)}},
		{"P1/starts_where_it_was_told", "starts at the end", breakage{history: true, options: start(es.StartPosition, es.StartEnd)}},
		{"P1/starts_where_it_was_told", "has no beginning", breakage{history: true, options: start(es.StartBeginning, es.StartEnd)}},
		{"P1/without_history_a_position_is_unsupported", "starts at the end without a word", breakage{
			options: start(es.StartPosition, es.StartEnd),
		}},
		{"P1/subscribed_context_is_for_the_call_only", "ends with the context of the call", breakage{
			subscribe: func(ctx context.Context, _ testing.TB, ps *memory.PubSub, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
				sub, err := ps.Subscribe(ctx, topic, opts)
				return endsWith{sub, ctx}, err
			},
		}},
	}
}

func pubsubOrderMutants() []pubsubMutant {
	return []pubsubMutant{
		{"P2/order_kept_across_batches", "turns batches around", breakage{receive: received(slices.Reverse[[]es.Delivery])}},
		{"P2/order_kept_after_nack", "puts a nacked message at the end", breakage{
			nack: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery, _ time.Duration) error {
				return republish(ctx, s, ds)
			},
		}},
		{"P2/order_kept_after_release", "turns released messages around", breakage{release: republish}},
		{"P2/nack_releases_those_that_follow", "leaves those that follow in flight", breakage{options: keyByID}},
		{"P2/release_releases_those_that_follow", "leaves those that follow in flight", breakage{options: keyByID}},
		{"P2/key_is_with_one_batch_at_a_time", "knows no keys", breakage{options: keyByID}},
		{"P2/key_is_with_one_member_at_a_time", "knows no keys", breakage{options: keyByID}},
		{"P2/waiting_key_blocks_no_other", "has one key for all", breakage{options: func(opts *es.SubscribeOptions) {
			opts.Key = func(*es.Message) string { return "all" }
		}}},
		{"P2/custom_key", "does not ask for the key", breakage{options: func(opts *es.SubscribeOptions) { opts.Key = nil }}},
		{"P2/several_members_keep_the_order", "knows no keys", breakage{options: keyByID}},
	}
}
