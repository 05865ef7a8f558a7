package projection_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// parkedWorld has stream a-1 parked at its second event, with three behind that.
func parkedWorld(w *world) *projection.Projection {
	w.Helper()
	w.config.OnError = projection.Park
	w.append("a-1", Added{To: "a", N: 1}, Added{To: "a", N: 2, Bad: true}, Added{To: "a", N: 4})
	w.append("b-1", Added{To: "b", N: 8})
	w.append("a-1", Added{To: "a", N: 16}, Added{To: "b", N: 32})
	p := w.start()
	w.await(p)
	return p
}

func (w *world) parked(p *projection.Projection) []string {
	w.Helper()
	list, err := p.Parked(w.Context())
	w.ok(err)
	var lines []string
	for _, entry := range list {
		if entry.Since.IsZero() || !strings.Contains(entry.Reason, errBad.Error()) || entry.Name != "Added" {
			w.Errorf("parked is %+v", entry)
		}
		lines = append(lines, fmt.Sprintf("%s/%d at %d: %d", entry.Stream, entry.Version, entry.Position, entry.Events))
	}
	return lines
}

// countAll is count for bad events, too.
func (w *world) countAll() projection.Handler {
	return projection.On(func(ctx context.Context, b *projection.Batch, e Added, m *es.Message) error {
		w.called(m)
		return w.totals.In(b).Update(ctx, e.To, func(total *Total) error {
			total.Events++
			total.Sum += e.N
			return nil
		})
	})
}

func TestParkSetsAStreamAsideAndGoesOnWithTheOthers(t *testing.T) {
	inBubble(t, func(w *world) {
		p := parkedWorld(w)
		w.total("a", 1, 1)
		w.total("b", 1, 8)
		w.same("parked", w.parked(p), []string{"a-1/2 at 2: 4"})
		if s := w.status(p); s.Parked != 4 || s.Handled != 2 || s.ParkedStreams != 1 || s.State != projection.StateLive {
			w.Errorf("status %+v", s)
		}
		w.ok(p.Stop(w.Context()))

		w.append("a-1", Added{To: "a", N: 64})
		w.append("b-1", Added{To: "b", N: 128})
		w.config.OnError = projection.Stop // what is parked stays parked
		again := w.start()
		w.await(again)
		w.total("a", 1, 1)
		w.total("b", 2, 136)
		w.same("parked", w.parked(again), []string{"a-1/2 at 2: 5"})
	})
}

func TestRetryHandlesWhatIsParkedInOrder(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprint("running ", running), func(t *testing.T) {
			inBubble(t, func(w *world) {
				p := parkedWorld(w)
				failed, ok := errors.AsType[*projection.EventError](p.Retry(w.Context(), "a-1"))
				if !ok || failed.Message.Version != 2 {
					w.Errorf("a retry that fails again: %v", failed)
				}
				w.total("a", 1, 1)
				w.same("parked", w.parked(p), []string{"a-1/2 at 2: 4"})
				w.ok(p.Stop(w.Context()))

				w.calls = nil
				handler := w.countAll()
				if running {
					p = w.start(handler)
					w.await(p)
				} else {
					p = w.projection(handler)
				}
				w.ok(p.Retry(w.Context(), "a-1"))
				w.same("parked", w.parked(p), nil)
				w.same("calls", w.made(), []string{"a-1/2", "a-1/3", "a-1/4", "a-1/5"})
				w.total("a", 4, 23)
				w.total("b", 2, 40)
				w.is(p.Retry(w.Context(), "a-1"), es.ErrNotFound)

				w.append("a-1", Added{To: "a", N: 64})
				if !running {
					w.ok(p.Start(w.Context()))
				}
				w.await(p)
				w.total("a", 5, 87)
				w.ok(p.Stop(w.Context()))
			})
		})
	}
}

func TestRetryOfManyGoesOnABatchAtATime(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Park
		w.config.BatchSize = 3
		w.append("a-1", Added{To: "a", N: 1, Bad: true})
		for range 7 {
			w.append("a-1", Added{To: "a", N: 1})
			w.append("b-1", Added{To: "b", N: 1})
		}
		w.append("a-1", Added{To: "a", N: 1000, Bad: true}, Added{To: "a", N: 1})
		p := w.start()
		w.await(p)
		w.same("parked", w.parked(p), []string{"a-1/1 at 1: 10"})
		w.is(p.RetryNext(w.Context(), "a-1"), errBad)
		w.total("a", 7, 7)
		w.same("parked", w.parked(p), []string{"a-1/9 at 16: 2"})
		w.ok(p.RetryNext(w.Context(), "a-1"))
		w.total("a", 8, 8)
		w.same("parked", w.parked(p), nil)
		w.append("a-1", Added{To: "a", N: 1})
		w.await(p)
		w.total("a", 9, 9)
		w.total("b", 7, 7)
	})
}

func TestDiscardGivesUpWhatIsParked(t *testing.T) {
	inBubble(t, func(w *world) {
		p := parkedWorld(w)
		w.ok(p.Discard(w.Context(), "a-1"))
		w.same("parked", w.parked(p), nil)
		w.append("a-1", Added{To: "a", N: 64})
		w.await(p)
		w.total("a", 2, 65)
		w.total("b", 1, 8)
		w.is(p.Discard(w.Context(), "a-1"), es.ErrNotFound)
	})
}

func TestRetryBesideAnotherCopyHasItsEffectOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		owner := parkedWorld(w)
		other := w.projection(w.countAll())
		w.ok(other.Retry(w.Context(), "a-1"))
		w.total("a", 4, 23)
		w.append("a-1", Added{To: "a", N: 64}) // its owner has the documents in memory, and believes that the stream is parked
		w.append("b-1", Added{To: "b", N: 128})
		w.await(owner)
		w.total("a", 5, 87)
		w.total("b", 3, 168)
		w.same("parked", w.parked(owner), nil)
		if s := w.status(owner); s.Overtaken != 1 {
			w.Errorf("status %+v", s)
		}
	})
}

func TestRetryThatIsOvertakenTriesAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		p := parkedWorld(w)
		w.ok(p.Stop(w.Context()))
		times := 0
		w.models.before = func(es.Commit) error {
			times++
			switch times {
			case 1, 2:
				return &es.ProjectionError{Projection: "totals"}
			case 3:
				return es.ErrLeaseLost
			}
			return nil
		}
		other := w.projection(w.countAll())
		w.ok(other.Retry(w.Context(), "a-1"))
		w.total("a", 4, 23)
		if times != 4 {
			w.Errorf("%d commits", times)
		}
		w.models.before = func(es.Commit) error { return errCut }
		w.append("b-1", Added{To: "b", N: 1, Bad: true})
		w.is(other.Discard(w.Context(), "b-1"), es.ErrNotFound)
	})
}

func TestRetryHandlesWhatIsForTheProjectionAndNotMore(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Park
		w.config.Names = []string{"Added"}
		w.append("a-1", Added{To: "a", N: 1, Bad: true}, Added{To: "a", N: 2})
		w.appendMessage(es.NewMessage("a-1", "Other", nil)) // it is not for the projection
		w.append("a-1", Added{To: "a", N: 4})
		p := w.start()
		w.await(p)
		w.ok(p.Stop(w.Context()))
		w.append("b-1", Added{To: "b", N: 1})
		w.caughtUp() // another copy, that has gone on since
		w.append("a-1", Added{To: "a", N: 8})

		w.calls = nil
		handler := projection.OnMessage("", func(_ context.Context, _ *projection.Batch, m *es.Message) error {
			w.called(m)
			return nil
		})
		w.ok(w.projection(handler).Retry(w.Context(), "a-1"))
		w.same("calls of the retry", w.made(), []string{"a-1/1", "a-1/2", "a-1/4"})
		w.caughtUp(handler)
		w.same("calls", w.made(), []string{"a-1/1", "a-1/2", "a-1/4", "a-1/5"})
	})
}

func TestRetryByOneThatWasStoppedGoesByWhatIsCommitted(t *testing.T) {
	inBubble(t, func(w *world) {
		p := parkedWorld(w)
		w.ok(p.Stop(w.Context()))
		w.append("b-1", Added{To: "b", N: 1})
		w.caughtUp() // another copy, that has gone on since
		begun := time.Now()
		w.is(p.RetryNext(w.Context(), "c-1"), es.ErrNotFound)
		w.ok(p.RetryNext(w.Context(), "a-1"))
		w.total("a", 3, 21)
		if took := time.Since(begun); took != 0 {
			w.Errorf("it took %v", took)
		}
	})
}

func TestSkipInARetryPassesTheEvent(t *testing.T) {
	inBubble(t, func(w *world) {
		p := parkedWorld(w)
		w.ok(p.Stop(w.Context()))
		other := w.projection(projection.On(func(ctx context.Context, b *projection.Batch, e Added, _ *es.Message) error {
			err := w.totals.In(b).Update(ctx, e.To, func(total *Total) error { total.Sum += e.N; return nil })
			if err == nil && e.N == 4 {
				return es.Skip(errBad)
			}
			return err
		}))
		w.ok(other.Retry(w.Context(), "a-1"))
		w.total("a", 1, 19)
		w.same("parked", w.parked(other), nil)
	})
}

func TestTooManyParkedStreamsStopTheProjection(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Park
		w.config.MaxParked = 2
		for i := range 3 {
			w.append(fmt.Sprintf("a-%d", i), Added{To: "a", N: 1}, Added{To: "a", Bad: true})
		}
		p := w.start()
		err := w.ended(p)
		w.is(err, errBad)
		if !strings.Contains(err.Error(), "2 streams are parked") {
			w.Errorf("it ended by %v", err)
		}
		w.total("a", 3, 3)
	})
}
