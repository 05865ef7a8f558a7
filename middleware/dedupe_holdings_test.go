package middleware

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// taking is a handler that takes a time.
func taking(d time.Duration) es.HandlerFunc {
	return func(context.Context, *es.Delivery) ([]*es.Message, error) {
		time.Sleep(d)
		return nil, nil
	}
}

// TestDedupeProlongs: a handler may take many times its lease, and no copy of the message gets in meanwhile; R6.
func TestDedupeProlongs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config  DedupeConfig
		set     func(*store)
		took    time.Duration
		handled bool // by the copy, while the first is at it
		logged  string
	}{
		"slow":            {took: 10 * time.Minute},
		"not prolonged":   {config: DedupeConfig{NoExtend: true}, took: 10 * time.Minute, handled: true, logged: "could not be marked so"},
		"for one failure": {set: func(s *store) { s.onExtend = failing(s, 1) }, took: 10 * time.Minute, logged: "no connection"},
		"for three":       {set: func(s *store) { s.onExtend = failing(s, 3) }, took: 10 * time.Minute, logged: "no connection"},
		"down":            {set: func(s *store) { s.extend = errDown }, took: 10 * time.Minute, handled: true, logged: "no connection"},
		"the store panics": {
			set: func(s *store) { s.onExtend = func() { panic("boom") } }, took: 10 * time.Minute, handled: true, logged: "panic: boom",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, d := newStore(), delivery(1)
				if test.set != nil {
					test.set(s)
				}
				var text bytes.Buffer
				test.config.Logger = slog.New(slog.NewTextHandler(&text, nil))
				var both sync.WaitGroup
				both.Go(func() {
					if _, err := Dedupe(s, test.config)(taking(test.took)).Handle(t.Context(), d); err != nil {
						t.Errorf("the slow handler: %v", err)
					}
				})
				synctest.Wait()
				handled := false
				for start := time.Now(); time.Since(start) < test.took-time.Second; time.Sleep(time.Second) {
					_, err := Dedupe(s, DedupeConfig{})(returning(nil)).Handle(t.Context(), d)
					handled = handled || err == nil
				}
				both.Wait()
				if handled != test.handled {
					t.Errorf("the copy was handled at the same time: %v", handled)
				}
				if s.state("shipping", d.ID) != es.ReserveDone {
					t.Error("the message is not done")
				}
				if (text.Len() > 0) != (test.logged != "") || !strings.Contains(text.String(), test.logged) {
					t.Errorf("the log is %s", &text)
				}
			})
		})
	}
}

var errDown = errors.New("no connection")

// failing has a store fail the first calls of Extend.
func failing(s *store, times int) func() {
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.extend = nil
		if times--; times >= 0 {
			s.extend = errDown
		}
	}
}

// TestDedupeProlongsTheSlowOnly: a handler that is done within a quarter of its lease costs the store nothing, and when none runs
// nobody looks.
func TestDedupeProlongsTheSlowOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		h := Dedupe(s, DedupeConfig{Lease: time.Minute})
		quick := h(taking(14 * time.Second))
		for range 100 {
			if _, err := quick.Handle(t.Context(), delivery(1)); err != nil {
				t.Fatal(err)
			}
		}
		if s.extends != 0 {
			t.Errorf("prolonged %d times", s.extends)
		}
		slow := h(taking(31 * time.Second))
		if _, err := slow.Handle(t.Context(), delivery(1)); err != nil || s.extends == 0 || s.extends > 2 {
			t.Errorf("%v: prolonged %d times", err, s.extends)
		}
		before := s.extends
		time.Sleep(time.Hour)
		k := slow.(*deduper).holdings //nolint:errcheck // it is one
		if s.extends != before || k.armed.Load() {
			t.Errorf("prolonged %d times when nothing was in hand, and the timer runs: %v", s.extends-before, k.armed.Load())
		}
	})
}

// TestDedupeProlongsManyInOneCall: for each group.
func TestDedupeProlongsManyInOneCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		h := Dedupe(s, DedupeConfig{Lease: time.Minute})(taking(5 * time.Minute))
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				d := delivery(1)
				d.Group = []string{"billing", "shipping"}[i%2]
				if _, err := h.Handle(t.Context(), d); err != nil || s.state(d.Group, d.ID) != es.ReserveDone {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
		if s.extends < 2 || s.extends > 2*4*5 {
			t.Errorf("%d calls for 50 handlers of two groups that take 5 leases", s.extends)
		}
	})
}

// TestDedupeLeavesNothingBehind: a handler's end waits for the call that prolongs its reservation.
func TestDedupeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, d := newStore(), delivery(1)
		entered, leave := make(chan struct{}), make(chan struct{})
		s.onExtend = func() {
			close(entered)
			<-leave
		}
		ended := make(chan error, 1)
		go func() {
			_, err := Dedupe(s, DedupeConfig{})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
				<-entered
				return nil, nil
			})).Handle(t.Context(), d)
			ended <- err
		}()
		<-entered
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("it has returned %v while its reservation was being prolonged", err)
		default:
		}
		close(leave)
		if err := <-ended; err != nil || s.state("shipping", d.ID) != es.ReserveDone {
			t.Errorf("the message is %v, the error %v", s.state("shipping", d.ID), err)
		}
	})
}

// TestDedupeWarnsOnceOfALostLease: and lets the handler go on.
func TestDedupeWarnsOnceOfALostLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.extend = es.ErrLeaseLost
		var text bytes.Buffer
		h := Dedupe(s, DedupeConfig{Logger: slog.New(slog.NewTextHandler(&text, nil))})(taking(50 * time.Second))
		if _, err := h.Handle(t.Context(), delivery(1)); err != nil {
			t.Error(err)
		}
		if lines := strings.Count(text.String(), "lease lost"); lines != 1 || s.extends != 1 {
			t.Errorf("%d warnings of %d calls: %s", lines, s.extends, &text)
		}
	})
}

func TestDedupeProlongsConcurrently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		h := Dedupe(s, DedupeConfig{Lease: time.Second})(es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			time.Sleep(time.Duration(d.Attempt) * 37 * time.Millisecond)
			return nil, nil
		}))
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				d := delivery(i)
				_, err := h.Handle(t.Context(), d)
				if err != nil || s.state("shipping", d.ID) != es.ReserveDone {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
	})
}
