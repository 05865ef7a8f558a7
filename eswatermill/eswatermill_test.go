package eswatermill_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eswatermill"
)

var errNo = errors.New("no")

func full() *es.Message {
	m := es.NewMessage("order-1", "OrderPlaced", []byte{0, 1, 0xff})
	m.Schema, m.Version, m.Position = 3, 7, 99
	m.Recorded = m.Time.Add(time.Millisecond)
	m.CorrelationID, m.CausationID = "correlation", "causation"
	m.Tags = []string{"a:1", "b, with a comma"}
	m.Metadata = map[string]string{"tenant": "acme"}
	m.ContentType = "application/octet-stream"
	return m
}

func TestAMessageSurvivesTheRoundTrip(t *testing.T) {
	t.Parallel()
	m := full()
	want := m.Clone()
	w, err := eswatermill.Headers{}.Marshal("order", m)
	if err != nil {
		t.Fatal(err)
	}
	m.Data[0], m.Metadata["tenant"] = 9, "else" // nothing is shared
	got, err := eswatermill.Headers{}.Unmarshal("order", w)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	w.Payload[0] = 9
	if got.Data[0] != 0 {
		t.Error("the payload is shared")
	}
}

func TestForeignMessagesAreUnderstoodAsFarAsItGoes(t *testing.T) {
	t.Parallel()
	w := message.NewMessage("01J9ZQ8ZC5GJ6B0M7Q1D2W3E4R", message.Payload(`{"a":1}`)) // a ULID
	w.Metadata.Set("name", "OrderPlaced")
	w.Metadata.Set("tenant", "acme")
	m, err := eswatermill.Headers{}.Unmarshal("order", w)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Validate(es.Limits{}); err != nil {
		t.Error(err)
	}
	again, _ := eswatermill.Headers{}.Unmarshal("order", w)
	other, _ := eswatermill.Headers{}.Unmarshal("invoice", w)
	if m.ID != again.ID || m.ID == other.ID {
		t.Errorf("IDs are %s, %s again, and %s in another topic", m.ID, again.ID, other.ID)
	}
	if m.Name != "OrderPlaced" || m.Stream != "order" || m.Schema != 1 || m.Metadata["tenant"] != "acme" || len(m.Metadata) != 1 {
		t.Errorf("got %+v", m)
	}
	bare := message.NewMessage("", nil)
	m, err = eswatermill.Headers{DefaultName: "Unnamed"}.Unmarshal("order", bare)
	if err != nil || m.ID == uuid.Nil || m.Name != "Unnamed" {
		t.Errorf("a message with nothing gives %+v, %v", m, err)
	}
	for _, key := range []string{eswatermill.HeaderVersion, eswatermill.HeaderTime, eswatermill.HeaderSchema} {
		broken := message.NewMessage("", nil)
		broken.Metadata.Set(key, "x")
		if _, err := (eswatermill.Headers{}).Unmarshal("order", broken); err == nil {
			t.Errorf("%s of x is no error", key)
		}
	}
}

// handle has a Watermill handler handle a message of order-1.
func handle(t *testing.T, h message.HandlerFunc, c eswatermill.HandlerConfig) ([]*es.Message, *es.Message, error) {
	t.Helper()
	m := full()
	outputs, err := eswatermill.Handler(h, c).Handle(t.Context(), &es.Delivery{Message: m, Topic: "order", Group: "mailer", Attempt: 1})
	return outputs, m, err
}

func TestHandlersGetTheMessageAndReturnOthers(t *testing.T) {
	t.Parallel()
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "there")
	m := full()
	h := eswatermill.Handler(func(w *message.Message) ([]*message.Message, error) {
		if w.Context().Value(key{}) != "there" || w.UUID != m.ID.String() || w.Metadata.Get("tenant") != "acme" {
			t.Errorf("the handler got %+v", w)
		}
		w.Payload[0] = 9 // its own
		next := message.NewMessage("x", message.Payload("{}"))
		next.Metadata.Set("name", "MailSent")
		return message.Messages{next, w}, nil
	}, eswatermill.HandlerConfig{PublishTopic: "mail"})
	outputs, err := h.Handle(ctx, &es.Delivery{Message: m, Topic: "order", Group: "mailer", Attempt: 1})
	if err != nil || len(outputs) != 2 {
		t.Fatalf("got %d messages, %v", len(outputs), err)
	}
	if m.Data[0] == 9 {
		t.Error("the handler's changes reach the message of others")
	}
	if outputs[0].Name != "MailSent" || outputs[0].Stream != "mail" {
		t.Errorf("the first is %+v", outputs[0])
	}
	// What a handler passes on goes to the topic that it publishes to, and not round in circles.
	if outputs[1].Stream != "mail" || outputs[1].Version != 0 || outputs[1].Position != 0 || outputs[1].Name != m.Name {
		t.Errorf("the second is %+v", outputs[1])
	}
}

func TestFailuresOfHandlers(t *testing.T) {
	t.Parallel()
	if _, _, err := handle(t, func(w *message.Message) ([]*message.Message, error) { w.Ack(); return nil, errNo }, eswatermill.HandlerConfig{}); !errors.Is(err, errNo) {
		t.Errorf("an error after Ack gives %v", err)
	}
	if _, _, err := handle(t, func(w *message.Message) ([]*message.Message, error) { w.Nack(); return nil, nil }, eswatermill.HandlerConfig{}); err == nil {
		t.Error("a Nack without an error counts as handled")
	}
	_, _, err := handle(t, func(w *message.Message) ([]*message.Message, error) { return message.Messages{w}, nil }, eswatermill.HandlerConfig{})
	if verdict, _ := es.Judge(err); verdict != es.VerdictDead {
		t.Errorf("messages without a topic to go to give %v, want a dead letter", err)
	}
	if _, _, err := handle(t, func(*message.Message) ([]*message.Message, error) { return message.Messages{nil}, nil },
		eswatermill.HandlerConfig{PublishTopic: "mail"}); err == nil {
		t.Error("a message of nil is no error")
	}
	err = func() error {
		h := eswatermill.NoPublishHandler(func(*message.Message) error { return es.Skip(errNo) }, eswatermill.HandlerConfig{})
		_, err := h.Handle(t.Context(), &es.Delivery{Message: full(), Topic: "order"})
		return err
	}()
	if verdict, _ := es.Judge(err); verdict != es.VerdictSkip {
		t.Errorf("a control error comes out as %v", err)
	}
}

func TestWatermillMiddlewareGoesAroundOurHandlers(t *testing.T) {
	t.Parallel()
	calls := 0
	h := es.Chain(es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		if calls++; calls < 3 {
			panic("again")
		}
		if d.Group != "mailer" {
			t.Errorf("the delivery is %+v", d)
		}
		return nil, nil
	}),
		eswatermill.Middleware(middleware.Retry{MaxRetries: 3, InitialInterval: time.Nanosecond}.Middleware, nil),
		eswatermill.Middleware(middleware.Recoverer, nil),
	)
	if _, err := h.Handle(t.Context(), &es.Delivery{Message: full(), Topic: "order", Group: "mailer"}); err != nil || calls != 3 {
		t.Errorf("handled %d times, %v", calls, err)
	}
	stray := eswatermill.Middleware(middleware.Recoverer, nil)(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		return []*es.Message{full()}, nil
	}))
	if _, err := stray.Handle(t.Context(), &es.Delivery{Message: full()}); err == nil {
		t.Error("messages that nobody sends are no error")
	}
}

// recorder is a Watermill publisher that fails for some topics.
type recorder struct {
	calls  [][]string // topic, then the names
	fail   string
	closed int
}

func (r *recorder) Publish(topic string, msgs ...*message.Message) error {
	call := []string{topic}
	for _, w := range msgs {
		call = append(call, w.Metadata.Get("name"))
	}
	r.calls = append(r.calls, call)
	if topic == r.fail {
		return errNo
	}
	return nil
}

func (r *recorder) Close() error { r.closed++; return nil }

func TestPublisherKeepsOrderAndSaysWhatFailed(t *testing.T) {
	t.Parallel()
	r := &recorder{fail: "b"}
	p, err := eswatermill.NewPublisher(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	pub := func(topic, name string) es.Publication {
		return es.Publication{Topic: topic, Message: es.NewMessage(topic+"-1", name, nil)}
	}
	err = p.Publish(t.Context(), pub("a", "1"), pub("a", "2"), pub("b", "3"), pub("a", "4"), pub("b", "5"))
	for i, failed := range []bool{false, false, true, false, true} {
		if got := es.Of(err, i); (got != nil) != failed {
			t.Errorf("publication %d: %v", i, got)
		}
	}
	if want := [][]string{{"a", "1", "2"}, {"b", "3"}, {"a", "4"}}; !reflect.DeepEqual(r.calls, want) {
		t.Errorf("published %v, want %v", r.calls, want)
	}
	r.calls = nil
	if err := p.Publish(t.Context(), pub("a", "1"), pub("a", "")); !errors.Is(err, es.ErrInvalid) || r.calls != nil {
		t.Errorf("a message without a name gives %v, and %v was published", err, r.calls)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := p.Publish(t.Context(), pub("a", "1")); !errors.Is(err, es.ErrClosed) || r.closed != 1 {
		t.Errorf("after Close: %v; it was closed %d times", err, r.closed)
	}
	if _, err := eswatermill.NewPublisher(nil, nil); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("no publisher gives %v", err)
	}
}
