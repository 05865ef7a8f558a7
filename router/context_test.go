package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestContextCarriesTheDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		b := newBroker(t)
		b.publish(message("order-1", "A"))
		var leaked []context.Context
		var seen []*es.Delivery
		r, err := New(Config{Subscriber: b})
		if err != nil {
			t.Fatal(err)
		}
		h := es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			if got, ok := es.DeliveryFrom(ctx); !ok || got.Message != d.Message || got.Attempt != d.Attempt || got.Topic != "order" {
				t.Errorf("the context carries %+v, the delivery is %+v", got, d)
			} else {
				seen = append(seen, got)
			}
			if ctx.Value(key{}) != "value" {
				t.Error("the values of the context of Start are gone")
			}
			inner := &es.Delivery{}
			if got, _ := es.DeliveryFrom(es.WithDelivery(ctx, inner)); got != inner {
				t.Error("an inner delivery is not found")
			}
			below, cancel := context.WithCancel(ctx)
			defer cancel()
			if got, ok := es.DeliveryFrom(below); !ok || got.Message != d.Message {
				t.Error("the delivery is gone in a context below")
			}
			leaked = append(leaked, ctx)
			return nil, nil
		})
		if err := errors.Join(r.Route("order", h, Options{}), r.Start(context.WithValue(t.Context(), key{}, "value"))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		first, old := seen[0], leaked[0]
		done := make(chan struct{})
		go func() { // a goroutine that outlives its handler reads what it may while others are handled
			defer close(done)
			for range 1000 {
				if d, ok := es.DeliveryFrom(old); ok && d.Name != "A" {
					t.Errorf("a context shows the delivery of %s", d.Name)
				}
				if first.Name != "A" {
					t.Error("a delivery was changed")
				}
			}
		}()
		b.publish(message("order-1", "B"))
		<-done
		synctest.Wait()
		if _, ok := es.DeliveryFrom(old); ok {
			t.Error("the context still carries the delivery, long after it was handled")
		}
		halt(t, r)
		if cause := context.Cause(old); !errors.Is(cause, ErrStopped) {
			t.Errorf("the cause is %v", cause)
		}
	})
}
