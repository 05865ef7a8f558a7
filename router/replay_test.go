package router

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// replayOf returns the message that brings a dead letter back.
func replayOf(t *testing.T, letter *es.Message) *es.Message {
	t.Helper()
	var record es.DeadLetterRecord
	if err := json.Unmarshal(letter.Data, &record); err != nil {
		t.Fatal(err)
	}
	replay, err := es.NewReplay(letter.ID, record)
	if err != nil {
		t.Fatal(err)
	}
	return replay
}

// TestReplayIsHandledAsTheMessageThatFailed: by the same chain, under its own ID, topic and group, with attempts counted anew; what it
// leads to is what the original would have led to, and what fails again is a dead letter of its own; R5.
func TestReplayIsHandledAsTheMessageThatFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, sent, dead := newBroker(t), &outbox{}, &outbox{}
		input := message("order-1", "A")
		input.Metadata = map[string]string{"tenant": "acme"}
		b.publish(input)
		var seen []string
		wrap := func(next es.Handler) es.Handler {
			return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
				seen = append(seen, "middleware")
				return next.Handle(ctx, d)
			})
		}
		calls := 0
		r := begin(t, b, Config{Emit: sent.emit, DeadLetter: dead.emit}, Options{Name: "shipping", MaxAttempts: 2, Middleware: []es.Middleware{wrap}},
			func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
				if got, _ := es.DeliveryFrom(ctx); got.ID != d.ID || got.Topic != d.Topic {
					t.Errorf("the context carries %+v", got)
				}
				if d.ID != input.ID || d.Stream != "order-1" || d.Metadata["tenant"] != "acme" || d.Topic != "order" || d.Group != "shipping" {
					t.Errorf("the handler was given %+v, topic %q, group %q", d.Message, d.Topic, d.Group)
				}
				if want := calls%2 + 1; d.Attempt != want {
					t.Errorf("attempt %d at call %d", d.Attempt, calls)
				}
				if calls++; calls <= 4 {
					return nil, errBoom
				}
				return []*es.Message{message("out-1", "Out")}, nil
			})
		time.Sleep(time.Minute)
		for n := range 2 {
			letters := dead.sent()
			if len(letters) != n+1 {
				t.Fatalf("%d dead letters after %d rounds", len(letters), n+1)
			}
			b.publish(replayOf(t, letters[n]))
			time.Sleep(time.Minute)
		}
		halt(t, r)
		letters := dead.sent()
		if len(letters) != 2 || letters[0].ID == letters[1].ID {
			t.Errorf("dead letters are %v", letters)
		}
		if got := r.Stats()[0]; got.Handled != 1 || got.Failed != 2 || got.Dead != 2 || got.InFlight != 0 {
			t.Errorf("stats are %+v", got)
		}
		if len(seen) != 5 {
			t.Errorf("the middleware saw %d of 5 calls", len(seen))
		}
		out := sent.sent()
		if len(out) != 1 || out[0].ID != es.DeriveID(input.ID, "shipping", 0) || out[0].CausationID != input.ID.String() {
			t.Errorf("outputs are %v", out)
		}
		if b.left() != 0 {
			t.Errorf("%d messages are left", b.left())
		}
		if got := b.options[1]; got.Group != "shipping" || got.Start.Kind != es.StartBeginning {
			t.Errorf("subscribed to replays with %+v", got)
		}
	})
}

// TestReplaysKeepTheirOrder among themselves, by the route's own key, also when the first of them is put off.
func TestReplaysKeepTheirOrder(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]func(*es.Message) string{
		"stream":  nil,
		"own key": func(m *es.Message) string { return m.Metadata["customer"] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, dead := newBroker(t), &outbox{}
				if key != nil { // which the subscription is given, for the originals
					b.keyOf = func(s *subscription) func(*es.Message) string { return s.options.Key }
				}
				for _, m := range []struct{ stream, name, customer string }{
					{"order-1", "A", "x"}, {"order-2", "B", "x"}, {"order-1", "C", "x"}, {"order-3", "D", "y"},
				} {
					msg := message(m.stream, m.name)
					msg.Metadata = map[string]string{"customer": m.customer}
					b.publish(msg)
				}
				var mu sync.Mutex
				replaying := false
				var order []string
				r := begin(t, b, Config{DeadLetter: dead.emit}, Options{Concurrency: 3, Key: key}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
					mu.Lock()
					defer mu.Unlock()
					if !replaying {
						return nil, es.DeadLetter(errBoom)
					}
					if d.Name == "A" && d.Attempt == 1 {
						return nil, es.RetryAfter(time.Second, errBoom)
					}
					order = append(order, d.Name)
					return nil, nil
				})
				time.Sleep(time.Minute)
				mu.Lock()
				replaying = true
				mu.Unlock()
				letters := dead.sent()
				slices.SortFunc(letters, func(a, b *es.Message) int { return strings.Compare(nameIn(t, a), nameIn(t, b)) })
				var replays []*es.Message
				for _, l := range letters {
					replays = append(replays, replayOf(t, l))
				}
				b.publish(replays...)
				time.Sleep(time.Minute)
				halt(t, r)
				at := func(name string) int { return slices.Index(order, name) }
				if len(order) != 4 || at("A") > at("C") || key != nil && (at("A") > at("B") || at("B") > at("C")) {
					t.Errorf("replayed in the order %v", order)
				}
				if at("D") > at("A") {
					t.Errorf("another key waited: %v", order)
				}
			})
		})
	}
}

func nameIn(t *testing.T, letter *es.Message) string {
	t.Helper()
	var record es.DeadLetterRecord
	if err := json.Unmarshal(letter.Data, &record); err != nil {
		t.Fatal(err)
	}
	return record.Original.Name
}

// TestReplaysShareTheWorkers: a worker that waits for messages takes replays, no more handlers run than the route may have, and a
// message and the replay of another of its key are not handled at once.
func TestReplaysShareTheWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		var mu sync.Mutex
		running, keys := 0, map[string]int{}
		r := begin(t, b, Config{DeadLetter: (&outbox{}).emit}, Options{Concurrency: 2}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			mu.Lock()
			defer mu.Unlock()
			running++
			keys[d.Stream]++
			if running > 2 || keys[d.Stream] > 1 {
				t.Errorf("%d handlers run, %d of key %s", running, keys[d.Stream], d.Stream)
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			keys[d.Stream]--
			return nil, nil
		})
		synctest.Wait()
		var replays []*es.Message
		for _, stream := range []string{"order-1", "order-2", "order-3", "order-1"} {
			replays = append(replays, failedBefore(t, stream, "A"))
		}
		start := time.Now()
		b.publish(replays...)
		synctest.Wait()
		if got := r.Stats()[0].Running; got != 2 {
			t.Errorf("%d handlers run although nothing else is to do", got)
		}
		b.publish(message("order-1", "B"), message("order-4", "B"))
		for b.left() > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(start); took > 4*time.Second+100*time.Millisecond {
			t.Errorf("six seconds of work took two workers %v", took)
		}
		halt(t, r)
	})
}

// failedBefore returns the message that brings back another of a stream, which the route of topic and group "order" gave up.
func failedBefore(t *testing.T, stream, name string) *es.Message {
	t.Helper()
	d := &es.Delivery{Message: message(stream, name), Topic: "order", Group: "order", Attempt: 1}
	letter, err := es.NewDeadLetter("dead", "order", d, errBoom)
	if err != nil {
		t.Fatal(err)
	}
	return replayOf(t, letter)
}

// TestReplayThatComesDuringAnAcknowledgement is handled although the worker was about to wait for messages.
func TestReplayThatComesDuringAnAcknowledgement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.ackGate = make(chan struct{})
		slow, replayed := make(chan struct{}), make(chan struct{})
		b.publish(message("order-1", "A"), message("order-2", "Slow"))
		r := begin(t, b, Config{DeadLetter: (&outbox{}).emit}, Options{Concurrency: 2}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			switch d.Name {
			case "Slow":
				<-slow
			case "Replayed":
				close(replayed)
			}
			return nil, nil
		})
		synctest.Wait() // one handler runs, and the other worker acknowledges A before it receives again
		b.publish(failedBefore(t, "order-3", "Replayed"))
		synctest.Wait()
		close(b.ackGate)
		synctest.Wait()
		select {
		case <-replayed:
		default:
			t.Error("the replay waits for a message that may never come")
		}
		close(slow)
		halt(t, r)
	})
}

// TestFailureDoesNotGiveReplaysBack: what follows a message that failed comes again after it; the replay of another one need not.
func TestFailureDoesNotGiveReplaysBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"), message("order-1", "B"))
		gate := make(chan struct{})
		r := begin(t, b, Config{DeadLetter: (&outbox{}).emit}, Options{}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			if d.Name == "A" && d.Attempt == 1 {
				<-gate
				return nil, errBoom
			}
			return nil, nil
		})
		synctest.Wait()
		b.publish(failedBefore(t, "order-1", "Replayed"))
		synctest.Wait()
		close(gate)
		time.Sleep(time.Minute)
		halt(t, r)
		want := []string{"release B/1", "nack A/1", "ack " + es.ReplayName + "/1", "ack A/2", "ack B/1"}
		if said := b.said(); !slices.Equal(said, want) {
			t.Errorf("the broker was told %v, not %v", said, want)
		}
	})
}

// TestWhatIsNoReplayIsADeadLetterItself: with its bytes, and what follows goes on.
func TestWhatIsNoReplayIsADeadLetterItself(t *testing.T) {
	t.Parallel()
	topic := es.ReplayTopic("order", "order")
	named := func(name string, record es.DeadLetterRecord) *es.Message {
		data, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		return es.NewMessage(topic+"-1", name, data)
	}
	original := es.RecordedMessage{ID: uuid.New(), Name: "A", Stream: "order-1"}
	for name, m := range map[string]*es.Message{
		"another name":    named("Other", es.DeadLetterRecord{Original: original, Topic: "order", Group: "order"}),
		"no JSON":         es.NewMessage(topic+"-1", es.ReplayName, []byte("{")),
		"another route's": named(es.ReplayName, es.DeadLetterRecord{Original: original, Topic: "order", Group: "other"}),
		"another topic's": named(es.ReplayName, es.DeadLetterRecord{Original: original, Topic: "other", Group: "order"}),
		"undecodable":     named(es.ReplayName, es.DeadLetterRecord{Original: es.RecordedMessage{Raw: []byte("x")}, Topic: "order", Group: "order"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, dead := newBroker(t), &outbox{}
				r := begin(t, b, Config{DeadLetter: dead.emit}, Options{}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
					t.Errorf("the handler was given %s", d.Name)
					return nil, nil
				})
				b.publish(m)
				synctest.Wait()
				halt(t, r)
				_, record := letter(t, dead)
				if record.Original.ID != m.ID || string(record.Original.Raw) != string(m.Data) || record.Topic != topic || record.Group != "order" {
					t.Errorf("the record is %+v", record)
				}
				if b.left() != 0 {
					t.Error("it was not acknowledged")
				}
			})
		})
	}
}

// TestReplaysCanBeSwitchedOff: by the router, by the route, and where there are no dead letters.
func TestReplaysCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	dead := (&outbox{}).emit
	for name, test := range map[string]struct {
		config Config
		topic  string
		opts   Options
		subs   int
	}{
		"on":                 {Config{DeadLetter: dead}, "order", Options{}, 2},
		"off for the router": {Config{DeadLetter: dead, NoReplays: true}, "order", Options{}, 1},
		"off for the route":  {Config{DeadLetter: dead}, "order", Options{NoReplays: true}, 1},
		"no dead letters":    {Config{}, "order", Options{}, 1},
		"the dead stream":    {Config{DeadLetter: dead}, DefaultDeadStream, Options{}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t)
			test.config.Subscriber = b
			r, err := New(test.config)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(r.Route(test.topic, es.HandlerFunc(nothing), test.opts), r.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			if b.subs != test.subs {
				t.Errorf("there are %d subscriptions, not %d", b.subs, test.subs)
			}
			halt(t, r)
			if b.subs != 0 {
				t.Errorf("%d subscriptions are open", b.subs)
			}
		})
	}
}

// TestStartFailsWithoutReplays: with what to do about it, and with nothing left open.
func TestStartFailsWithoutReplays(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.subscribeErr = errors.New("no such topic")
	r, err := New(Config{Subscriber: b, DeadLetter: (&outbox{}).emit})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(r.Route("order", es.HandlerFunc(nothing), Options{}), r.Start(t.Context()))
	if !errors.Is(err, b.subscribeErr) || !strings.Contains(err.Error(), "NoReplays") || !strings.Contains(err.Error(), `route "order"`) {
		t.Errorf("start: %v", err)
	}
	if b.subs != 0 {
		t.Errorf("%d subscriptions are open", b.subs)
	}
}

// startless is a subscriber whose groups all begin at one place.
type startless struct{ es.Subscriber }

func (s startless) Subscribe(ctx context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
	if o.Start.Kind != es.StartDefault {
		return nil, es.ErrUnsupported
	}
	return s.Subscriber.Subscribe(ctx, topic, o)
}

func TestReplaysBeginWhereTheSubscriberCanBegin(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r, err := New(Config{Subscriber: startless{b}, DeadLetter: func(context.Context, []*es.Message) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	handler := es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, nil })
	if err := r.Route("order", handler, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context()); err != nil || len(b.options) != 2 {
		t.Errorf("%d subscriptions, %v; want one for messages and one for replays", len(b.options), err)
	}
}
