package sqlite_test

import (
	"context"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

func acquire(t testing.TB, leases es.Leases, owner string) es.Lease {
	t.Helper()
	l, err := leases.Acquire(t.Context(), "n", owner, time.Hour)
	must(t, err)
	return l
}

// TestTokensNeverComeBackAfterLossOfPower takes and releases a lease. Whatever is lost with the power, a token that was given is not given
// again, and is not held by who had it unless the file says so.
func TestTokensNeverComeBackAfterLossOfPower(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	for range 5 {
		l := acquire(t, db.Leases(), "A")
		found := openStore(t, onDisk(disk.CutBy(disk.Moment(), unsyncedIsLost))).Leases()
		must(t, found.Check(t.Context(), l))
		must(t, found.Release(t.Context(), l))
		if next := acquire(t, found, "B"); next.Token <= l.Token {
			t.Fatalf("token %d follows token %d", next.Token, l.Token)
		}
		wantError(t, "check", found.Check(t.Context(), l), es.ErrLeaseLost)
		must(t, db.Leases().Release(t.Context(), l))
	}
}

// TestOnlyTakingALeaseIsSynced counts the syncs of each call.
func TestOnlyTakingALeaseIsSynced(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	leases, l := db.Leases(), es.Lease{}
	for _, call := range []struct {
		what string
		want bool
		do   func() error
	}{
		{"take", true, func() error { l = acquire(t, leases, "A"); return nil }},
		{"acquire again", false, func() error { _, err := leases.Acquire(t.Context(), "n", "A", time.Hour); return err }},
		{"renew", false, func() error { _, err := leases.Renew(t.Context(), l, time.Hour); return err }},
		{"check", false, func() error { return leases.Check(t.Context(), l) }},
		{"release", false, func() error { return leases.Release(t.Context(), l) }},
		{"release again", false, func() error { return leases.Release(t.Context(), l) }},
		{"take again", true, func() error { l = acquire(t, leases, "A"); return nil }},
	} {
		before := disk.TotalCounts()
		must(t, call.do())
		if n := disk.TotalCounts().Since(before).Syncs; (n > 0) != call.want {
			t.Errorf("%s: %d syncs", call.what, n)
		}
	}
}

// TestWhoFindsALeaseHeldDoesNotWaitForWriters asks for a lease that another holds, and whether it is held, while a transaction is open.
func TestWhoFindsALeaseHeldDoesNotWaitForWriters(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	l := acquire(t, db.Leases(), "A")
	begun, ended, end := make(chan struct{}), make(chan error, 1), make(chan struct{})
	go func() {
		ended <- db.Update(t.Context(), func(*sqlite.Tx) error {
			close(begun)
			<-end
			return nil
		})
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), estest.Patience) // who waits for the transaction waits for ever
	defer cancel()
	_, held := db.Leases().Acquire(ctx, "n", "B", time.Hour)
	lost := db.Leases().Check(ctx, l)
	close(end)
	must(t, <-ended)
	wantError(t, "acquire", held, es.ErrLeaseHeld)
	must(t, lost)
}
