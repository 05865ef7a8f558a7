package estest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

var errNot = errors.New("not today")

func delivered(name string) *es.Delivery {
	return &es.Delivery{Message: es.NewMessage("order-1", name, []byte(`{}`)), Topic: "order", Attempt: 1}
}

func TestARecorderRecordsWhatHandlersAreGivenAndReturn(t *testing.T) {
	t.Parallel()
	var r estest.Recorder
	d := delivered("Placed")
	if out, err := r.Handle(t.Context(), d); out != nil || err != nil {
		t.Errorf("%v, %v", out, err)
	}
	d.Name = "changed afterwards"
	answer := es.NewMessage("mail-1", "Sent", nil)
	r.Answer(func(context.Context, *es.Delivery) ([]*es.Message, error) { return []*es.Message{answer}, errNot })
	if _, err := r.Handle(t.Context(), delivered("Paid")); !errors.Is(err, errNot) {
		t.Error(err)
	}
	around := r.Middleware(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { panic("at the disco") }))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic does not go on")
			}
		}()
		_, _ = around.Handle(t.Context(), delivered("Shipped"))
	}()
	calls := r.Await(t, 3)
	if len(calls) != 3 || calls[0].Name != "Placed" || calls[1].Name != "Paid" || calls[1].Outputs[0].ID != answer.ID ||
		!errors.Is(calls[1].Result, errNot) {
		t.Errorf("%+v", calls)
	}
	if _, panicked := errors.AsType[*es.PanicError](calls[2].Result); !panicked {
		t.Errorf("the panic is recorded as %v", calls[2].Result)
	}
	r.Reset()
	if n := len(r.Handled()); n != 0 {
		t.Errorf("%d calls after Reset", n)
	}
}

func TestARecorderIsWaitedFor(t *testing.T) {
	t.Parallel()
	var r estest.Recorder
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { _, _ = r.Handle(t.Context(), delivered("Placed")) })
	}
	if n := len(r.Await(t, 50)); n != 50 {
		t.Errorf("%d calls", n)
	}
	all.Wait()
	all.Go(func() { _, _ = r.Handle(t.Context(), delivered("Paid")) })
	if found := r.AwaitThat(t, "a payment", func(c estest.Handled) bool { return c.Name == "Paid" }); found.Name != "Paid" {
		t.Errorf("%+v", found)
	}
	all.Wait()
}

func TestAFakePublisherRecordsAndFails(t *testing.T) {
	t.Parallel()
	var p estest.FakePublisher
	m := es.NewMessage("order-1", "Placed", []byte(`{}`))
	p.FailNext(errNot, nil)
	if err := p.Publish(t.Context(), es.Publication{Topic: "order", Message: m}); !errors.Is(err, errNot) {
		t.Error(err)
	}
	if err := p.Publish(t.Context(), es.Publication{Topic: "order", Message: m}); err != nil {
		t.Error(err)
	}
	if err := p.Publish(t.Context(), es.Publication{Message: m}); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("without a topic: %v", err)
	}
	m.Name = "changed afterwards"
	if got := p.Await(t, 1); len(got) != 1 || got[0].Message.Name != "Placed" || got[0].Topic != "order" {
		t.Errorf("%+v", got)
	}
	p.Reset()
	if n := len(p.Published()); n != 0 {
		t.Errorf("%d after Reset", n)
	}
}

func TestAClockMovesWhenItIsMoved(t *testing.T) {
	t.Parallel()
	begin := time.Date(2020, 1, 2, 3, 4, 5, 6789, time.UTC)
	c := estest.NewClock(begin)
	if !c.Now().Equal(begin.Truncate(time.Microsecond)) || c.Since(begin) > 0 {
		t.Errorf("it shows %v", c.Now())
	}
	synctest.Test(t, func(t *testing.T) {
		c := estest.NewClock(begin)
		var woken []time.Duration
		var mu sync.Mutex
		var all sync.WaitGroup
		for _, d := range []time.Duration{3 * time.Hour, time.Hour, 2 * time.Hour} {
			all.Go(func() {
				if err := c.Sleep(t.Context(), d); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				woken = append(woken, d)
			})
		}
		c.AwaitSleepers(t, 3)
		c.Advance(90 * time.Minute)
		synctest.Wait()
		if len(woken) != 1 || woken[0] != time.Hour {
			t.Errorf("after 90 minutes %v are awake", woken)
		}
		c.Set(begin.Add(3 * time.Hour))
		all.Wait()
		if len(woken) != 3 {
			t.Errorf("after three hours %v are awake", woken)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("the sleep of who has given up: %v", err)
		}
		select {
		case <-c.After(0):
		default:
			t.Error("no time is waited for")
		}
	})
}
