package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

var errBoom = errors.New("boom")

// letter decodes the only dead letter that was sent.
func letter(t *testing.T, o *outbox) (*es.Message, es.DeadLetterRecord) {
	t.Helper()
	sent := o.sent()
	if len(sent) != 1 {
		t.Fatalf("%d dead letters were sent", len(sent))
	}
	var record es.DeadLetterRecord
	if err := json.Unmarshal(sent[0].Data, &record); err != nil {
		t.Fatal(err)
	}
	return sent[0], record
}

// TestVerdicts holds the router to what becomes of a message for each thing that a handler can say of it.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	once := func(err error) es.HandlerFunc {
		first := true
		return func(context.Context, *es.Delivery) ([]*es.Message, error) {
			if first {
				first = false
				return nil, err
			}
			return nil, nil
		}
	}
	always := func(err error) es.HandlerFunc {
		return func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, err }
	}
	for name, test := range map[string]struct {
		handler es.HandlerFunc
		config  Config
		options Options
		said    []string
		took    time.Duration // until the handler was called for the last time
		stats   Stats
	}{
		"done": {
			handler: always(nil),
			said:    []string{"ack A/1"},
			stats:   Stats{Handled: 1},
		},
		"skip": {
			handler: always(fmt.Errorf("wrapped: %w", es.Skip(errBoom))),
			said:    []string{"ack A/1"},
			stats:   Stats{Skipped: 1},
		},
		"retry": {
			handler: once(es.RetryAfter(time.Hour, errBoom)),
			said:    []string{"nack A/1", "ack A/2"},
			took:    time.Hour,
			stats:   Stats{Handled: 1, Failed: 1},
		},
		"busy": {
			handler: once(es.Busy(time.Minute, errBoom)),
			options: Options{Lease: time.Hour},
			said:    []string{"release A/1", "ack A/1"},
			took:    time.Minute,
			stats:   Stats{Handled: 1, Busy: 1},
		},
		"dead": {
			handler: always(es.DeadLetter(errBoom)),
			said:    []string{"ack A/1"},
			stats:   Stats{Dead: 1},
		},
		"failed": {
			handler: once(errBoom),
			said:    []string{"nack A/1", "ack A/2"},
			took:    100 * time.Millisecond,
			stats:   Stats{Handled: 1, Failed: 1},
		},
		"permanent and failed": { // what is permanent is for the retry middleware
			handler: once(es.ErrInvalid),
			said:    []string{"nack A/1", "ack A/2"},
			took:    100 * time.Millisecond,
			stats:   Stats{Handled: 1, Failed: 1},
		},
		"failed too often": {
			handler: always(errBoom),
			options: Options{MaxAttempts: 3},
			said:    []string{"nack A/1", "nack A/2", "ack A/3"},
			took:    300 * time.Millisecond,
			stats:   Stats{Dead: 1, Failed: 2},
		},
		"retried too often": {
			handler: always(es.RetryAfter(time.Second, errBoom)),
			config:  Config{MaxAttempts: 2},
			said:    []string{"nack A/1", "ack A/2"},
			took:    time.Second,
			stats:   Stats{Dead: 1, Failed: 1},
		},
		"without bound": {
			handler: func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
				if d.Attempt < 5 {
					return nil, es.RetryAfter(0, errBoom)
				}
				return nil, nil
			},
			config:  Config{MaxAttempts: 2},
			options: Options{MaxAttempts: -1},
			said:    []string{"nack A/1", "nack A/2", "nack A/3", "nack A/4", "ack A/5"},
			stats:   Stats{Handled: 1, Failed: 4},
		},
		"panic": {
			handler: func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
				if d.Attempt == 1 {
					panic("boom")
				}
				return nil, nil
			},
			said:  []string{"nack A/1", "ack A/2"},
			took:  100 * time.Millisecond,
			stats: Stats{Handled: 1, Failed: 1},
		},
		"goexit": {
			handler: func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
				if d.Attempt < 3 {
					runtime.Goexit()
				}
				return nil, nil
			},
			said:  []string{"nack A/1", "nack A/2", "ack A/3"},
			took:  300 * time.Millisecond,
			stats: Stats{Handled: 1, Failed: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, sent := newBroker(t), &outbox{}
				b.publish(message("order-1", "A"))
				start, took := time.Now(), time.Duration(0)
				test.config.Emit = sent.emit
				r := begin(t, b, test.config, test.options, func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
					took = time.Since(start)
					return test.handler(ctx, d)
				})
				time.Sleep(2 * time.Hour)
				if err := r.Health(t.Context()); err != nil {
					t.Errorf("health: %v", err)
				}
				halt(t, r)
				if said := b.said(); !slices.Equal(said, test.said) {
					t.Errorf("the broker was told %v, not %v", said, test.said)
				}
				if took != test.took {
					t.Errorf("the handler was last called after %v, not %v", took, test.took)
				}
				if got := len(sent.sent()); got != int(test.stats.Dead) {
					t.Errorf("%d dead letters were sent, not %d", got, test.stats.Dead)
				}
				want := test.stats
				want.Topic, want.Name, want.State = "order", "order", Stopped
				if got := r.Stats()[0]; got != want {
					t.Errorf("stats are %+v, not %+v", got, want)
				}
			})
		})
	}
}

func TestDeadLetterSaysWhatHappened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, sent, dead := newBroker(t), &outbox{}, &outbox{}
		input := message("order-1", "A")
		b.publish(input)
		r := begin(t, b, Config{Emit: sent.emit, DeadLetter: dead.emit, DeadStream: "graveyard"}, Options{Name: "shipping", MaxAttempts: 2},
			func(context.Context, *es.Delivery) ([]*es.Message, error) { panic(errBoom) })
		time.Sleep(time.Minute)
		halt(t, r)
		if len(sent.sent()) != 0 {
			t.Error("the dead letter went to the emitter of outputs")
		}
		m, record := letter(t, dead)
		if m.Stream != "graveyard" || m.Name != es.DeadLetterName || m.ID == input.ID || m.CausationID != input.ID.String() {
			t.Errorf("the dead letter is %+v", m)
		}
		if record.Original.ID != input.ID || record.Topic != "order" || record.Group != "shipping" || record.Handler != "shipping" ||
			record.Attempts != 2 || record.Time.IsZero() {
			t.Errorf("the record is %+v", record)
		}
		if !strings.Contains(record.Error, "attempts exhausted") || !strings.Contains(record.Error, "boom") ||
			!strings.Contains(record.Stack, "TestDeadLetterSaysWhatHappened") {
			t.Errorf("error %q, stack %q", record.Error, record.Stack)
		}
	})
}

// TestUsedUpBeforeItIsHandled: a message that kills the process comes again with its attempts beyond the bound; P7.
func TestUsedUpBeforeItIsHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, sent := newBroker(t), &outbox{}
		b.put(es.Delivery{Message: message("order-1", "A"), Attempt: 4}, es.Delivery{Message: message("order-1", "B"), Attempt: 3})
		var seen []string
		r := begin(t, b, Config{Emit: sent.emit}, Options{MaxAttempts: 3}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			seen = append(seen, d.Name)
			return nil, nil
		})
		synctest.Wait()
		halt(t, r)
		if !slices.Equal(seen, []string{"B"}) || b.left() != 0 {
			t.Errorf("handled %v, left %d", seen, b.left())
		}
		if _, record := letter(t, sent); record.Attempts != 4 || !strings.Contains(record.Error, "attempts exhausted") {
			t.Errorf("the record is %+v", record)
		}
	})
}

// TestUndecodableIsADeadLetterWithItsBytes: and the subscription goes on; P6.
func TestUndecodableIsADeadLetterWithItsBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, sent := newBroker(t), &outbox{}
		b.put(es.Delivery{Message: &es.Message{}, Err: errBoom, Raw: []byte("\xff\x00raw")})
		b.publish(message("order-1", "B"))
		var seen []string
		r := begin(t, b, Config{Emit: sent.emit}, Options{}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			seen = append(seen, d.Name)
			return nil, nil
		})
		synctest.Wait()
		halt(t, r)
		if !slices.Equal(seen, []string{"B"}) || b.left() != 0 {
			t.Errorf("handled %v, left %d", seen, b.left())
		}
		if _, record := letter(t, sent); string(record.Original.Raw) != "\xff\x00raw" || !strings.Contains(record.Error, "boom") {
			t.Errorf("the record is %+v", record)
		}
	})
}

func TestDeadLetterThatCannotBeSentIsNotLost(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(){
		"error": nil,
		"panic": func() { panic("no dead letters today") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, sent := newBroker(t), &outbox{}
				var down atomic.Bool
				down.Store(true)
				b.publish(message("order-1", "A"))
				calls := 0
				r := begin(t, b, Config{Emit: func(ctx context.Context, msgs []*es.Message) error {
					switch {
					case down.Load() && refuse != nil:
						refuse()
					case down.Load():
						return errors.New("dead stream is down")
					}
					return sent.emit(ctx, msgs)
				}}, Options{MaxAttempts: 3}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
					calls++
					return nil, es.DeadLetter(errBoom)
				})
				time.Sleep(time.Hour)
				if b.left() != 1 {
					t.Error("the message is gone")
				}
				if err := r.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "dead") {
					t.Errorf("health: %v", err)
				}
				if calls != 3 {
					t.Errorf("the handler was called %d times, its attempts are 3", calls)
				}
				down.Store(false)
				time.Sleep(time.Hour)
				if err := r.Health(t.Context()); err != nil {
					t.Errorf("health: %v", err)
				}
				halt(t, r)
				if b.left() != 0 {
					t.Error("the message is not acknowledged")
				}
				letter(t, sent)
			})
		})
	}
}

// TestDeadLetterThatWasSentBefore: its delivery was not acknowledged then, and now it is.
func TestDeadLetterThatWasSentBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"))
		r := begin(t, b, Config{DeadLetter: func(context.Context, []*es.Message) error {
			return es.BatchErr([]error{&es.DuplicateError{Stream: "dead"}})
		}}, Options{}, func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, es.DeadLetter(errBoom) })
		synctest.Wait()
		halt(t, r)
		if said := b.said(); !slices.Equal(said, []string{"ack A/1"}) {
			t.Errorf("the broker was told %v", said)
		}
	})
}

// TestNoDeadLetters: a route of the dead stream, and a router without a place for dead letters, try again without end.
func TestNoDeadLetters(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config Config
		err    error
	}{
		"dead stream, dead":        {Config{DeadStream: "order", DeadLetter: (&outbox{}).emit, MaxAttempts: 2}, es.DeadLetter(errBoom)},
		"dead stream, failed":      {Config{DeadStream: "order-letters", DeadLetter: (&outbox{}).emit, MaxAttempts: 2}, errBoom},
		"no place for them, dead":  {Config{MaxAttempts: 2}, es.DeadLetter(errBoom)},
		"no place for them, faild": {Config{MaxAttempts: 2}, errBoom},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				b.publish(message("order-1", "A"))
				r := begin(t, b, test.config, Options{}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
					if d.Attempt < 5 {
						return nil, test.err
					}
					return nil, nil
				})
				time.Sleep(time.Hour)
				halt(t, r)
				if said := b.said(); !slices.Equal(said, []string{"nack A/1", "nack A/2", "nack A/3", "nack A/4", "ack A/5"}) {
					t.Errorf("the broker was told %v", said)
				}
			})
		})
	}
}

// TestEmitterOfDeadLettersThatEndsItsGoroutine is a failure like any other: the message comes again, and the route can be stopped.
func TestEmitterOfDeadLettersThatEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, dead := newBroker(t), &outbox{}
		b.publish(message("order-1", "A"))
		calls := 0
		r := begin(t, b, Config{DeadLetter: func(ctx context.Context, msgs []*es.Message) error {
			if calls++; calls <= 3 {
				runtime.Goexit()
			}
			return dead.emit(ctx, msgs)
		}}, Options{MaxAttempts: 1}, func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, errBoom })
		time.Sleep(5 * time.Minute)
		halt(t, r)
		if len(dead.sent()) != 1 || b.left() != 0 {
			t.Errorf("%d dead letters, %d messages are left", len(dead.sent()), b.left())
		}
	})
}
