package projection_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

func TestWhoWaitsHereIsToldAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		p := w.start()
		synctest.Wait()
		begun := time.Now()
		for i := range 20 {
			w.append("a-1", Added{To: "x", N: 1})
			w.await(p)
			w.total("x", i+1, i+1)
		}
		if took := time.Since(begun); took != 0 {
			w.Errorf("it took %v", took)
		}
	})
}

func TestWhoWaitsElsewhereSeesWhatIsCommitted(t *testing.T) {
	inBubble(t, func(w *world) {
		w.start()
		elsewhere := w.projection()
		w.append("a-1", Added{To: "x", N: 1})
		begun := time.Now()
		w.ok(elsewhere.WaitFor(w.Context(), w.last))
		w.total("x", 1, 1)
		if took := time.Since(begun); took > 10*time.Millisecond {
			w.Errorf("it took %v", took)
		}
		w.config.Category = "a"
		w.config.Name = "filtered"
		w.config.Writes = []string{"totals"}
		w.start()
		elsewhere = w.projection()
		w.append("b-1", Added{To: "x", N: 1}) // not for it: that it has come by is written after half a second
		begun = time.Now()
		w.ok(elsewhere.WaitFor(w.Context(), w.last))
		if took := time.Since(begun); took > time.Second {
			w.Errorf("it took %v", took)
		}
	})
}

func TestWaitingEndsWithItsContextAndForAnotherStore(t *testing.T) {
	inBubble(t, func(w *world) {
		p := w.projection()
		for range 2 {
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			w.is(p.WaitFor(ctx, es.Checkpoint{Position: 5}), context.DeadlineExceeded)
			cancel()
			_ = p.Start(w.Context()) // the second time it waits for a projection that runs
			synctest.Wait()
		}
		w.append("a-1", Added{To: "x", N: 1})
		w.await(p)
		w.is(p.WaitFor(w.Context(), es.Checkpoint{Incarnation: es.NewID(), Position: 1}), es.ErrCheckpoint)
		w.ok(p.Stop(w.Context()))
		w.is(p.WaitFor(w.Context(), es.Checkpoint{Incarnation: es.NewID(), Position: 1}), es.ErrCheckpoint)
		w.ok(p.WaitFor(w.Context(), w.last))
	})
}

func TestTheCheckpointPassesWhatIsNotForTheProjection(t *testing.T) {
	filters := map[string]func(c *projection.Config){
		"category": func(c *projection.Config) { c.Category = "a" },
		"names":    func(c *projection.Config) { c.Names = []string{"Added"} },
		"tags":     func(c *projection.Config) { c.Tags = []string{"mine"} },
		"any": func(c *projection.Config) {
			c.Any = []es.Criterion{{Names: []string{"None"}}, {Tags: []string{"mine"}}}
		},
	}
	for name, filter := range filters {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				filter(&w.config)
				p := w.start()
				for i := range 5 {
					m, err := w.types.Encode("a-1", Added{To: "x", N: 1})
					w.ok(err)
					m.Tags = []string{"mine"}
					w.appendMessage(m)
					for range 10 {
						w.appendMessage(es.NewMessage(fmt.Sprintf("b-%d", i), "Other", nil))
					}
				}
				w.await(p)
				w.total("x", 5, 5)
				if lag, err := p.Lag(w.Context()); err != nil || lag != (es.Lag{}) {
					w.Errorf("lag %+v, %v", lag, err)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if at := w.progress(); at.Position != w.last.Position {
					w.Errorf("it stands at %+v, and %d was scanned", at, w.last.Position)
				}
				if n := len(w.models.commits); n > 12 {
					w.Errorf("%d commits", n)
				}
				w.appendMessage(es.NewMessage("b-1", "Other", nil))
				w.await(p)
				w.ok(p.Stop(w.Context())) // which writes it down
				if at := w.progress(); at.Position != w.last.Position {
					w.Errorf("after a stop it stands at %+v", at)
				}
			})
		})
	}
}

func TestWhatPassesIsWrittenDownAlsoWhenItNeverStops(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.Category = "a"
		w.start()
		for range 100 {
			w.appendMessage(es.NewMessage("b-1", "Other", nil))
			time.Sleep(50 * time.Millisecond)
		}
		if at := w.progress(); at.Position < 85 {
			w.Errorf("it stands at %+v, and %d was scanned", at, w.last.Position)
		}
		if n := len(w.models.commits); n > 11 {
			w.Errorf("%d commits in 5 seconds", n)
		}
	})
}

func TestStatusTellsHowFarItIs(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append("a-1", Added{To: "x", N: 1})
		time.Sleep(time.Minute)
		w.append("a-1", Added{To: "x", N: 1})
		p := w.projection()
		s := w.status(p)
		if s.State != projection.StateNew || s.Lag != 2 || s.LagTime != time.Minute || s.Head != 2 || s.Position != 0 {
			w.Errorf("before it is started: %+v", s)
		}
		if lag, err := p.Lag(w.Context()); err != nil || lag.Messages != 2 || time.Since(lag.Oldest) != time.Minute {
			w.Errorf("lag %+v, %v", lag, err)
		}
		w.ok(p.Start(w.Context()))
		for range 98 {
			w.append("a-1", Added{To: "x", N: 1})
		}
		w.await(p)
		synctest.Wait()
		s = w.status(p)
		if s.State != projection.StateLive || s.Lag != 0 || s.LagTime != 0 || s.Handled != 100 || s.Position != 100 || s.Progress.Position != 100 {
			w.Errorf("when it is live: %+v", s)
		}
		if s.Rate != 10 {
			w.Errorf("%v events a second over 10 seconds, want 10", s.Rate)
		}
		time.Sleep(time.Minute)
		if s = w.status(p); s.Rate != 0 {
			w.Errorf("%v events a second after a minute", s.Rate)
		}
		w.ok(p.Stop(w.Context()))
		if s = w.status(p); s.State != projection.StateStopped || s.State.String() != "stopped" {
			w.Errorf("after a stop: %+v", s)
		}
	})
}

func TestHealthLooksAtTheLagWhereAsked(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.MaxLag = time.Second
		w.config.BatchTime = time.Nanosecond
		gate := make(chan struct{})
		p := w.start(projection.OnMessage("", func(context.Context, *projection.Batch, *es.Message) error {
			<-gate
			return nil
		}))
		w.ok(p.Health(w.Context()))
		w.append("a-1", Added{To: "x", N: 1})
		w.ok(p.Health(w.Context()))
		time.Sleep(2 * time.Second)
		if err := p.Health(w.Context()); err == nil || !strings.Contains(err.Error(), "1s is allowed") {
			w.Errorf("health: %v", err)
		}
		close(gate)
		w.await(p)
		w.ok(p.Health(w.Context()))
	})
}

func TestAnIntervalMakesFewerCommits(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.Interval = time.Second
		p := w.start()
		for range 100 {
			w.append("a-1", Added{To: "x", N: 1})
			time.Sleep(50 * time.Millisecond)
		}
		w.await(p)
		w.total("x", 100, 100)
		if n := len(w.models.committed()); n < 5 || n > 7 {
			w.Errorf("%d commits in 5 seconds", n)
		}
	})
}

func TestABatchIsCommittedWhenItsTimeIsOver(t *testing.T) {
	inBubble(t, func(w *world) {
		for range 100 {
			w.append("a-1", Added{To: "x", N: 1})
		}
		p := w.start(w.count(), projection.OnMessage("", func(context.Context, *projection.Batch, *es.Message) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		}))
		w.await(p)
		w.total("x", 100, 100)
		if n := len(w.models.committed()); n != 10 {
			w.Errorf("%d commits in 10 seconds", n)
		}
	})
}

// slowStore takes a while for each event that is read.
type slowStore struct{ es.EventStore }

func (s slowStore) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	return func(yield func(*es.Message, error) bool) {
		for m, err := range s.EventStore.Read(ctx, q) {
			time.Sleep(100 * time.Millisecond)
			if !yield(m, err) {
				return
			}
		}
	}
}

func TestWhatWasReadDoesNotWaitForWhatIsSlowToCome(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.Events = slowStore{w.backend.Events()}
		for range 100 {
			w.append("a-1", Added{To: "x", N: 1})
		}
		w.caughtUp()
		w.total("x", 100, 100)
		if n := len(w.models.committed()); n < 9 || n > 11 {
			w.Errorf("%d commits in 10 seconds", n)
		}
	})
}

func TestStopFinishesTheBatchAndWithoutPatienceBreaksItOff(t *testing.T) {
	for _, patient := range []bool{true, false} {
		t.Run(fmt.Sprint("patient ", patient), func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.append("a-1", Added{To: "x", N: 1})
				slow := projection.OnMessage("", func(ctx context.Context, _ *projection.Batch, _ *es.Message) error {
					select {
					case <-time.After(time.Minute):
						return nil
					case <-ctx.Done():
						return errors.New("it was interrupted")
					}
				})
				p := w.start(w.count(), slow)
				synctest.Wait()
				ctx, cancel := context.WithTimeout(w.Context(), time.Second)
				defer cancel()
				if patient {
					ctx = w.Context()
				}
				begun := time.Now()
				err := p.Stop(ctx)
				took := time.Since(begun)
				<-p.Done()
				w.ok(p.Err())
				if patient {
					w.ok(err)
					w.total("x", 1, 1)
					return
				}
				w.is(err, context.DeadlineExceeded)
				w.total("x", 0, 0)
				if took != time.Second {
					w.Errorf("it took %v", took)
				}
				if s := w.status(p); s.LastError != nil || s.State != projection.StateStopped {
					w.Errorf("status %+v", s)
				}
			})
		})
	}
}

func TestStopBeginsNoOtherBatch(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.BatchSize = 2
		w.append("a-1", Added{To: "x", N: 1}, Added{To: "x", N: 1}, Added{To: "x", N: 1}, Added{To: "x", N: 1}, Added{To: "x", N: 1})
		p := w.start(w.count(), projection.OnMessage("", func(context.Context, *projection.Batch, *es.Message) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		}))
		time.Sleep(250 * time.Millisecond) // in the second batch
		w.ok(p.Stop(w.Context()))
		w.total("x", 4, 4)
		if at := w.progress(); at.Position != 4 {
			w.Errorf("it stands at %+v", at)
		}
	})
}

func TestItIsStartedOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		p := w.start()
		if p.Name() != "totals" {
			w.Errorf("it is called %q", p.Name())
		}
		w.is(p.Start(w.Context()), es.ErrInvalid)
		w.ok(p.Stop(w.Context()))
		w.ok(p.Stop(w.Context()))
		never := w.projection()
		w.ok(never.Stop(w.Context()))
		<-never.Done()
		w.is(never.Start(w.Context()), es.ErrInvalid)
		if never.Health(w.Context()) == nil {
			w.Error("one that was never started is healthy")
		}
		ctx, cancel := context.WithCancel(w.Context())
		cancel()
		w.is(w.projection().Start(ctx), context.Canceled)
	})
}
