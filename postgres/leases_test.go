package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

func TestLeases(t *testing.T) {
	t.Parallel()
	estest.RunLeases(t, harness[es.Leases]{role: (*postgres.DB).Leases})
}

// leaseTest is a database with leases, and a connection of the test's own.
type leaseTest struct {
	*dedupeTest

	leases es.Leases
}

func newLeaseTest(t testing.TB) *leaseTest {
	t.Helper()
	test := newDedupeTest(t)
	return &leaseTest{test, openDB(t, postgres.Config{URL: test.url}).Leases()}
}

func (t *leaseTest) acquire(owner string, ttl time.Duration) es.Lease {
	t.Helper()
	l, err := t.leases.Acquire(t.Context(), "n", owner, ttl)
	t.ok(err)
	return l
}

// TestWhoFindsALeaseHeldDoesNotWait asks for a lease that another holds, and whether it is held, while its row is locked, as it is by who
// writes under the lease.
func TestWhoFindsALeaseHeldDoesNotWait(t *testing.T) {
	t.Parallel()
	test := newLeaseTest(t)
	l := test.acquire("A", time.Hour)
	test.do("BEGIN")
	test.do("SELECT FROM eventsourcing.leases_1 FOR UPDATE")
	ctx, cancel := context.WithTimeout(t.Context(), estest.Patience) // who waits for the transaction waits for ever
	defer cancel()
	_, held := test.leases.Acquire(ctx, "n", "B", time.Hour)
	lost := test.leases.Check(ctx, l)
	test.do("ROLLBACK")
	wantError(t, "acquire", held, es.ErrLeaseHeld)
	test.ok(lost)
}

// TestALeaseThatIsTakenMeanwhileIsHeld acquires a lease that nobody has, while another takes it in a transaction that is open.
func TestALeaseThatIsTakenMeanwhileIsHeld(t *testing.T) {
	t.Parallel()
	const never = "INSERT INTO eventsourcing.leases_1 (name, owner, token, until) VALUES ('n', 'A', 7, 4000000000000000)"
	const free = "UPDATE eventsourcing.leases_1 SET owner = 'A', token = 7, until = 4000000000000000"
	for name, c := range map[string]struct {
		released   bool
		other, end string
		want       int64 // the token, 0: another holds it
	}{
		"a new one":                  {false, never, "COMMIT", 0},
		"a new one, rolled back":     {false, never, "ROLLBACK", 1},
		"one that is free":           {true, free, "COMMIT", 0},
		"a free one, rolled back":    {true, free, "ROLLBACK", 2},
		"one that is free and ended": {true, free + "; UPDATE eventsourcing.leases_1 SET until = 0", "COMMIT", 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test := newLeaseTest(t)
			if c.released {
				test.ok(test.leases.Release(t.Context(), test.acquire("A", time.Hour)))
			}
			test.do("BEGIN")
			for statement := range strings.SplitSeq(c.other, ";") {
				test.do(statement)
			}
			type answer struct {
				es.Lease

				err error
			}
			acquired := make(chan answer)
			go func() {
				l, err := test.leases.Acquire(context.WithoutCancel(t.Context()), "n", "B", time.Hour)
				acquired <- answer{l, err}
			}()
			test.waiting(1)
			test.do(c.end)
			got := <-acquired
			if c.want == 0 {
				wantError(t, "acquire", got.err, es.ErrLeaseHeld)
				return
			}
			test.ok(got.err)
			if got.Token != c.want {
				t.Errorf("the token is %d, want %d", got.Token, c.want)
			}
		})
	}
}

// TestALeaseThatEndsBeforeItIsRenewedIsLost locks a lease until it has ended, while its owner renews it and acquires it again.
func TestALeaseThatEndsBeforeItIsRenewedIsLost(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int64{"renew": 0, "acquire": 2} { // tokens
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test := newLeaseTest(t)
			l := test.acquire("A", time.Second)
			test.do("BEGIN")
			test.do("SELECT FROM eventsourcing.leases_1 FOR UPDATE")
			called := make(chan error)
			var got es.Lease
			go func() {
				ctx := context.WithoutCancel(t.Context())
				var err error
				if name == "renew" {
					got, err = test.leases.Renew(ctx, l, time.Hour)
				} else {
					got, err = test.leases.Acquire(ctx, l.Name, l.Owner, time.Hour)
				}
				called <- err
			}()
			test.waiting(1)
			for live := true; live; {
				test.ok(test.sql.QueryRow(t.Context(), "SELECT clock_timestamp() < $1", l.Until).Scan(&live))
			}
			test.do("ROLLBACK")
			err := <-called
			if want == 0 {
				wantError(t, name, err, es.ErrLeaseLost)
				return
			}
			test.ok(err)
			if got.Token != want {
				t.Errorf("the token is %d, want %d: the lease was free", got.Token, want)
			}
		})
	}
}

// TestDefaultsOfTheDatabaseDoNotMatter runs what many do at once where transactions are, by default, serializable and not synced.
func TestDefaultsOfTheDatabaseDoNotMatter(t *testing.T) {
	t.Parallel()
	leases := awkward[es.Leases]{harness[es.Leases]{role: (*postgres.DB).Leases}}
	for _, line := range estest.LeasesLines() {
		if strings.Contains(line.Name, "at_once") || strings.Contains(line.Name, "processes") {
			t.Run(line.Name, func(t *testing.T) {
				t.Parallel()
				line.Run(t, leases)
			})
		}
	}
	dedupe := awkward[es.Dedupe]{harness[es.Dedupe]{role: (*postgres.DB).Dedupe, with: withBounds}}
	for _, line := range estest.DedupeLines() {
		if strings.Contains(line.Name, "of_many") || strings.Contains(line.Name, "oldest") {
			t.Run(line.Name, func(t *testing.T) {
				t.Parallel()
				line.Run(t, dedupe)
			})
		}
	}
}

// awkward opens databases whose defaults are unusual.
type awkward[R comparable] struct{ harness[R] }

func (h awkward[R]) New(t testing.TB) estest.Storage[R] {
	t.Helper()
	with := h.with
	h.with = func(s *storage[R]) estest.Storage[R] {
		u, err := url.Parse(s.url)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set("default_transaction_isolation", "serializable")
		q.Set("synchronous_commit", "off")
		u.RawQuery = q.Encode()
		s.url = u.String()
		if with == nil {
			return s
		}
		return with(s)
	}
	return h.harness.New(t)
}
