package middleware

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// graveyard is where dead letters are sent in a test.
type graveyard struct {
	letters []*es.Message
	err     error
}

func (g *graveyard) send(_ context.Context, msgs []*es.Message) error {
	if g.err != nil {
		return g.err
	}
	g.letters = append(g.letters, msgs...)
	return nil
}

func TestDeadLetterSendsWhatFailsForGood(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		sent bool
	}{
		"success":     {nil, false},
		"plain":       {errBoom, false},
		"retry after": {es.RetryAfter(time.Second, errBoom), false},
		"skip":        {es.Skip(errBoom), false},
		"busy":        {es.Busy(time.Second, errBoom), false},
		"dead":        {es.DeadLetter(errBoom), true},
		"permanent":   {es.Invalidf("item", "is wrong"), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var g graveyard
			_, err := DeadLetter(DeadLetterConfig{Send: g.send})(returning(test.err)).Handle(t.Context(), delivery(1))
			if !test.sent {
				if err != test.err || len(g.letters) > 0 { //nolint:errorlint // the very one
					t.Errorf("the error became %v, and %d dead letters were sent", err, len(g.letters))
				}
				return
			}
			if verdict, _ := es.Judge(err); verdict != es.VerdictSkip || !errors.Is(err, test.err) || len(g.letters) != 1 {
				t.Errorf("the error became %v, and %d dead letters were sent", err, len(g.letters))
			}
		})
	}
}

// TestDeadLetterTellsAll: everything that is needed to look at the original and to replay it; R5.
func TestDeadLetterTellsAll(t *testing.T) {
	t.Parallel()
	var g graveyard
	d := delivery(3)
	h := es.Chain(returning(&es.PanicError{Value: errBoom, Stack: []byte("here")}),
		DeadLetter(DeadLetterConfig{Send: g.send, Stream: "orders.dead", Handler: "ship"}), Retry(RetryConfig{Attempts: 3}))
	for range 2 { // the second time is after a crash before the acknowledgement
		if _, err := h.Handle(t.Context(), d); !errors.Is(err, errBoom) || !errors.Is(err, es.ErrAttemptsExhausted) {
			t.Fatalf("the error is %v", err)
		}
	}
	if len(g.letters) != 2 || g.letters[0].ID != g.letters[1].ID || g.letters[0].Stream != "orders.dead" {
		t.Fatalf("the dead letters are %v", g.letters)
	}
	var record es.DeadLetterRecord
	if err := json.Unmarshal(g.letters[0].Data, &record); err != nil {
		t.Fatal(err)
	}
	if record.Original.ID != d.ID || record.Topic != "order" || record.Group != "shipping" || record.Handler != "ship" ||
		record.Attempts != 3 || record.Stack != "here" || record.Error == "" || g.letters[0].CausationID != d.ID.String() {
		t.Errorf("the dead letter says %+v", record)
	}
}

func TestDeadLetterNamesTheRoute(t *testing.T) {
	t.Parallel()
	var g graveyard
	h := DeadLetter(DeadLetterConfig{Send: g.send, When: func(_ *es.Delivery, err error) bool { return errors.Is(err, errBoom) }})
	_, _ = h(returning(errBoom)).Handle(t.Context(), delivery(1))
	if _, err := h(returning(es.DeadLetter(errDown))).Handle(t.Context(), delivery(1)); !errors.Is(err, errDown) || len(g.letters) != 1 {
		t.Fatalf("%d were sent, and what is not meant became %v", len(g.letters), err)
	}
	var record es.DeadLetterRecord
	if err := json.Unmarshal(g.letters[0].Data, &record); err != nil || record.Handler != "shipping" || g.letters[0].Stream != "dead" {
		t.Errorf("the dead letter in %q says %+v, %v", g.letters[0].Stream, record, err)
	}
}

// TestDeadLetterLosesNothing: what could not be sent comes again, what was sent before is done, and a stop is no death.
func TestDeadLetterLosesNothing(t *testing.T) {
	t.Parallel()
	g := graveyard{err: errDown}
	config := DeadLetterConfig{Send: g.send, Backoff: Backoff{Base: time.Second, Random: func() float64 { return 0.5 }}}
	h := DeadLetter(config)(returning(es.DeadLetter(errBoom)))
	_, err := h.Handle(t.Context(), delivery(2))
	if verdict, delay := es.Judge(err); verdict != es.VerdictRetry || delay != time.Second || !errors.Is(err, errDown) || !errors.Is(err, errBoom) {
		t.Errorf("what could not be sent is %v", err)
	}
	g.err = &es.DuplicateError{}
	if _, err = h.Handle(t.Context(), delivery(2)); !errors.Is(err, errBoom) {
		t.Errorf("what was sent before is %v", err)
	} else if verdict, _ := es.Judge(err); verdict != es.VerdictSkip {
		t.Errorf("what was sent before is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = h.Handle(ctx, delivery(2)); !es.Permanent(err) {
		t.Errorf("a stop is %v", err)
	}
	if _, err = DeadLetter(DeadLetterConfig{})(returning(es.DeadLetter(errBoom))).Handle(t.Context(), delivery(1)); !es.Permanent(err) {
		t.Errorf("without a place to send to it is %v", err)
	}
}
