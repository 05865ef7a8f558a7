package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestRouteThatIsPausedWhileItIsAsked does not make the router unhealthy, nor an answer about the others an error.
func TestRouteThatIsPausedWhileItIsAsked(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(context.Context, *Router) error{
		"health": func(ctx context.Context, r *Router) error { return r.Health(ctx) },
		"lags":   func(ctx context.Context, r *Router) error { _, err := r.Lags(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t)
			var r *Router
			b.lag = func(string) (es.Lag, error) {
				if err := r.Pause("order", ""); err != nil {
					t.Error(err)
				}
				return es.Lag{}, es.ErrClosed
			}
			r = begin(t, b, Config{}, Options{MaxLag: 5}, nothing)
			if err := ask(t.Context(), r); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			halt(t, r)
		})
	}
}

// TestHealthComesBack when what failed does not fail any more, although nothing of its kind has happened since: a topic on which
// nothing is published, and a dead letter that another process sent.
func TestHealthComesBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		set func(*broker, *outbox)
		err error
	}{
		"receive": {func(b *broker, _ *outbox) { b.receiveErrs = []error{errBoom} }, errBoom},
		"dead letter": {func(b *broker, dead *outbox) {
			dead.fail(errBoom)
			b.publish(message("order-1", "Fails once"))
		}, errBoom},
		"answer": {func(b *broker, _ *outbox) {
			b.answerErr = func(string) error { return errBoom }
			b.publish(message("order-1", "A"))
		}, errBoom},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, dead := newBroker(t), &outbox{}
				test.set(b, dead)
				r := begin(t, b, Config{DeadLetter: dead.emit, NoReplays: true}, Options{}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
					if d.Name == "Fails once" && d.Attempt == 1 {
						return nil, es.DeadLetter(errBoom)
					}
					return nil, nil
				})
				synctest.Wait()
				if err := r.Health(t.Context()); !errors.Is(err, test.err) {
					t.Errorf("health: %v", err)
				}
				time.Sleep(30 * time.Second)
				if b.answerErr != nil { // it fails still: that it is waited out must not hide it
					if err := r.Health(t.Context()); !errors.Is(err, test.err) {
						t.Errorf("health: %v", err)
					}
					b.mu.Lock()
					b.answerErr = nil
					b.mu.Unlock()
				}
				time.Sleep(5 * time.Minute)
				if err := r.Health(t.Context()); err != nil {
					t.Errorf("health afterwards: %v", err)
				}
				halt(t, r)
			})
		})
	}
}
