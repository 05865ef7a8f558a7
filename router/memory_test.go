package router_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// system is a broker, a backend and a router on them.
type system struct {
	broker  *memory.PubSub
	backend *memory.Backend
	router  *router.Router
}

func newSystem(t *testing.T, c router.Config) *system {
	t.Helper()
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s := &system{broker: broker, backend: memory.New()}
	c.Subscriber = broker
	if c.Emit == nil {
		c.Emit = router.ToOutbox(s.backend.Outbox())
	}
	if s.router, err = router.New(c); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *system) end(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	if err := errors.Join(s.router.Stop(ctx), s.broker.Close(), s.backend.Close()); err != nil {
		t.Error(err)
	}
}

// outbox returns what is in the outbox.
func (s *system) outbox(t *testing.T) []*es.Message {
	t.Helper()
	room := make([]es.Entry, 1000)
	n, err := s.backend.Outbox().Claim(t.Context(), room, es.ClaimOptions{Owner: "test"})
	if err != nil {
		t.Fatal(err)
	}
	msgs := make([]*es.Message, n)
	for i := range msgs {
		msgs[i] = room[i].Message
	}
	return msgs
}

// TestEveryMessageIsHandledAndItsOutputStoredOnce: with handlers that fail, panic, are slow, and messages that are published twice.
func TestEveryMessageIsHandledAndItsOutputStoredOnce(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 8} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSystem(t, router.Config{})
				defer s.end(t)
				const streams, each = 20, 10
				var mu sync.Mutex
				last := map[string]int{}
				handled := 0
				h := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
					var i int
					if _, err := fmt.Sscan(d.Name, &i); err != nil {
						return nil, es.DeadLetter(err)
					}
					switch {
					case i%5 == 0 && d.Attempt == 1:
						return nil, errors.New("first attempt")
					case i%7 == 0 && d.Attempt == 1:
						panic("first attempt")
					case i%3 == 0:
						time.Sleep(time.Second)
					}
					mu.Lock()
					defer mu.Unlock()
					if i != last[d.Stream]+1 {
						t.Errorf("%s: %d came after %d", d.Stream, i, last[d.Stream])
					}
					last[d.Stream] = i
					handled++
					return []*es.Message{es.NewMessage("done-"+d.Stream, d.Name, nil)}, nil
				})
				err := errors.Join(
					s.router.Use(middleware.Retry(middleware.RetryConfig{}),
						middleware.Dedupe(s.backend.Dedupe(), middleware.DedupeConfig{}),
						middleware.Recover(middleware.RecoverConfig{})),
					s.router.Route("order", h, router.Options{Concurrency: workers, Batch: 16}),
					s.router.Start(t.Context()))
				if err != nil {
					t.Fatal(err)
				}
				for i := range each {
					for stream := range streams {
						m := es.NewMessage(fmt.Sprintf("order-%d", stream), strconv.Itoa(i+1), nil)
						for range 1 + i%2 { // some twice
							if err := s.broker.Publish(t.Context(), es.ToCategory(m)...); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
				time.Sleep(10 * time.Minute)
				mu.Lock()
				defer mu.Unlock()
				if handled != streams*each {
					t.Errorf("handled %d of %d", handled, streams*each)
				}
				if n := len(s.outbox(t)); n != streams*each {
					t.Errorf("%d outputs are stored", n)
				}
				if got := s.router.Stats()[0]; got.Dead != 0 || got.InFlight != 0 || got.Skipped != streams*each/2 {
					t.Errorf("stats are %+v", got)
				}
			})
		})
	}
}

// TestSecondRouterTakesOver: what a stop breaks off or gives back is handled by another of the group, with the same attempt.
func TestSecondRouterTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSystem(t, router.Config{Grace: time.Second})
		blocked := es.HandlerFunc(func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if err := errors.Join(s.router.Route("order", blocked, router.Options{}), s.router.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if err := s.broker.Publish(t.Context(), es.ToCategory(es.NewMessage("order-1", strconv.Itoa(i), nil))...); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if err := s.router.Stop(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: %v", err)
		}
		var names string
		second, err := router.New(router.Config{Subscriber: s.broker})
		if err != nil {
			t.Fatal(err)
		}
		s.router = second
		defer s.end(t)
		h := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			if d.Attempt != 1 {
				t.Errorf("%s is at attempt %d", d.Name, d.Attempt)
			}
			names += d.Name
			return nil, nil
		})
		if err := errors.Join(second.Route("order", h, router.Options{}), second.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if names != "0123456789" {
			t.Errorf("handled %s", names)
		}
	})
}

// TestHandlerThatPublishesToItsOwnTopic is told so by the broker when there is no room, which it can tell by the context.
func TestHandlerThatPublishesToItsOwnTopic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker, err := memory.NewPubSub(memory.PubSubConfig{Buffer: 1})
		if err != nil {
			t.Fatal(err)
		}
		s := newSystem(t, router.Config{})
		s.broker = broker
		if s.router, err = router.New(router.Config{Subscriber: broker, Emit: router.ToPublisher(broker)}); err != nil {
			t.Fatal(err)
		}
		defer s.end(t)
		var failed error
		watch := func(next es.Handler) es.Handler {
			return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
				out, err := next.Handle(ctx, d)
				if err != nil {
					failed = err
					return nil, es.Skip(err)
				}
				return out, nil
			})
		}
		h := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			if d.Name != "First" {
				return nil, nil
			}
			var out []*es.Message
			for i := range 10 {
				out = append(out, es.NewMessage("order-2", strconv.Itoa(i), nil))
			}
			return out, nil
		})
		err = errors.Join(s.router.Use(watch), s.router.Route("order", h, router.Options{}), s.router.Start(t.Context()),
			broker.Publish(t.Context(), es.ToCategory(es.NewMessage("order-1", "First", nil))...))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if failed == nil {
			t.Error("the handler waits for room that only it can make")
		}
	})
}

// TestFollowersOfANackAreNotLost: a subscription gives back by itself what follows a nacked message of its key, so the router must
// not try to answer for it afterwards.
func TestFollowersOfANackAreNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSystem(t, router.Config{})
		var got []string
		err := s.router.Route("order", es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			if d.Name == "0" && d.Attempt < 3 {
				return nil, es.RetryAfter(time.Duration(d.Attempt-1)*time.Second, errors.New("not yet"))
			}
			got = append(got, d.Name)
			return nil, nil
		}), router.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.router.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var pubs []es.Publication
		for i := range 4 {
			pubs = append(pubs, es.ToCategory(es.NewMessage("order-1", strconv.Itoa(i), nil))...)
		}
		if err := s.broker.Publish(t.Context(), pubs...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // of the bubble's own time
		stats := s.router.Stats()[0]
		s.end(t)
		if fmt.Sprint(got) != "[0 1 2 3]" || stats.Lost != 0 || stats.Handled != 4 {
			t.Errorf("handled %v, stats %+v", got, stats)
		}
	})
}
