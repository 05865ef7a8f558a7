package estest_test

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeBrokerMutants() []runtimeMutant {
	return []runtimeMutant{
		{
			"P1/routers_of_a_group_share_the_messages", "gives each router all messages",
			brokenBroker(breakage{options: func(o *es.SubscribeOptions) { o.Group = "" }}),
		},
		{
			"P2/order_is_kept_when_a_router_comes_and_goes", "puts what was given back behind the others",
			brokenBroker(breakage{release: republish}),
		},
		{"P3/death_of_a_handler_raises_the_attempt", "calls each attempt the first", brokenBroker(breakage{receive: received(firstAttempt)})},
		{
			"P3/stop_within_a_batch_loses_nothing", "takes what was given back for done",
			brokenBroker(breakage{release: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error { return s.sub.Ack(ctx, ds) }}),
		},
		{
			"P6/what_cannot_be_decoded_is_a_dead_letter_with_its_bytes", "hands what cannot be decoded to the handler",
			brokenConfig(func(c *router.Config) { c.Subscriber = decodable{c.Subscriber} }),
		},
		{
			"P7/message_that_kills_is_a_dead_letter_and_the_others_are_not", "calls each attempt the first",
			brokenBroker(breakage{receive: received(firstAttempt)}),
		},
	}
}

// decodable says of everything that it can be decoded.
type decodable struct{ es.Subscriber }

type decodableSubscription struct{ es.Subscription }

func (s decodable) Subscribe(ctx context.Context, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
	sub, err := s.Subscriber.Subscribe(ctx, topic, opts)
	return decodableSubscription{sub}, err
}

func (s decodableSubscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	n, err := s.Subscription.Receive(ctx, dst)
	for i := range dst[:n] {
		dst[i].Err, dst[i].Raw = nil, nil
	}
	return n, err
}

func runtimeRouteMutants() []runtimeMutant {
	return []runtimeMutant{
		{"R1/the_name_of_a_route_is_its_group", "names the group otherwise", brokenRoute(func(o *router.Options) { o.Name += " group" })},
		{
			"R1/routes_of_a_topic_each_see_all_of_it", "has one group for all routes",
			brokenBroker(breakage{options: func(o *es.SubscribeOptions) { o.Group = "all" }}),
		},
		{"R1/keys_are_handled_at_once", "handles one message at a time", brokenRoute(func(o *router.Options) { o.Concurrency = 1 })},
		{
			"R1/messages_of_a_key_are_handled_one_by_one_in_order", "orders nothing",
			brokenRoute(func(o *router.Options) { o.Key = messageKey }),
		},
		{"R1/the_ordering_key_is_the_routes", "orders by stream whatever the key is", brokenRoute(func(o *router.Options) { o.Key = nil })},
		{
			"R2/middleware_goes_from_the_outside_to_the_inside", "puts what comes first inside",
			brokenRouter(brokenRouterCalls{use: func(r *router.Router, all []es.Middleware) error {
				all = slices.Clone(all)
				slices.Reverse(all)
				return r.Use(all...)
			}}),
		},
		{
			"R2/middleware_after_the_start_is_an_error", "passes over middleware after the start",
			brokenRouter(brokenRouterCalls{use: func(r *router.Router, all []es.Middleware) error {
				_ = r.Use(all...)
				return nil
			}}),
		},
	}
}

// brokenEmit are programs whose outputs are changed on their way to the outbox. They are the change's own.
func brokenEmit(change func(outputs []*es.Message) []*es.Message) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.Emit = func(outbox es.Outbox) router.Emitter {
			send := router.ToOutbox(outbox)
			return func(ctx context.Context, msgs []*es.Message) error {
				own := make([]*es.Message, len(msgs))
				for i, m := range msgs {
					own[i] = m.Clone()
				}
				return send(ctx, change(own))
			}
		}
	})
}

// eachOutput changes outputs one by one.
func eachOutput(change func(m *es.Message)) func([]*es.Message) []*es.Message {
	return func(outputs []*es.Message) []*es.Message {
		for _, m := range outputs {
			change(m)
		}
		return outputs
	}
}

func freshID(m *es.Message) { m.ID = uuid.New() }

func runtimeOutputMutants() []runtimeMutant {
	return []runtimeMutant{
		{
			"R3/the_whole_way", "publishes messages as they were enqueued",
			brokenParts(func(p *estest.Parts) {
				p.AtLeastOnce = func(c processor.Config) (estest.Processor, error) {
					c.Publisher = unplaced{c.Publisher}
					return processor.NewAtLeastOnce(c)
				}
			}),
		},
		{"R3/outputs_name_their_cause_and_conversation", "drops both", brokenEmit(eachOutput(func(m *es.Message) {
			m.CausationID, m.CorrelationID = "", ""
		}))},
		{"R3/outputs_name_their_cause_and_conversation", "begins a conversation with each output", brokenEmit(eachOutput(func(m *es.Message) {
			m.CorrelationID = m.ID.String()
		}))},
		{"R3/outputs_keep_their_order", "sends the last first", brokenEmit(func(outputs []*es.Message) []*es.Message {
			slices.Reverse(outputs)
			return outputs
		})},
		{"R3/ids_of_outputs_are_derived", "gives them new IDs", brokenEmit(eachOutput(freshID))},
		{"R3/a_redelivered_input_does_not_double_its_outputs", "gives them new IDs", brokenEmit(eachOutput(freshID))},
		{
			"R3/what_cannot_be_sent_has_failed", "says that everything was sent",
			brokenParts(func(p *estest.Parts) {
				p.Emit = func(outbox es.Outbox) router.Emitter { return unfailing(router.ToOutbox(outbox)) }
			}),
		},
		{
			"R3/outputs_beside_an_error_are_not_sent", "sends them",
			brokenHandler(func(c router.Config, next es.Handler) es.HandlerFunc {
				return func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
					outputs, err := next.Handle(ctx, d)
					if err != nil && len(outputs) > 0 {
						_ = c.Emit(ctx, outputs)
					}
					return outputs, err
				}
			}),
		},
	}
}

// unplaced forgets where messages stand in the store.
type unplaced struct{ es.Publisher }

func (u unplaced) Publish(ctx context.Context, pubs ...es.Publication) error {
	pubs = slices.Clone(pubs)
	for i, pub := range pubs {
		m := pub.Message.Clone()
		m.Version, m.Position, m.Recorded = 0, 0, time.Time{}
		pubs[i].Message = m
	}
	return u.Publisher.Publish(ctx, pubs...)
}

// unfailing says of everything that it was sent.
func unfailing(send router.Emitter) router.Emitter {
	return func(ctx context.Context, msgs []*es.Message) error {
		_ = send(ctx, msgs)
		return nil
	}
}

func runtimeStopMutants() []runtimeMutant {
	nackReleased := brokenBroker(breakage{release: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error {
		return s.sub.Nack(ctx, ds, 0)
	}})
	return []runtimeMutant{
		{"R8/running_handlers_finish", "breaks them off at once", brokenConfig(func(c *router.Config) { c.Grace = -1 })},
		{
			"R8/nothing_new_is_begun", "takes what is given back for done",
			brokenBroker(breakage{release: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error { return s.sub.Ack(ctx, ds) }}),
		},
		{
			"R8/nothing_new_is_begun", "goes on until nothing is left",
			brokenRouter(brokenRouterCalls{stop: func(ctx context.Context, r *router.Router) error {
				for r.Stats()[0].InFlight > 0 && ctx.Err() == nil {
					runtime.Gosched()
				}
				return r.Stop(ctx)
			}}),
		},
		{"R8/what_is_broken_off_is_no_attempt", "counts it as one", nackReleased},
		{"R8/what_is_broken_off_is_no_dead_letter", "counts it as an attempt", nackReleased},
	}
}
