package workloads

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

const bareChannel = "bare channel"

// received is how many messages a subscriber of ours has room for, as a router has.
const received = 256

// publishFloors are what was aimed at for batches, and what is reached of it one by one; record 10 says where the time goes.
func publishFloors(batch int) []measure.Floor {
	if batch == 1 {
		return []measure.Floor{{Against: watermillInOrder, Ratio: 12, Why: "what is kept at the least; 25 times are aimed at"}}
	}
	return []measure.Floor{{Against: watermillInOrder, Ratio: 20, Why: "what is kept at the least; 25 times are aimed at"}}
}

func publishToOne(batch int) measure.Workload {
	p := publishing{batch: batch, subscribers: 1}
	return measure.Workload{
		Name:  fmt.Sprintf("publish-1-batch-%d", batch),
		Title: "in-memory publish → 1 subscriber, " + batches(batch),
		About: "One goroutine publishes, another receives and acknowledges what is there, up to 256 at a time where the API lets it. " +
			"Each message is handled once, in the order of its stream.",
		Contenders:      p.contenders(),
		MostAllocations: 0.1,
		Floors:          publishFloors(batch),
	}
}

func publishToTen() measure.Workload {
	p := publishing{batch: 256, subscribers: 10}
	return measure.Workload{
		Name:  "publish-10",
		Title: "in-memory publish → 10 subscribers, batches of 256, per message",
		About: "The same with ten groups, each of which gets every message in a goroutine of its own. " +
			"The time is that of a message published, which is ten deliveries.",
		Contenders:      p.contenders(),
		Deliveries:      p.subscribers,
		MostAllocations: 0.1,
		Floors: []measure.Floor{
			{Against: watermillInOrder, Ratio: 40, Why: "the goal is 100 times Watermill's gochannel"},
		},
	}
}

func batches(n int) string {
	if n == 1 {
		return "one by one"
	}
	return fmt.Sprintf("batches of %d", n)
}

// publishing is a publisher and its subscribers.
type publishing struct {
	batch, subscribers int
}

func (p publishing) contenders() []measure.Contender {
	return []measure.Contender{
		{
			Name: measure.Ours, Run: p.ours,
			How: "memory.PubSub with its defaults",
		},
		{
			Name: watermillInOrder, Run: p.watermill(watermillBlocking()),
			How: "gochannel with BlockPublishUntilSubscriberAck and OutputChannelBuffer 1024: the setting that keeps the order",
		},
		{
			Name: watermillAsIs, Run: p.watermill(watermillBuffered()), Aside: true,
			How: "gochannel with OutputChannelBuffer 1024 and at most 1,024 messages on their way, which does not keep the order",
		},
		{
			Name: bareChannel, Run: p.bare,
			How: "a Go channel for each subscriber that passes slices of pointers, with a counter for acknowledgements; nothing is copied",
		},
	}
}

// subscriber is one of those who receive, and what it has seen.
type subscriber struct {
	ledger *measure.Ledger
	acked  int
	err    error
}

func (p publishing) newSubscribers(n int) []*subscriber {
	subscribers := make([]*subscriber, p.subscribers)
	for i := range subscribers {
		subscribers[i] = &subscriber{ledger: measure.NewLedger(n, streamCount)}
	}
	return subscribers
}

// settle adds up what the subscribers have seen.
func settle(subscribers []*subscriber) (measure.Faults, error) {
	var faults measure.Faults
	for _, s := range subscribers {
		if s.err != nil {
			return faults, s.err
		}
		if int64(s.acked) < s.ledger.Taken() {
			return faults, errUnanswered
		}
		faults = faults.Plus(s.ledger.Close())
	}
	return faults, nil
}

func (p publishing) ours(ctx context.Context, n int) (measure.Result, error) {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return measure.Result{}, err
	}
	defer broker.Close()
	subscribers := p.newSubscribers(n)
	subscriptions := make([]es.Subscription, len(subscribers))
	for i := range subscriptions {
		group := es.SubscribeOptions{Group: fmt.Sprintf("group-%d", i)}
		if subscriptions[i], err = broker.Subscribe(ctx, topic, group); err != nil {
			return measure.Result{}, err
		}
	}
	pubs := es.ToCategory(newMessages(max(p.batch, streamCount))...)
	var watch measure.Stopwatch
	done := make(chan struct{})
	watch.Start()
	for i, s := range subscribers {
		go func() {
			s.err = s.receive(ctx, subscriptions[i], n, make([]es.Delivery, received))
			done <- struct{}{}
		}()
	}
	for at := 0; at < n && err == nil; at += p.batch {
		some := pubs[at%len(pubs):][:min(p.batch, n-at)]
		for i := range some {
			number(some[i].Message, uint64(at+i))
		}
		err = broker.Publish(ctx, some...)
	}
	if err != nil {
		_ = broker.Close() // lets the subscribers go
	}
	for range subscribers {
		<-done
	}
	watch.Stop()
	if err != nil {
		return measure.Result{}, err
	}
	for _, topic := range broker.Stats() {
		for _, group := range topic.Groups {
			if group.Depth+group.InFlight > 0 {
				return measure.Result{}, errUnanswered
			}
		}
	}
	faults, err := settle(subscribers)
	return watch.Result(faults), err
}

// receive receives and acknowledges n messages.
func (s *subscriber) receive(ctx context.Context, subscription es.Subscription, n int, dst []es.Delivery) error {
	for s.acked < n {
		got, err := subscription.Receive(ctx, dst)
		if err != nil {
			return err
		}
		for i := range dst[:got] {
			s.ledger.Take(numberOf(dst[i].Data))
		}
		if err := subscription.Ack(ctx, dst[:got]); err != nil {
			return err
		}
		s.acked += got
	}
	return nil
}

func (p publishing) bare(_ context.Context, n int) (measure.Result, error) {
	const room = 1024 // messages, as with the others
	subscribers := p.newSubscribers(n)
	channels := make([]chan []*es.Message, len(subscribers))
	for i := range channels {
		channels[i] = make(chan []*es.Message, max(1, room/p.batch))
	}
	// A message can be used again when it cannot be on its way any more: in a channel, or in the hands of a subscriber.
	messages := newMessages(4 * room)
	var watch measure.Stopwatch
	done := make(chan struct{})
	watch.Start()
	for i, s := range subscribers {
		go func() {
			for batch := range channels[i] {
				for _, m := range batch {
					s.ledger.Take(numberOf(m.Data))
				}
				s.acked += len(batch)
			}
			done <- struct{}{}
		}()
	}
	for at := 0; at < n; at += p.batch {
		some := messages[at%len(messages):][:min(p.batch, n-at)]
		for i, m := range some {
			number(m, uint64(at+i))
		}
		for _, channel := range channels {
			channel <- some
		}
	}
	for _, channel := range channels {
		close(channel)
	}
	for range subscribers {
		<-done
	}
	watch.Stop()
	faults, err := settle(subscribers)
	return watch.Result(faults), err
}
