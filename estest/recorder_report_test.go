package estest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

// of is a delivery of a message to a topic.
func of(stream, name, data string) *es.Delivery {
	return &es.Delivery{Message: es.NewMessage(stream, name, []byte(data)), Topic: "orders", Attempt: 1}
}

func TestARecorderReportsWhatItHasRecorded(t *testing.T) {
	t.Parallel()
	handle := func(r *estest.Recorder, ds ...*es.Delivery) {
		for _, d := range ds {
			_, _ = r.Handle(context.Background(), d)
		}
	}
	tests := map[string]struct {
		test func(t testing.TB, r *estest.Recorder)
		want string
	}{
		"nothing": {
			func(t testing.TB, r *estest.Recorder) { r.Await(t, 1) },
			`
waited in vain for 1 call
recorded no call`,
		},
		"too little": {
			func(t testing.TB, r *estest.Recorder) {
				handle(r, of("order-1", "Placed", `{"items":1}`), of("order-1", "Paid", ""))
				r.Await(t, 3)
			},
			`
waited in vain for 3 calls
recorded 2 calls
  1 Placed of stream order-1 in topic orders: {"items":1}
  2 Paid of stream order-1 in topic orders`,
		},
		"another one": {
			func(t testing.TB, r *estest.Recorder) {
				handle(r, of("order-1", "Placed", `{"items":1}`))
				r.AwaitThat(t, "a payment", func(h estest.Handled) bool { return h.Name == "Paid" })
			},
			`
waited in vain for a payment
recorded 1 call
  1 Placed of stream order-1 in topic orders: {"items":1}`,
		},
		"what has come of it": {
			func(t testing.TB, r *estest.Recorder) {
				r.Answer(func(context.Context, *es.Delivery) ([]*es.Message, error) {
					return []*es.Message{es.NewMessage("mail-1", "Sent", []byte(`"hello"`)), nil}, errNot
				})
				again := of("order-1", "Placed", "")
				again.Attempt, again.Topic = 2, ""
				handle(r, again)
				r.Answer(func(context.Context, *es.Delivery) ([]*es.Message, error) { panic("at the disco") })
				func() {
					defer func() { _ = recover() }()
					handle(r, of("order-1", "Paid", ""))
				}()
				r.Answer(nil)
				r.Await(t, 3)
			},
			`
waited in vain for 3 calls
recorded 2 calls
  1 Placed of stream order-1
    attempt 2
    returned Sent of stream mail-1: "hello"
    returned nil
    failed: not today
  2 Paid of stream order-1 in topic orders
    failed: panic: at the disco`,
		},
		"what could not be read": {
			func(t testing.TB, r *estest.Recorder) {
				broken := of("", "", "")
				broken.Err, broken.Raw = errors.New("no name"), []byte("{{")
				handle(r, broken, &es.Delivery{}, of("order-1", "Scanned", "\x00\x01"), of("order-1", "Noted", "two\nlines"))
				r.Await(t, 5)
			},
			`
waited in vain for 5 calls
recorded 4 calls
  1 a message that could not be decoded (no name) in topic orders: "{{"
  2 nil
  3 Scanned of stream order-1 in topic orders: 0x0001
  4 Noted of stream order-1 in topic orders: "two\nlines"`,
		},
		"what has not ended": {
			func(t testing.TB, r *estest.Recorder) {
				ctx, cancel := context.WithCancel(context.Background())
				r.Answer(func(context.Context, *es.Delivery) ([]*es.Message, error) {
					<-ctx.Done()
					return nil, nil
				})
				var all sync.WaitGroup
				defer all.Wait()
				defer cancel()
				all.Go(func() { handle(r, of("order-1", "Placed", "")) })
				r.Await(t, 1)
			},
			`
waited in vain for 1 call
recorded no call
1 call under way: a call is recorded when it has ended`,
		},
		"the last of many": {
			func(t testing.TB, r *estest.Recorder) {
				for range 22 {
					handle(r, of("order-1", "Placed", ""))
				}
				handle(r, of("order-1", "Paid", strings.Repeat("1", 500)))
				r.Await(t, 24)
			},
			`
waited in vain for 24 calls
recorded 23 calls
  (3 before)
` + numbered(4, 22, "Placed of stream order-1 in topic orders") +
				"  23 Paid of stream order-1 in topic orders: " + strings.Repeat("1", 400) + "... (100 bytes more)",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // in which no time is lost by waiting
				var r estest.Recorder
				mustReport(t, tt.want, func(t testing.TB) { tt.test(t, &r) })
			})
		})
	}
}

func numbered(from, to int, text string) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "  %d %s\n", i, text)
	}
	return b.String()
}

func TestAFakePublisherReportsWhatWasPublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p estest.FakePublisher
		mustReport(t, `
waited in vain for 1 publication
published no message`, func(t testing.TB) { p.Await(t, 1) })
		m := es.NewMessage("order-1", "Placed", []byte(`{"items":1}`))
		p.FailNext(errNot)
		for _, pub := range []es.Publication{{Topic: "orders", Message: m}, {Topic: "orders", Message: m}, {Topic: "orders"}} {
			_ = p.Publish(t.Context(), pub)
		}
		mustReport(t, `
waited in vain for 2 publications
published 1 message
  1 Placed of stream order-1 in topic orders: {"items":1}
1 call failed because of FailNext
refused last: invalid message: it is nil`, func(t testing.TB) { p.Await(t, 2) })
	})
}

func TestAClockReportsWhoWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := estest.NewClock(time.Date(2030, 5, 6, 12, 0, 0, 0, time.UTC))
		mustReport(t, `
waited in vain for 1 to wait for the clock; there are 0
the clock shows 2030-05-06T12:00:00Z`, func(t testing.TB) { c.AwaitSleepers(t, 1) })
		c.After(time.Hour)
		c.After(time.Minute)
		c.Advance(time.Second)
		mustReport(t, `
waited in vain for 3 to wait for the clock; there are 2
the clock shows 2030-05-06T12:00:01Z
  1 waits until 2030-05-06T12:01:00Z, for 59s more
  2 waits until 2030-05-06T13:00:00Z, for 59m59s more`, func(t testing.TB) { c.AwaitSleepers(t, 3) })
	})
}

// TestWhatIsAwaitedMayLookAtTheRecorder holds that a function that is asked may use the recorder, or end the test, without holding up others.
func TestWhatIsAwaitedMayLookAtTheRecorder(t *testing.T) {
	t.Parallel()
	var r estest.Recorder
	var all sync.WaitGroup
	all.Go(func() { _, _ = r.Handle(t.Context(), of("order-1", "Placed", "")) })
	r.AwaitThat(t, "what is recorded", func(estest.Handled) bool { return len(r.Handled()) == 1 })
	all.Wait()
	mustReport(t, "this is not it", func(t testing.TB) {
		r.AwaitThat(t, "it", func(estest.Handled) bool {
			t.Fatal("this is not it")
			return false
		})
	})
	if _, err := r.Handle(t.Context(), of("order-1", "Paid", "")); err != nil || len(r.Await(t, 2)) != 2 {
		t.Errorf("the recorder is held up: %v", err)
	}
}

func TestARecorderRecordsWhatDoesNotReturn(t *testing.T) {
	t.Parallel()
	var r estest.Recorder
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = r.Middleware(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			runtime.Goexit()
			return nil, nil
		})).Handle(context.Background(), of("order-1", "Placed", ""))
	}()
	<-ended
	failed, ok := errors.AsType[*es.PanicError](r.Await(t, 1)[0].Result)
	if !ok || !strings.Contains(failed.Error(), "did not return") {
		t.Errorf("recorded %v", failed)
	}
	r.Answer(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, disco() })
	func() {
		defer func() { _ = recover() }()
		_, _ = r.Handle(context.Background(), of("order-1", "Paid", ""))
	}()
	failed, ok = errors.AsType[*es.PanicError](r.Await(t, 2)[1].Result)
	if !ok || !strings.Contains(string(failed.Stack), "disco") {
		t.Errorf("the stack does not say where it happened: %v", failed)
	}
}

func disco() error { panic("at the disco") }

func TestAClockShowsMicrosecondsAndLosesNone(t *testing.T) {
	t.Parallel()
	begin := time.Date(2030, 5, 6, 12, 0, 0, 0, time.UTC)
	c := estest.NewClock(begin)
	for range 4 {
		c.Advance(300 * time.Nanosecond)
	}
	if now := c.Now(); !now.Equal(begin.Add(time.Microsecond)) {
		t.Errorf("it shows %v", now)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // it is no matter of luck
		if err := c.Sleep(ended, 0); !errors.Is(err, context.Canceled) {
			t.Fatalf("who has given up before sleeps: %v", err)
		}
	}
}

// TestASleepThatHasEndedIsNotGivenUp holds that a sleep whose time has come is a sleep, whatever else has come since.
func TestASleepThatHasEndedIsNotGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := estest.NewClock(time.Now())
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			slept := make(chan error, 1)
			go func() { slept <- c.Sleep(ctx, time.Hour) }()
			c.AwaitSleepers(t, 1)
			synctest.Wait()
			c.Advance(time.Hour)
			cancel()
			if err := <-slept; err != nil {
				t.Fatal(err)
			}
		}
	})
}
