package projection_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// leases are leases that cannot be renewed on demand.
type leases struct {
	es.Leases

	mu   sync.Mutex
	fail error
}

func (l *leases) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
	l.mu.Lock()
	fail := l.fail
	l.mu.Unlock()
	if fail != nil {
		return es.Lease{}, fail
	}
	return l.Leases.Acquire(ctx, name, owner, ttl)
}

func (l *leases) Renew(ctx context.Context, lease es.Lease, ttl time.Duration) (es.Lease, error) {
	l.mu.Lock()
	fail := l.fail
	l.mu.Unlock()
	if fail != nil {
		return es.Lease{}, fail
	}
	return l.Leases.Renew(ctx, lease, ttl)
}

func (l *leases) breakdown(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

func TestOneOfManyDoesTheWork(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.Leases = w.backend.Leases()
		w.config.Owner = "first"
		first := w.start()
		synctest.Wait()
		w.config.Owner = "second"
		second := w.start()
		synctest.Wait()
		w.append("a-1", Added{To: "x", N: 1})
		w.await(first)
		w.await(second) // it waits for what the other does
		w.total("x", 1, 1)
		if s := w.status(second); s.State != projection.StateStandby || s.Holder != "first" || s.Handled != 0 || s.Lag != 0 || s.Position != w.last.Position {
			w.Errorf("status %+v", s)
		}
		w.ok(second.Health(w.Context()))
		time.Sleep(time.Hour)
		if s := w.status(second); s.State != projection.StateStandby {
			w.Errorf("after an hour: %+v", s)
		}
		if at := w.progress(); at.Epoch != 1 {
			w.Errorf("progress %+v", at)
		}

		begun := time.Now()
		w.ok(first.Stop(w.Context()))
		w.append("a-1", Added{To: "x", N: 2})
		w.await(second)
		w.total("x", 2, 3)
		if took := time.Since(begun); took > 1100*time.Millisecond {
			w.Errorf("it took %v until the other one went on", took)
		}
		if at := w.progress(); at.Epoch != 2 {
			w.Errorf("progress %+v", at)
		}
	})
}

func TestTheLeaseOfACrashedCopyIsTakenOverWhenItEnds(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.Leases = w.backend.Leases()
		_, err := w.backend.Leases().Acquire(w.Context(), "projection totals", "crashed", w.config.LeaseTTL+15*time.Second)
		w.ok(err)
		w.append("a-1", Added{To: "x", N: 1})
		begun := time.Now()
		p := w.start()
		w.await(p)
		if took := time.Since(begun); took < 14*time.Second || took > 16*time.Second {
			w.Errorf("it took %v, want the 15 seconds of the lease", took)
		}
	})
}

func TestOneThatLosesItsLeaseStopsAtOnceAndComesBack(t *testing.T) {
	for why, most := range map[error]time.Duration{errCut: projection.DefaultLeaseTTL, es.ErrLeaseLost: projection.DefaultLeaseTTL / 3} {
		t.Run(why.Error(), func(t *testing.T) { losesItsLease(t, why, most) })
	}
}

// losesItsLease has the lease not be renewed. What is under way is to be broken off after so long at the most.
func losesItsLease(t *testing.T, why error, most time.Duration) {
	t.Helper()
	inBubble(t, func(w *world) {
		broken := &leases{Leases: w.backend.Leases()}
		w.config.Leases = broken
		w.append("a-1", Added{To: "x", N: 1})
		entered, canceled := make(chan struct{}, 10), make(chan struct{}, 10)
		slow := projection.OnMessage("Slow", func(ctx context.Context, _ *projection.Batch, _ *es.Message) error {
			entered <- struct{}{}
			select {
			case <-ctx.Done():
				canceled <- struct{}{}
				return ctx.Err()
			case <-time.After(20 * time.Second):
				return nil
			}
		})
		w.config.Unknown = es.SkipUnknown
		p := w.start(w.count(), slow)
		w.await(p)
		broken.breakdown(why)
		w.appendMessage(es.NewMessage("a-1", "Slow", nil))
		<-entered
		begun := time.Now()
		<-canceled
		if took := time.Since(begun); took > most {
			w.Errorf("it went on for %v", took)
		}
		broken.breakdown(nil)
		w.await(p)
		if at := w.progress(); at.Epoch != 2 || at.Position != w.last.Position {
			w.Errorf("progress %+v", at)
		}
		w.total("x", 1, 1)
		if s := w.status(p); s.Skipped+s.Parked != 0 {
			w.Errorf("status %+v", s)
		}
	})
}

func TestALateCommitUnderALeaseThatIsOverIsTurnedDown(t *testing.T) {
	inBubble(t, func(w *world) {
		stuck := &leases{Leases: w.backend.Leases()}
		w.config.Leases = stuck
		var one atomic.Bool
		held := make(chan struct{})
		w.models.before = func(c es.Commit) error {
			if len(c.Writes) > 0 && one.CompareAndSwap(false, true) {
				<-held
			}
			return nil
		}
		w.append("a-1", Added{To: "x", N: 1})
		w.config.Owner = "paused"
		paused := w.start()
		synctest.Wait()
		stuck.breakdown(errCut)
		w.config.Owner, w.config.Leases = "other", w.backend.Leases()
		other := w.start()
		w.await(other)
		w.total("x", 1, 1)
		close(held)
		stuck.breakdown(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		w.append("a-1", Added{To: "x", N: 2})
		w.await(other)
		w.total("x", 2, 3)
		if s := w.status(paused); s.State != projection.StateStandby || s.Handled != 0 {
			w.Errorf("status %+v", s)
		}
	})
}

func TestALeaseThatCannotBeTakenIsTriedAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		broken := &leases{Leases: w.backend.Leases(), fail: errCut}
		w.config.Leases = broken
		w.append("a-1", Added{To: "x", N: 1})
		p := w.start()
		time.Sleep(time.Minute)
		w.is(p.Health(w.Context()), errCut)
		broken.breakdown(nil)
		w.await(p)
		w.total("x", 1, 1)
		broken.breakdown(es.ErrUnsupported)
		w.ok(p.Stop(w.Context()))
		w.is(w.ended(w.start()), es.ErrUnsupported)
	})
}

func TestTwoCopiesOfOneOwnerHaveEachEventsEffectOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.Leases = w.backend.Leases()
		w.config.Owner = "the same"
		w.config.BatchSize = 3
		first, second := w.start(), w.start()
		for range 100 {
			w.append("a-1", Added{To: "x", N: 1})
			time.Sleep(time.Millisecond)
		}
		w.await(first)
		w.await(second)
		w.total("x", 100, 100)
	})
}

func TestLeasesOfAnotherBackendAreAMistake(t *testing.T) {
	inBubble(t, func(w *world) {
		other := memory.New()
		defer other.Close()
		w.config.Leases = other.Leases()
		p := w.start()
		err := w.ended(p)
		w.is(err, es.ErrInvalid)
		if !strings.Contains(err.Error(), "backend of Models") {
			w.Errorf("it ended by %v", err)
		}
		if errors.Is(p.Health(w.Context()), nil) {
			w.Error("it is healthy")
		}
	})
}
