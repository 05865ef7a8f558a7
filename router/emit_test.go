package router

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestOutputsAreConsequencesUnderDerivedIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, sent := newBroker(t), &outbox{}
		input := message("order-1", "Ordered")
		input.CorrelationID = "conversation"
		before := *input
		b.publish(input)
		shared := message("x-1", "Twice")
		r := begin(t, b, Config{Emit: sent.emit}, Options{Name: "shipping"}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			out := []*es.Message{message("x-1", "A"), shared, shared, d.Message}
			if d.Attempt == 1 { // the handler is called again, as after a crash
				sent.fail(errors.New("no room"))
			} else {
				sent.fail(nil)
			}
			return out, nil
		})
		time.Sleep(time.Minute)
		halt(t, r)
		if b.left() != 0 {
			t.Error("the input was not acknowledged")
		}
		if said := b.said(); !slices.Equal(said, []string{"nack Ordered/1", "ack Ordered/2"}) {
			t.Errorf("the broker was told %v", said)
		}
		msgs := sent.sent()
		if len(msgs) != 4 {
			t.Fatalf("%d messages were sent", len(msgs))
		}
		for i, m := range msgs {
			if want := es.DeriveID(input.ID, "shipping", i); m.ID != want {
				t.Errorf("output %d has ID %s, not the derived %s", i, m.ID, want)
			}
			if m.CorrelationID != "conversation" || m.CausationID != input.ID.String() {
				t.Errorf("output %d has correlation %q and causation %q", i, m.CorrelationID, m.CausationID)
			}
		}
		if input.ID != before.ID || input.CausationID != before.CausationID {
			t.Error("the input was changed")
		}
	})
}

// TestOutputsGetTheMetadataOfTheOrigin that middleware put into the context, unless they have their own; nothing else of it.
func TestOutputsGetTheMetadataOfTheOrigin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, sent := newBroker(t), &outbox{}
		input := message("order-1", "Ordered")
		input.CorrelationID = "conversation"
		b.publish(input)
		passOn := func(next es.Handler) es.Handler {
			return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
				o := es.Origin{CorrelationID: "other", CausationID: "other", Metadata: map[string]string{"tenant": "acme", "user": "u"}}
				return next.Handle(es.WithOrigin(ctx, o), d)
			})
		}
		own := map[string]string{"tenant": "own"}
		r := begin(t, b, Config{Emit: sent.emit}, Options{Middleware: []es.Middleware{passOn}}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
			second := message("x-1", "B")
			second.Metadata = own
			return []*es.Message{message("x-1", "A"), second}, nil
		})
		synctest.Wait()
		halt(t, r)
		msgs := sent.sent()
		if len(msgs) != 2 {
			t.Fatalf("%d messages were sent", len(msgs))
		}
		for i, tenant := range []string{"acme", "own"} {
			m := msgs[i]
			if m.Metadata["tenant"] != tenant || m.Metadata["user"] != "u" || m.CorrelationID != "conversation" || m.CausationID != input.ID.String() {
				t.Errorf("output %d is %+v", i, m)
			}
		}
		if len(own) != 1 {
			t.Error("the handler's own map was changed")
		}
	})
}

func TestOutputsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	sent := &outbox{}
	one := func(context.Context, *es.Delivery) ([]*es.Message, error) {
		return []*es.Message{message("x", "Y")}, nil
	}
	for name, test := range map[string]struct {
		config  Config
		handler es.HandlerFunc
		options Options
		says    string
	}{
		"no emitter": {Config{}, one, Options{}, "set Config.Emit"},
		"nil message": {Config{Emit: sent.emit}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
			return []*es.Message{nil}, nil
		}, Options{}, "index 0 is nil"},
		"refused": {Config{Emit: func(context.Context, []*es.Message) error { return errors.New("outbox is down") }}, one, Options{},
			"outbox is down"},
		"of middleware": {Config{Emit: sent.emit}, nothing, Options{Middleware: []es.Middleware{func(es.Handler) es.Handler {
			return es.HandlerFunc(one)
		}}}, "middleware returned 1 messages"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, dead := newBroker(t), &outbox{}
				b.publish(message("order-1", "A"))
				test.config.DeadLetter, test.config.MaxAttempts = dead.emit, 2
				r := begin(t, b, test.config, test.options, test.handler)
				time.Sleep(time.Minute)
				halt(t, r)
				letters := dead.sent()
				if len(letters) != 1 {
					t.Fatalf("%d dead letters, the broker was told %v", len(letters), b.said())
				}
				text := string(letters[0].Data)
				if !strings.Contains(text, test.says) || !strings.Contains(text, `route \"order\"`) {
					t.Errorf("the error does not name the reason and the route: %s", text)
				}
			})
		})
	}
	if len(sent.sent()) != 0 {
		t.Error("something was sent")
	}
}

func TestEmitters(t *testing.T) {
	t.Parallel()
	p := &publisher{}
	msgs := []*es.Message{message("order-1", "A"), message("payment-2", "B")}
	if err := ToPublisher(p)(t.Context(), msgs); err != nil {
		t.Fatal(err)
	}
	if len(p.pubs) != 2 || p.pubs[0].Topic != "order" || p.pubs[1].Topic != "payment" || p.pubs[1].Message != msgs[1] {
		t.Errorf("published %v", p.pubs)
	}
	o := &enqueuer{}
	if err := ToOutbox(o)(t.Context(), msgs); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.msgs, msgs) {
		t.Errorf("enqueued %v", o.msgs)
	}
}

type publisher struct{ pubs []es.Publication }

func (p *publisher) Publish(_ context.Context, pubs ...es.Publication) error {
	p.pubs = append(p.pubs, pubs...)
	return nil
}

type enqueuer struct {
	es.Outbox

	msgs []*es.Message
}

func (o *enqueuer) Enqueue(_ context.Context, msgs ...*es.Message) error {
	o.msgs = append(o.msgs, msgs...)
	return nil
}
