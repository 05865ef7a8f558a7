package memory

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func openDedupe(t testing.TB, entries int, ttl time.Duration) *Dedupe {
	t.Helper()
	b, err := Open(Config{DedupeEntries: entries, DedupeTTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // it never fails
	return b.dedupe
}

func reservations(n int) []es.Reservation {
	rs := make([]es.Reservation, n)
	for i := range rs {
		rs[i].ID = es.NewID()
	}
	return rs
}

// reserve reserves, and fails t unless each reservation has the state.
func reserve(t testing.TB, d *Dedupe, rs []es.Reservation, lease time.Duration, want es.ReserveState) {
	t.Helper()
	if err := d.Reserve(t.Context(), "group", rs, lease); err != nil {
		t.Fatal(err)
	}
	for i, r := range rs {
		if r.State != want {
			t.Fatalf("reservation %d is %v, want %v", i, r.State, want)
		}
	}
}

func complete(t testing.TB, d *Dedupe, rs []es.Reservation) {
	t.Helper()
	if err := d.Complete(t.Context(), "group", rs); err != nil {
		t.Fatal(err)
	}
}

func TestDedupeForgetsTheOldestDoneFirst(t *testing.T) {
	t.Parallel()
	const bound = 100
	d := openDedupe(t, bound, time.Hour)
	live := reservations(3 * bound)
	reserve(t, d, live, time.Hour, es.ReserveNew)
	done := reservations(bound + 10)
	reserve(t, d, done, time.Hour, es.ReserveNew)
	complete(t, d, done)
	reserve(t, d, done[10:], time.Hour, es.ReserveDone)
	reserve(t, d, done[:10], time.Hour, es.ReserveNew)
	held := append([]es.Reservation(nil), live...)
	reserve(t, d, held, time.Hour, es.ReserveBusy)
	complete(t, d, live) // more than may be remembered at once: the last ones are
	reserve(t, d, live[2*bound:], time.Hour, es.ReserveDone)
	g := d.tables.groups["group"]
	if g.done != bound || g.reserved != 10 {
		t.Errorf("the group has %d done and %d reserved; want %d and 10", g.done, g.reserved, bound)
	}
}

func TestDedupeForgetsAfterItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := openDedupe(t, 10, time.Minute)
		rs := reservations(2)
		reserve(t, d, rs, time.Second, es.ReserveNew)
		complete(t, d, rs[:1])
		time.Sleep(time.Minute - 1)
		reserve(t, d, rs[:1], time.Second, es.ReserveDone)
		reserve(t, d, rs[1:], time.Second, es.ReserveNew) // never completed
		time.Sleep(time.Nanosecond)
		reserve(t, d, rs[:1], time.Second, es.ReserveNew)
	})
}

func TestDedupeLeaseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := openDedupe(t, 10, time.Hour)
		rs := reservations(1)
		reserve(t, d, rs, time.Second, es.ReserveNew)
		again := append([]es.Reservation(nil), rs...)
		time.Sleep(time.Second - 1)
		reserve(t, d, again, time.Second, es.ReserveBusy)
		if !again[0].Until.Equal(rs[0].Until) {
			t.Errorf("busy until %v, want until %v", again[0].Until, rs[0].Until)
		}
		time.Sleep(time.Nanosecond)
		if err := d.Complete(t.Context(), "group", rs); !errors.Is(err, es.ErrLeaseLost) {
			t.Errorf("completed when the lease had ended: %v, want ErrLeaseLost", err)
		}
		reserve(t, d, again, time.Second, es.ReserveNew)
		if err := d.Release(t.Context(), "group", rs); err != nil {
			t.Errorf("released what is another's: %v", err)
		}
		complete(t, d, again)
		complete(t, d, again) // its own once more
		if err := d.Complete(t.Context(), "group", rs); !errors.Is(err, es.ErrLeaseLost) {
			t.Errorf("completed what another has completed: %v, want ErrLeaseLost", err)
		}
	})
}

func TestDedupeSweepsAbandonedReservations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := openDedupe(t, 10, time.Hour)
		for range 200 {
			reserve(t, d, reservations(100), time.Second, es.ReserveNew)
			time.Sleep(time.Second)
		}
		if g := d.tables.groups["group"]; len(g.slots) > 2048 {
			t.Errorf("20,000 reservations that nobody completed took %d slots", len(g.slots))
		}
	})
}

func TestDedupeDoesNotAllocate(t *testing.T) {
	d := openDedupe(t, 1000, time.Hour)
	ctx := context.Background()
	batch := make([]es.Reservation, 16)
	id := es.NewID()
	handle := func() {
		for i := range batch {
			next((*[16]byte)(&id))
			batch[i].ID = id
		}
		if err := d.Reserve(ctx, "group", batch, time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := d.Extend(ctx, "group", batch, time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := d.Complete(ctx, "group", batch); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		handle()
	}
	if allocs := testing.AllocsPerRun(1000, handle); allocs != 0 {
		t.Errorf("%v allocations for a batch", allocs)
	}
}

// next makes another ID out of one: what random bits do, without their cost.
func next(id *[16]byte) {
	for i := 15; i > 5; i-- {
		id[i] += 0x9d
		if id[i] >= 0x9d {
			return
		}
	}
}

func BenchmarkDedupe(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"one", 1}, {"batch of 64", 64}} {
		b.Run(size.name, func(b *testing.B) {
			d := openDedupe(b, 64_000, time.Hour)
			ctx := context.Background()
			batch := make([]es.Reservation, size.n)
			id := es.NewID()
			handle := func() {
				for i := range batch {
					next((*[16]byte)(&id))
					batch[i].ID = id
				}
				if err := d.Reserve(ctx, "group", batch, time.Minute); err != nil {
					b.Fatal(err)
				}
				if err := d.Complete(ctx, "group", batch); err != nil {
					b.Fatal(err)
				}
			}
			for n := 0; n < 200_000; n += size.n {
				handle()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += size.n {
				handle()
			}
		})
	}
}
