package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestLeasesAreProlonged: of what is being handled, of what waits behind it, and of busy messages.
func TestLeasesAreProlonged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "Slow"), message("order-2", "Waits"), message("order-3", "Busy"))
		var calls []string
		busy := true
		r := begin(t, b, Config{}, Options{Lease: 30 * time.Second}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			calls = append(calls, fmt.Sprintf("%s/%d", d.Name, d.Attempt))
			switch {
			case d.Name == "Slow":
				time.Sleep(10 * time.Minute)
			case d.Name == "Busy" && busy:
				busy = false
				return nil, es.Busy(10*time.Minute, errBoom)
			}
			return nil, nil
		})
		time.Sleep(time.Hour)
		halt(t, r)
		if !slices.Equal(calls, []string{"Slow/1", "Waits/1", "Busy/1", "Busy/1"}) {
			t.Errorf("calls were %v", calls)
		}
		if lost := r.Stats()[0].Lost; lost != 0 {
			t.Errorf("%d deliveries were lost", lost)
		}
	})
}

// TestLeasesThatDoNotEnd are not prolonged.
func TestLeasesThatDoNotEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.noLease = true
		b.publish(message("order-1", "Slow"))
		r := begin(t, b, Config{}, Options{}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
			time.Sleep(time.Hour)
			return nil, nil
		})
		time.Sleep(2 * time.Hour)
		halt(t, r)
		if b.extended != 0 {
			t.Errorf("%d leases were prolonged", b.extended)
		}
	})
}

// TestLostLease: what a handler did after its lease was over is not acknowledged, which is said and counted and ends nothing. What
// has not begun by then is not begun: somebody else has it.
func TestLostLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.answerErr = func(op string) error {
			if op == "extend" {
				return errors.New("no connection")
			}
			return nil
		}
		b.publish(message("order-1", "Slow"), message("order-2", "Waits"))
		var text syncBuffer
		var calls []string
		r := begin(t, b, Config{Logger: slog.New(slog.NewTextHandler(&text, nil))}, Options{Lease: 30 * time.Second},
			func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
				calls = append(calls, fmt.Sprintf("%s/%d", d.Name, d.Attempt))
				if d.Attempt == 1 && d.Name == "Slow" {
					time.Sleep(40 * time.Second)
					b.mu.Lock()
					b.answerErr = nil
					b.mu.Unlock()
					time.Sleep(20 * time.Second)
				}
				return nil, nil
			})
		time.Sleep(time.Hour)
		halt(t, r)
		if !slices.Equal(calls, []string{"Slow/1", "Slow/2", "Waits/2"}) {
			t.Errorf("calls were %v", calls)
		}
		if got := r.Stats()[0]; got.Lost != 2 || got.Handled != 3 {
			t.Errorf("stats are %+v", got)
		}
		if b.left() != 0 {
			t.Error("not all was acknowledged in the end")
		}
		if got := text.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "lease lost") {
			t.Errorf("the log is %s", got)
		}
	})
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestAnswersThatFailAreGivenAgain: every kind of answer, until it gets through. The route is not healthy meanwhile.
func TestAnswersThatFailAreGivenAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		said []string
	}{
		"ack":     {nil, []string{"ack A/1"}},
		"nack":    {es.RetryAfter(0, errBoom), []string{"nack A/1", "ack A/2"}},
		"release": {es.Busy(0, errBoom), []string{"release A/1", "ack A/1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				down := errors.New("no connection")
				b.answerErr = func(op string) error {
					if op == "extend" {
						return nil
					}
					return down
				}
				b.publish(message("order-1", "A"))
				calls := 0
				r := begin(t, b, Config{}, Options{}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
					if calls++; calls == 1 {
						return nil, test.err
					}
					return nil, nil
				})
				time.Sleep(time.Hour) // the lease is prolonged meanwhile
				if err := r.Health(t.Context()); !errors.Is(err, down) {
					t.Errorf("health: %v", err)
				}
				b.mu.Lock()
				b.answerErr = nil
				b.log = nil
				b.mu.Unlock()
				time.Sleep(time.Minute)
				if err := r.Health(t.Context()); err != nil {
					t.Errorf("health: %v", err)
				}
				halt(t, r)
				said := slices.DeleteFunc(b.said(), func(s string) bool { return strings.HasPrefix(s, "extend") })
				if !slices.Equal(said, test.said) {
					t.Errorf("the broker was told %v, not %v", said, test.said)
				}
			})
		})
	}
}

// TestAcknowledgementsDoNotWaitForASlowNeighbour: what is handled is acknowledged although the batch is not through.
func TestAcknowledgementsDoNotWaitForASlowNeighbour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"), message("order-2", "B"), message("order-3", "Slow"))
		release := make(chan struct{})
		r := begin(t, b, Config{}, Options{}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			if d.Name == "Slow" {
				<-release
			}
			return nil, nil
		})
		time.Sleep(flushAfter)
		synctest.Wait()
		if said := b.said(); !slices.Equal(said, []string{"ack A/1", "ack B/1"}) {
			t.Errorf("the broker was told %v", said)
		}
		if got := r.Stats()[0].InFlight; got != 1 {
			t.Errorf("%d messages are in flight", got)
		}
		close(release)
		halt(t, r)
	})
}

// TestBusyMessagesAreBounded: beyond the bound they come back early, and none is lost.
func TestBusyMessagesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		const n = maxParked + 100
		for i := range n {
			b.publish(message(fmt.Sprintf("order-%d", i), "A"))
		}
		calls := 0
		r := begin(t, b, Config{}, Options{Batch: n}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			if calls++; calls <= n {
				return nil, es.Busy(time.Hour, errBoom)
			}
			if d.Attempt != 1 {
				t.Errorf("being busy was an attempt: %d", d.Attempt)
			}
			return nil, nil
		})
		time.Sleep(time.Minute)
		if got := r.Stats()[0]; got.Parked > maxParked || got.Parked < maxParked/2 || b.left() != got.Parked {
			t.Errorf("stats are %+v, left are %d", got, b.left())
		}
		time.Sleep(2 * time.Hour)
		halt(t, r)
		if b.left() != 0 {
			t.Errorf("%d messages are left", b.left())
		}
	})
}
