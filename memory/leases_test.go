package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func TestLeaseEndsToTheMicrosecondItStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, leases := t.Context(), memory.New().Leases()
		time.Sleep(123 * time.Nanosecond) // so that the clock is not at a whole microsecond
		l, err := leases.Acquire(ctx, "projection", "A", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(l.Until) - 1)
		if err := leases.Check(ctx, l); err != nil {
			t.Errorf("a nanosecond before its end: %v", err)
		}
		_, err = leases.Acquire(ctx, "projection", "B", time.Second)
		var held *es.LeaseHeldError
		if !errors.As(err, &held) || held.Owner != "A" || !held.Until.Equal(l.Until) {
			t.Errorf("acquired by another: %v, want that A holds it until %v", err, l.Until)
		}
		time.Sleep(time.Nanosecond)
		if err := leases.Check(ctx, l); !errors.Is(err, es.ErrLeaseLost) {
			t.Errorf("at its end: %v, want ErrLeaseLost", err)
		}
		if _, err := leases.Renew(ctx, l, time.Second); !errors.Is(err, es.ErrLeaseLost) {
			t.Errorf("renewed at its end: %v, want ErrLeaseLost", err)
		}
	})
}

func TestLeaseTokensRiseOverReleaseAndExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, leases := t.Context(), memory.New().Leases()
		var last int64
		for i := range 6 {
			owner := []string{"A", "A", "B"}[i%3]
			l, err := leases.Acquire(ctx, "n", owner, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			again, err := leases.Acquire(ctx, "n", owner, 2*time.Second)
			if err != nil || again.Token != l.Token || !again.Until.After(l.Until) {
				t.Fatalf("acquired twice by its owner: %+v, %v; want token %d and a later end", again, err, l.Token)
			}
			if l.Token <= last {
				t.Fatalf("token %d after %d", l.Token, last)
			}
			last = l.Token
			if i%2 == 0 {
				if err := leases.Release(ctx, l); err != nil {
					t.Fatal(err)
				}
			} else {
				time.Sleep(2 * time.Second)
			}
		}
	})
}

func TestLateReleaseTakesNothingAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, leases := t.Context(), memory.New().Leases()
		old, err := leases.Acquire(ctx, "n", "A", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		fresh, err := leases.Acquire(ctx, "n", "A", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := leases.Release(ctx, old); err != nil {
			t.Errorf("release of one that has ended: %v", err)
		}
		if err := leases.Check(ctx, fresh); err != nil {
			t.Errorf("the late release ended the lease that came after: %v", err)
		}
	})
}
