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

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// store is a memory of handled messages with switches for what can go wrong.
type store struct {
	mu    sync.Mutex
	rows  map[storeKey]es.Reservation
	token uint64

	reserve, complete, release, extend error // what these return

	onExtend     func() // called by Extend before anything else
	extends      int    // how often Extend got through to the store
	completeOnce error
	lease        time.Duration // the last that was asked for
}

type storeKey struct {
	group string
	id    uuid.UUID
}

func newStore() *store { return &store{rows: map[storeKey]es.Reservation{}} }

func (s *store) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(ctx.Err(), s.reserve); err != nil {
		return err
	}
	s.lease = lease
	for i := range rs {
		r, ok := s.rows[storeKey{group, rs[i].ID}]
		switch {
		case ok && r.State == es.ReserveDone:
			rs[i].State = es.ReserveDone
		case ok && time.Now().Before(r.Until):
			rs[i].State, rs[i].Until = es.ReserveBusy, r.Until
		default:
			s.token++
			rs[i] = es.Reservation{ID: rs[i].ID, State: es.ReserveNew, Token: s.token, Until: time.Now().Add(lease)}
			s.rows[storeKey{group, rs[i].ID}] = rs[i]
		}
	}
	return nil
}

func (s *store) Complete(ctx context.Context, group string, rs []es.Reservation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.completeOnce
	s.completeOnce = nil
	if err := errors.Join(ctx.Err(), s.complete, err); err != nil {
		return err
	}
	for _, r := range rs {
		key := storeKey{group, r.ID}
		if row := s.rows[key]; row.Token != r.Token || !time.Now().Before(row.Until) {
			return &es.BatchError{Errs: []error{es.ErrLeaseLost}}
		}
		s.rows[key] = es.Reservation{State: es.ReserveDone}
	}
	return nil
}

func (s *store) Extend(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	if s.onExtend != nil {
		s.onExtend()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.extends++
	if err := errors.Join(ctx.Err(), s.extend); err != nil {
		return err
	}
	errs := make([]error, len(rs))
	for i, r := range rs {
		key := storeKey{group, r.ID}
		row := s.rows[key]
		if row.Token != r.Token || !time.Now().Before(row.Until) {
			errs[i] = es.ErrLeaseLost
			continue
		}
		row.Until = time.Now().Add(lease)
		s.rows[key], rs[i].Until = row, row.Until
	}
	return es.BatchErr(errs)
}

func (s *store) Release(ctx context.Context, group string, rs []es.Reservation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(ctx.Err(), s.release); err != nil {
		return err
	}
	for _, r := range rs {
		if key := (storeKey{group, r.ID}); s.rows[key].Token == r.Token {
			delete(s.rows, key)
		}
	}
	return nil
}

func (s *store) state(group string, id uuid.UUID) es.ReserveState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[storeKey{group, id}].State
}

// TestDedupeMarks: what a handler says decides whether the message counts as handled; R6.
func TestDedupeMarks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err   error
		state es.ReserveState // 0: new again
	}{
		"success": {nil, es.ReserveDone},
		"skip":    {es.Skip(errBoom), es.ReserveDone},
		"failed":  {errBoom, 0},
		"retry":   {es.RetryAfter(time.Second, errBoom), 0},
		"busy":    {es.Busy(time.Second, errBoom), 0},
		"dead":    {es.DeadLetter(errBoom), 0}, // so that a replay is handled
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, d := newStore(), delivery(1)
			_, err := Dedupe(s, DedupeConfig{})(returning(test.err)).Handle(t.Context(), d)
			if err != test.err { //nolint:errorlint // the very one
				t.Errorf("the error became %v", err)
			}
			if got := s.state("shipping", d.ID); got != test.state {
				t.Errorf("the message is %v, not %v", got, test.state)
			}
			if s.lease != time.Minute {
				t.Errorf("the lease is %v", s.lease)
			}
		})
	}
}

func TestDedupeHandlesOnce(t *testing.T) {
	t.Parallel()
	s, d := newStore(), delivery(1)
	calls := 0
	h := es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		calls++
		return nil, nil
	})
	for i, want := range []es.Verdict{es.VerdictDone, es.VerdictSkip, es.VerdictSkip} {
		_, err := Dedupe(s, DedupeConfig{})(h).Handle(t.Context(), d)
		if verdict, _ := es.Judge(err); verdict != want {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if calls != 1 {
		t.Errorf("handled %d times", calls)
	}
	// The same message in another group is not a duplicate.
	if _, err := Dedupe(s, DedupeConfig{Group: "billing"})(h).Handle(t.Context(), d); err != nil || calls != 2 {
		t.Errorf("in another group: %v, %d calls", err, calls)
	}
	if s.state("billing", d.ID) != es.ReserveDone {
		t.Error("it was not marked in the configured group")
	}
}

// TestDedupeBusy: a message in somebody else's hands comes back later, before their lease ends, and it is not an attempt.
func TestDedupeBusy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ lease, poll, delay time.Duration }{
		{time.Minute, 0, time.Second},
		{time.Minute, time.Hour, time.Minute},
		{300 * time.Millisecond, 0, 300 * time.Millisecond},
		{1, 0, 10 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, d := newStore(), delivery(1)
			wrap := Dedupe(s, DedupeConfig{Lease: test.lease, Poll: test.poll})
			never := es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
				t.Error("it was handled twice at once")
				return nil, nil
			})
			_, err := wrap(es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
				_, err := wrap(never).Handle(ctx, d)
				if verdict, delay := es.Judge(err); verdict != es.VerdictBusy || delay != test.delay {
					t.Errorf("%v: %v after %v, not after %v", err, verdict, delay, test.delay)
				}
				return nil, nil
			})).Handle(t.Context(), d)
			if err != nil || s.state("shipping", d.ID) != es.ReserveDone {
				t.Errorf("the holder: %v", err)
			}
		})
	}
}

// TestDedupeAfterACrash: a reservation that nobody completes ends with its lease.
func TestDedupeAfterACrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, d := newStore(), delivery(1)
		if err := s.Reserve(t.Context(), "shipping", []es.Reservation{{ID: d.ID}}, time.Minute); err != nil {
			t.Fatal(err)
		}
		h := Dedupe(s, DedupeConfig{Poll: time.Hour})(returning(nil))
		_, err := h.Handle(t.Context(), d)
		verdict, delay := es.Judge(err)
		if verdict != es.VerdictBusy {
			t.Fatalf("it is %v", err)
		}
		time.Sleep(delay)
		if _, err := h.Handle(t.Context(), d); err != nil {
			t.Errorf("after the lease: %v", err)
		}
	})
}

func TestDedupePanicReleases(t *testing.T) {
	t.Parallel()
	s, d := newStore(), delivery(1)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was stopped")
			}
		}()
		_, _ = Dedupe(s, DedupeConfig{})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			panic("boom")
		})).Handle(t.Context(), d)
	}()
	if got := s.state("shipping", d.ID); got != 0 {
		t.Errorf("the message is %v", got)
	}
}

// TestDedupeWhenStopped: a handler whose context has ended keeps no reservation, and what it did all the same is marked.
func TestDedupeWhenStopped(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{errBoom, nil} {
		s, d := newStore(), delivery(1)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Dedupe(s, DedupeConfig{})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			cancel()
			return nil, fault
		})).Handle(ctx, d)
		want := es.ReserveState(0)
		if fault == nil {
			want = es.ReserveDone
		}
		if got := s.state("shipping", d.ID); got != want || !errors.Is(err, fault) {
			t.Errorf("%v: the message is %v, the error %v", fault, got, err)
		}
	}
}

func TestDedupeStoreFails(t *testing.T) {
	t.Parallel()
	down := errors.New("no connection")
	for name, test := range map[string]struct {
		set     func(*store)
		err     error // of the handler
		want    error
		logged  string
		uncalls bool
	}{
		"reserve":       {set: func(s *store) { s.reserve = down }, want: down, uncalls: true},
		"complete once": {set: func(s *store) { s.completeOnce = down }},
		"complete":      {set: func(s *store) { s.complete = down }, logged: "no connection"},
		"lease lost":    {set: func(s *store) { s.complete = es.ErrLeaseLost }, logged: "lease lost"},
		"release":       {set: func(s *store) { s.release = down }, err: errBoom, want: errBoom, logged: "no connection"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore()
			test.set(s)
			var text bytes.Buffer
			called := false
			_, err := Dedupe(s, DedupeConfig{Logger: slog.New(slog.NewTextHandler(&text, nil))})(
				es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
					called = true
					return nil, test.err
				})).Handle(t.Context(), delivery(1))
			if !errors.Is(err, test.want) || called == test.uncalls {
				t.Errorf("the error is %v, called: %v", err, called)
			}
			if verdict, _ := es.Judge(err); err != nil && verdict != es.VerdictFailed {
				t.Errorf("the verdict is %v", verdict)
			}
			if (text.Len() > 0) != (test.logged != "") || !strings.Contains(text.String(), test.logged) {
				t.Errorf("the log is %s", &text)
			}
		})
	}
}

func TestDedupeNeedsAGroup(t *testing.T) {
	t.Parallel()
	d := delivery(1)
	d.Group = ""
	_, err := Dedupe(newStore(), DedupeConfig{})(returning(nil)).Handle(t.Context(), d)
	if err == nil || !strings.Contains(err.Error(), "DedupeConfig.Group") || es.Permanent(err) {
		t.Errorf("the error is %v", err)
	}
}

func TestDedupeConcurrently(t *testing.T) {
	t.Parallel()
	s, d := newStore(), delivery(1)
	var calls sync.WaitGroup
	var mu sync.Mutex
	handled := 0
	h := Dedupe(s, DedupeConfig{})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		mu.Lock()
		defer mu.Unlock()
		handled++
		return nil, nil
	}))
	for range 8 {
		calls.Go(func() {
			for range 100 {
				_, _ = h.Handle(t.Context(), d)
			}
		})
	}
	calls.Wait()
	if handled != 1 {
		t.Errorf("handled %d times", handled)
	}
}
