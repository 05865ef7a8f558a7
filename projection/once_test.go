package projection_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

var errCut = errors.New("the connection is lost")

func TestADocumentIsLoadedOnceAndWrittenOncePerBatch(t *testing.T) {
	inBubble(t, func(w *world) {
		for i := range 500 {
			w.append("a-1", Added{To: strconv.Itoa(i % 3), N: 1})
		}
		w.config.BatchSize = 250
		w.config.CacheSize = -1
		w.caughtUp()
		commits := w.models.committed()
		if len(commits) != 2 || len(commits[0].Writes) != 3 || len(commits[1].Writes) != 3 || w.models.loads != 6+1 { // and one to look for a rebuild
			w.Errorf("%d commits, %d loads; want 2 and 7", len(commits), w.models.loads)
		}
		w.total("0", 167, 167)
	})
}

func TestWhatIsInMemoryIsNotLoadedAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		for i := range 500 {
			w.append("a-1", Added{To: strconv.Itoa(i % 3), N: 1})
		}
		w.config.BatchSize = 10
		w.caughtUp()
		if n := len(w.models.committed()); n != 50 || w.models.loads != 3+1 {
			w.Errorf("%d commits, %d loads; want 50 and 4", n, w.models.loads)
		}
		w.total("0", 167, 167)
	})
}

func TestMemoryIsBounded(t *testing.T) {
	inBubble(t, func(w *world) {
		for i := range 300 {
			w.append("a-1", Added{To: strconv.Itoa(i), N: 1}, Added{To: "often", N: 1})
		}
		w.config.BatchSize = 20
		w.config.CacheSize = 40
		w.caughtUp()
		if w.models.loads != 302 {
			w.Errorf("%d loads; the one that is used in each batch is to stay", w.models.loads)
		}
		for i := range 300 {
			w.append("a-1", Added{To: strconv.Itoa(i), N: 1})
		}
		w.caughtUp()
		for i := range 300 {
			w.total(strconv.Itoa(i), 2, 2)
		}
	})
}

func TestOneWhoIsCutOffGoesOnFromWhatIsCommitted(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.config.BatchSize = 7
				random := rand.New(rand.NewPCG(1, 2))
				cut := func(es.Commit) error {
					if random.IntN(3) == 0 {
						return errCut
					}
					return nil
				}
				if when == "before" {
					w.models.before = cut
				} else {
					w.models.after = cut
				}
				for i := range 200 {
					w.append("a-1", Added{To: strconv.Itoa(i % 5), N: i})
				}
				p := w.start()
				w.await(p)
				for i := range 5 {
					w.total(strconv.Itoa(i), 40, 40*i+5*39*40/2)
				}
				if s := w.status(p); !errors.Is(s.LastError, errCut) || s.State != projection.StateLive {
					w.Errorf("status %+v", s)
				}
			})
		})
	}
}

func TestTwoCopiesWithoutALeaseHaveEachEventsEffectOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.BatchSize = 5
		slow := projection.OnMessage("", func(_ context.Context, _ *projection.Batch, m *es.Message) error {
			time.Sleep(time.Duration(m.Position%7) * time.Millisecond)
			return nil
		})
		first, second := w.start(slow, w.count()), w.start(slow, w.count())
		for i := range 500 {
			w.append("a-1", Added{To: strconv.Itoa(i % 5), N: 1})
			if i%50 == 0 {
				time.Sleep(3 * time.Millisecond)
			}
		}
		w.await(first)
		w.await(second)
		for i := range 5 {
			w.total(strconv.Itoa(i), 100, 100)
		}
		if a, b := w.status(first), w.status(second); a.Overtaken+b.Overtaken == 0 {
			w.Errorf("neither was overtaken: %+v, %+v", a, b)
		}
	})
}

func TestOneThatWasPausedAndOvertakenChangesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		var one atomic.Bool
		held := make(chan struct{})
		w.models.before = func(es.Commit) error {
			if one.CompareAndSwap(false, true) {
				<-held // the first one who commits is paused in the middle
			}
			return nil
		}
		w.append("a-1", Added{To: "x", N: 1})
		paused := w.start()
		synctest.Wait()
		w.append("a-1", Added{To: "x", N: 2})
		w.caughtUp()
		w.total("x", 2, 3)
		close(held)
		w.append("a-1", Added{To: "x", N: 4})
		w.await(paused)
		w.total("x", 3, 7)
		if s := w.status(paused); s.Overtaken != 1 || s.Handled != 1 {
			w.Errorf("status %+v", s)
		}
	})
}

func TestAnEventThatFailsBecauseAnotherCopyWasFasterHasNotFailed(t *testing.T) {
	inBubble(t, func(w *world) {
		inOrder := projection.On(func(ctx context.Context, b *projection.Batch, e Added, _ *es.Message) error {
			return w.totals.In(b).Update(ctx, e.To, func(total *Total) error {
				if e.N != total.Events {
					return fmt.Errorf("%d events, and this is number %d", total.Events, e.N)
				}
				total.Events++
				return nil
			})
		})
		var one atomic.Bool
		held := make(chan struct{})
		w.models.loading = func(model string, _ []string) error {
			if model == "totals" && one.CompareAndSwap(false, true) {
				<-held // the first one has read the checkpoint, and then is paused
			}
			return nil
		}
		w.append("a-1", Added{To: "x", N: 0}, Added{To: "x", N: 1})
		paused := w.start(inOrder)
		synctest.Wait()
		w.caughtUp(inOrder)
		close(held)
		w.append("a-1", Added{To: "x", N: 2})
		w.await(paused)
		w.total("x", 3, 0)
		if s := w.status(paused); s.Overtaken != 1 || s.Handled != 1 {
			w.Errorf("status %+v", s)
		}
	})
}

func TestAStoreThatCannotBeReadIsNoFaultOfTheEvent(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Skip
		failures := 5
		w.models.loading = func(model string, _ []string) error {
			if model != "totals" {
				return nil
			}
			if failures--; failures >= 0 {
				return errCut
			}
			return nil
		}
		w.append("a-1", Added{To: "x", N: 1})
		p := w.start(projection.On(func(ctx context.Context, b *projection.Batch, e Added, _ *es.Message) error {
			_ = w.totals.In(b).Update(ctx, e.To, func(total *Total) error { // a handler that hides it
				total.Events, total.Sum = total.Events+1, total.Sum+e.N
				return nil
			})
			return nil
		}))
		w.await(p)
		w.total("x", 1, 1)
		if failures >= 0 {
			w.Errorf("%d failures are left", failures)
		}
		if s := w.status(p); s.Skipped != 0 || s.Handled != 1 || !errors.Is(s.LastError, errCut) {
			w.Errorf("status %+v", s)
		}
	})
}

func TestACheckpointOfAnotherStoreEndsIt(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append("a-1", Added{To: "x", N: 1})
		w.caughtUp()
		from := w.progress()
		to := from
		to.Incarnation = es.NewID()
		w.ok(w.backend.ReadModels().Commit(w.Context(), es.Commit{Progress: es.ProgressUpdate{Projection: "totals", From: from, To: to}}))
		p := w.start()
		if mismatch, ok := errors.AsType[*es.CheckpointError](w.ended(p)); !ok || mismatch.Checkpoint != to.Checkpoint {
			w.Errorf("it ended by %v", p.Err())
		}
	})
}

func TestARebuiltModelIsGoneOnWithAndNotWrittenOver(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append("a-1", Added{To: "x", N: 1})
		p := w.start()
		w.await(p)
		aside := es.Progress{Generation: 1, Checkpoint: w.progress().Checkpoint}
		write, err := es.NewModel[Total](nil, "totals.1").Put("x", Total{Events: 1, Sum: 1000}, es.Any)
		w.ok(err)
		models := w.backend.ReadModels()
		w.ok(models.Commit(w.Context(), es.Commit{
			Writes: []es.Write{write}, Progress: es.ProgressUpdate{Projection: "totals.1", To: aside},
		}))
		w.ok(models.Switch(w.Context(), es.Replacement{Model: "totals", With: "totals.1"}))
		w.append("a-1", Added{To: "x", N: 2})
		w.await(p)
		w.total("x", 2, 1002)
		if at := w.progress(); at.Generation != 1 || at.Position != w.last.Position {
			w.Errorf("it stands at %+v", at)
		}
	})
}

func TestWhatStandsInTheWayOfACommitIsReadAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append("a-1", Added{To: "x", N: 1})
		meddled := false
		w.models.before = func(c es.Commit) error {
			if meddled || len(c.Writes) == 0 {
				return nil
			}
			meddled = true // somebody else writes the document, who should not
			return es.NewModel[Total](w.backend.ReadModels(), "totals").Save(w.Context(), "x", Total{Sum: 100}, es.Any)
		}
		w.caughtUp()
		w.total("x", 1, 101)
	})
}

func TestAClosedStoreEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.start()
		synctest.Wait()
		w.ok(w.backend.Close())
		w.is(w.ended(p), es.ErrClosed)
	})
}

func TestHealthTellsOfTroubleThatLasts(t *testing.T) {
	inBubble(t, func(w *world) {
		w.models.before = func(es.Commit) error { return errCut }
		w.append("a-1", Added{To: "x", N: 1})
		p := w.start()
		synctest.Wait()
		w.ok(p.Health(w.Context()))
		time.Sleep(30 * time.Second)
		w.is(p.Health(w.Context()), errCut)
		if s := w.status(p); s.State != projection.StateTrouble || s.Lag != 1 || s.LagTime < 30*time.Second {
			w.Errorf("status %+v", s)
		}
		w.models.set(func(m *models) { m.before = nil })
		w.await(p)
		w.ok(p.Health(w.Context()))
		w.total("x", 1, 1)
	})
}
