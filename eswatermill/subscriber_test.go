package eswatermill_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eswatermill"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// broker is a Watermill subscriber whose messages a test sends by hand.
type broker struct {
	mu      sync.Mutex
	out     []chan *message.Message
	closed  int
	refused error
}

func (b *broker) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused != nil {
		return nil, b.refused
	}
	out, in := make(chan *message.Message), make(chan *message.Message)
	b.out = append(b.out, in)
	go func() {
		defer close(out)
		for {
			select {
			case w, ok := <-in:
				if !ok {
					return
				}
				select {
				case out <- w:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (b *broker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed++
	return nil
}

// send makes n messages of one stream and sends them to the i-th subscription.
func (b *broker) send(t *testing.T, i, n int) []*message.Message {
	t.Helper()
	b.mu.Lock()
	in := b.out[i]
	b.mu.Unlock()
	var sent []*message.Message
	for k := range n {
		w, err := eswatermill.Headers{}.Marshal("order", es.NewMessage("order-1", fmt.Sprint("Event", k), nil))
		if err != nil {
			t.Fatal(err)
		}
		in <- w
		sent = append(sent, w)
	}
	return sent
}

func subscriber(t *testing.T, b message.Subscriber) *eswatermill.Subscriber {
	t.Helper()
	s, err := eswatermill.NewSubscriber(eswatermill.SubscriberConfig{Subscriber: b})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func subscribe(t *testing.T, s es.Subscriber, group string) es.Subscription {
	t.Helper()
	sub, err := s.Subscribe(t.Context(), "order", es.SubscribeOptions{Group: group})
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func receive(t *testing.T, sub es.Subscription) es.Delivery {
	t.Helper()
	var room [1]es.Delivery
	if n, err := sub.Receive(t.Context(), room[:]); n != 1 || err != nil {
		t.Fatalf("received %d, %v", n, err)
	}
	return room[0]
}

func acked(w *message.Message) bool {
	select {
	case <-w.Acked():
		return true
	default:
		return false
	}
}

func nacked(w *message.Message) bool {
	select {
	case <-w.Nacked():
		return true
	default:
		return false
	}
}

func TestWhatIsAcknowledgedHereIsAcknowledgedThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &broker{}
		s := subscriber(t, b)
		sub := subscribe(t, s, "mailer")
		sent := b.send(t, 0, 3)
		synctest.Wait()
		lagger, ok := sub.(es.Lagger)
		if !ok {
			t.Fatal("the subscription cannot tell its lag")
		}
		if lag, err := lagger.Lag(t.Context()); err != nil || lag.Messages != 3 {
			t.Errorf("the lag is %+v (%v), want 3 messages", lag, err)
		}
		d := receive(t, sub)
		if d.Topic != "order" || d.Group != "mailer" || d.Attempt != 1 || d.Name != "Event0" || acked(sent[0]) {
			t.Errorf("got %+v; acknowledged: %v", d, acked(sent[0]))
		}
		if err := sub.Nack(t.Context(), []es.Delivery{d}, time.Second); err != nil {
			t.Fatal(err)
		}
		d = receive(t, sub) // after its second, and before those that follow it
		if d.Attempt != 2 || d.Name != "Event0" || nacked(sent[0]) {
			t.Errorf("after a nack came %+v; refused: %v", d, nacked(sent[0]))
		}
		if err := sub.Ack(t.Context(), []es.Delivery{d}); err != nil {
			t.Fatal(err)
		}
		if !acked(sent[0]) || acked(sent[1]) {
			t.Errorf("acknowledged are %v and %v, want the first", acked(sent[0]), acked(sent[1]))
		}
		if err := sub.Ack(t.Context(), []es.Delivery{d}); !errors.Is(es.Of(err, 0), es.ErrLeaseLost) || acked(sent[1]) {
			t.Errorf("a second acknowledgement gives %v", err)
		}
		d = receive(t, sub)
		if err := sub.Close(); err != nil {
			t.Fatal(err)
		}
		if !nacked(sent[1]) || !nacked(sent[2]) {
			t.Error("what was open at the close was not given back")
		}
		if err := sub.Ack(t.Context(), []es.Delivery{d}); !errors.Is(es.Of(err, 0), es.ErrLeaseLost) || acked(sent[1]) {
			t.Errorf("an acknowledgement after the close gives %v", err)
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil || b.closed != 1 {
			t.Errorf("close: %v, %d times", err, b.closed)
		}
	})
}

func TestAGroupSharesOneSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &broker{}
		s := subscriber(t, b)
		first, second, other := subscribe(t, s, "mailer"), subscribe(t, s, "mailer"), subscribe(t, s, "")
		alone := subscribe(t, s, "")
		if len(b.out) != 3 {
			t.Fatalf("there are %d Watermill subscriptions, want one for the group and one for each of the two others", len(b.out))
		}
		sent := b.send(t, 0, 1)
		b.send(t, 1, 1)
		b.send(t, 2, 1)
		synctest.Wait()
		d := receive(t, first)
		if err := first.Close(); err != nil { // and gives it back, to the other member
			t.Fatal(err)
		}
		if again := receive(t, second); again.ID != d.ID || again.Attempt != 1 || nacked(sent[0]) {
			t.Errorf("got %+v, want what the other has released", again)
		}
		if d := receive(t, other); d.Group != "" {
			t.Errorf("a subscription without a group got %+v", d)
		}
		receive(t, alone)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var room [1]es.Delivery
		if _, err := second.Receive(t.Context(), room[:]); !errors.Is(err, es.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if _, err := s.Subscribe(t.Context(), "order", es.SubscribeOptions{}); !errors.Is(err, es.ErrClosed) {
			t.Errorf("Subscribe after Close: %v", err)
		}
	})
}

func TestWhatCannotBeDecodedIsDeliveredSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &broker{}
		s := subscriber(t, b)
		sub := subscribe(t, s, "mailer")
		w := message.NewMessage("x", message.Payload("bytes"))
		w.Metadata.Set(eswatermill.HeaderVersion, "seven")
		b.out[0] <- w
		synctest.Wait()
		d := receive(t, sub)
		if d.Err == nil || string(d.Raw) != "bytes" {
			t.Errorf("got %+v", d)
		}
		if err := sub.Ack(t.Context(), []es.Delivery{d}); err != nil || !acked(w) {
			t.Errorf("acknowledging it: %v, %v", err, acked(w))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestASubscriptionThatWatermillEndsIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &broker{}
		s := subscriber(t, b)
		sub := subscribe(t, s, "mailer")
		close(b.out[0])
		var room [1]es.Delivery
		if _, err := sub.Receive(t.Context(), room[:]); !errors.Is(err, es.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		synctest.Wait()
		again := subscribe(t, s, "mailer") // anew
		b.send(t, 1, 1)
		receive(t, again)
		if err := errors.Join(sub.Close(), again.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestSubscriberTurnsDown(t *testing.T) {
	t.Parallel()
	b := &broker{refused: errNo}
	s := subscriber(t, b)
	if _, err := s.Subscribe(t.Context(), "order", es.SubscribeOptions{Group: "mailer"}); !errors.Is(err, errNo) {
		t.Errorf("got %v, want what Watermill said", err)
	}
	b.refused = nil
	if _, err := s.Subscribe(t.Context(), "order", es.SubscribeOptions{Start: es.Start{Kind: es.StartBeginning}}); !errors.Is(err, es.ErrUnsupported) {
		t.Errorf("a start gives %v, want ErrUnsupported", err)
	}
	if _, err := s.Subscribe(t.Context(), "", es.SubscribeOptions{}); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("no topic gives %v, want ErrInvalid", err)
	}
	forGroup := func(string) (message.Subscriber, error) { return b, nil }
	for name, c := range map[string]eswatermill.SubscriberConfig{
		"neither": {}, "both": {Subscriber: b, ForGroup: forGroup},
	} {
		if _, err := eswatermill.NewSubscriber(c); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	own, err := eswatermill.NewSubscriber(eswatermill.SubscriberConfig{ForGroup: forGroup})
	if err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, own, "mailer")
	if err := errors.Join(sub.Close(), own.Close()); err != nil || b.closed != 1 {
		t.Errorf("closed %d times (%v), want the group's own subscriber once", b.closed, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestTheWholeWayOverWatermill has Watermill's handlers on our router, with Watermill's pub/sub on both ends.
func TestTheWholeWayOverWatermill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		channel := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 16}, nil)
		s := subscriber(t, channel)
		p, err := eswatermill.NewPublisher(channel, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := router.New(router.Config{Subscriber: s, Emit: router.ToPublisher(p), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		seen := map[string]int{}
		calls := 0
		err = errors.Join(
			r.Use(middleware.Retry(middleware.RetryConfig{}), middleware.Recover(middleware.RecoverConfig{})),
			r.Route("order", eswatermill.Handler(func(w *message.Message) ([]*message.Message, error) {
				mu.Lock()
				defer mu.Unlock()
				if calls++; calls%3 == 0 {
					return nil, errNo
				}
				next := message.NewMessage("", w.Payload)
				next.Metadata.Set("name", "MailSent")
				return message.Messages{next}, nil
			}, eswatermill.HandlerConfig{PublishTopic: "mail"}), router.Options{Name: "mailer"}),
			r.Route("mail", eswatermill.NoPublishHandler(func(w *message.Message) error {
				mu.Lock()
				defer mu.Unlock()
				seen[w.Metadata.Get(eswatermill.HeaderCausationID)]++
				return nil
			}, eswatermill.HandlerConfig{}), router.Options{Name: "counter"}),
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		const messages = 50
		for i := range messages {
			m := es.NewMessage(fmt.Sprintf("order-%d", i), "OrderPlaced", []byte("{}"))
			if err := p.Publish(t.Context(), es.Publication{Topic: "order", Message: m}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour) // of the bubble: until everything was tried again
		mu.Lock()
		for id, times := range seen {
			if times != 1 {
				t.Errorf("what %s led to was handled %d times", id, times)
			}
		}
		if len(seen) != messages {
			t.Errorf("%d of %d messages led to another", len(seen), messages)
		}
		mu.Unlock()
		if err := errors.Join(r.Stop(t.Context()), s.Close(), p.Close()); err != nil {
			t.Error(err)
		}
	})
}
