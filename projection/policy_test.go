package projection_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

func TestStopEndsAtTheEventThatFails(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append("a-1", Added{To: "x", N: 1}, Added{To: "y", N: 2})
		w.append("b-1", Added{To: "x", N: 100, Bad: true}, Added{To: "x", N: 4})
		bad := w.last.Position - 1
		p := w.start()
		failed, ok := errors.AsType[*projection.EventError](w.ended(p))
		if !ok || failed.Message.Position != bad || !errors.Is(failed, errBad) {
			w.Fatalf("it ended by %v", p.Err())
		}
		for _, part := range []string{`"totals"`, `"Added"`, `"b-1"`, "version 1", errBad.Error()} {
			if !strings.Contains(failed.Error(), part) {
				w.Errorf("%q does not have %s", failed, part)
			}
		}
		w.total("x", 1, 1)
		w.total("y", 1, 2)
		if at := w.progress().Position; at != bad-1 {
			w.Errorf("it stands at %d, want right before %d", at, bad)
		}
		if s := w.status(p); s.State != projection.StateFailed || !errors.Is(s.LastError, errBad) || s.Lag != 2 {
			w.Errorf("status %+v", s)
		}
		if err := p.Health(w.Context()); !errors.Is(err, errBad) {
			w.Errorf("health: %v", err)
		}
		w.ok(p.Stop(w.Context()))

		again := w.start() // the event fails again
		w.is(w.ended(again), errBad)
		w.caughtUp(projection.On(func(_ context.Context, b *projection.Batch, e Added, _ *es.Message) error {
			return w.totals.In(b).Put(e.To, Total{Events: 2, Sum: e.N}) // a handler that can do it
		}))
		w.total("x", 2, 4)
		w.total("y", 1, 2)
	})
}

func TestSkipGoesOnWithoutWhatFails(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Skip
		for range 10 {
			w.append("a-1", Added{To: "x", N: 1}, Added{To: "x", N: 100, Bad: true}, Added{To: "y", N: 1, Bad: true}, Added{To: "y", N: 1})
		}
		p := w.start()
		w.await(p)
		w.total("x", 10, 10)
		w.total("y", 10, 10)
		if s := w.status(p); s.Skipped != 20 || s.Handled != 20 || !errors.Is(s.LastError, errBad) {
			w.Errorf("status %+v", s)
		}
		most := map[string]int{}
		for _, call := range w.made() {
			if most[call]++; most[call] > 2 {
				w.Fatalf("%s was handled more than twice", call)
			}
		}
	})
}

func TestAnEventThatLeftNothingIsPassedWithoutHandlingOthersAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Skip
		w.append("a-1", Added{To: "x", N: 1}, Added{To: "x", Bad: true}, Added{To: "x", N: 2}, Added{To: "x", Bad: true}, Added{To: "x", N: 4})
		w.caughtUp(projection.On(func(ctx context.Context, b *projection.Batch, e Added, m *es.Message) error {
			w.called(m)
			total, _, err := w.totals.In(b).Get(ctx, e.To)
			if err != nil || e.Bad {
				return errors.Join(err, errBad)
			}
			return w.totals.In(b).Put(e.To, Total{Events: total.Events + 1, Sum: total.Sum + e.N})
		}))
		w.total("x", 3, 7)
		w.same("calls", w.made(), []string{"a-1/1", "a-1/2", "a-1/3", "a-1/4", "a-1/5"})
		if n := len(w.models.committed()); n != 1 {
			w.Errorf("%d commits", n)
		}
	})
}

func TestAPanicIsAnErrorWithTheStack(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append("a-1", Added{To: "x"})
		p := w.start(projection.On(func(context.Context, *projection.Batch, Added, *es.Message) error { panic("ouch") }))
		panicked, ok := errors.AsType[*es.PanicError](w.ended(p))
		if !ok || panicked.Value != "ouch" || !strings.Contains(string(panicked.Stack), "TestAPanicIsAnErrorWithTheStack") {
			w.Errorf("it ended by %v", p.Err())
		}
	})
}

func TestAPanicInUpdateLeavesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Skip
		w.append("a-1", Added{To: "x", N: 1}, Added{To: "x", N: 50, Bad: true}, Added{To: "x", N: 2})
		w.caughtUp(projection.On(func(ctx context.Context, b *projection.Batch, e Added, _ *es.Message) error {
			return w.totals.In(b).Update(ctx, e.To, func(total *Total) error {
				total.Sum += e.N
				if e.Bad {
					panic("ouch")
				}
				total.Events++
				return nil
			})
		}))
		w.total("x", 2, 3)
	})
}

func TestWhatAHandlerSaysSteers(t *testing.T) {
	inBubble(t, func(w *world) {
		w.append("a-1", Added{To: "skip", N: 1}, Added{To: "again", N: 1}, Added{To: "x", N: 1})
		tries := 0
		p := w.start(w.count(), projection.On(func(_ context.Context, _ *projection.Batch, e Added, _ *es.Message) error {
			switch {
			case e.To == "skip":
				return es.Skip(errBad)
			case e.To == "again" && tries < 3:
				tries++
				return es.RetryAfter(time.Hour, errBad)
			}
			return nil
		}))
		begun := time.Now()
		synctest.Wait()
		if s := w.status(p); !errors.Is(s.LastError, errBad) || s.State != projection.StateCatchingUp {
			w.Errorf("status while it waits %+v", s)
		}
		w.ok(p.WaitFor(w.Context(), w.last))
		if took := time.Since(begun); took != 3*time.Hour {
			w.Errorf("it took %v, want 3 hours", took)
		}
		w.total("skip", 0, 0)
		w.total("again", 1, 1)
		w.total("x", 1, 1)
		if s := w.status(p); s.Skipped != 1 || s.Handled != 2 {
			w.Errorf("status %+v", s)
		}
	})
}

func TestAttemptsAreMadeBeforeThePolicyDecides(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.Attempts = 4
		w.append("a-1", Added{To: "x", N: 1}, Added{To: "x", N: 2}, Added{To: "y", N: 3})
		tries := 0
		handler := projection.On(func(_ context.Context, _ *projection.Batch, e Added, _ *es.Message) error {
			if e.N == 2 && tries < 3 {
				tries++
				return errBad
			}
			return nil
		})
		w.caughtUp(w.count(), handler)
		w.total("x", 2, 3)
		w.total("y", 1, 3)
		if tries != 3 {
			w.Errorf("it failed %d times", tries)
		}
	})
}

func TestWhatCannotSucceedIsNotTriedAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.Attempts = 4
		w.append("a-1", Added{To: "", N: 1}) // an empty key
		p := w.start()
		w.is(w.ended(p), es.ErrInvalid)
		w.same("calls", w.made(), []string{"a-1/1"})
	})
}

func TestAnEventWhoseCommitIsTurnedDownFailsByItself(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Skip
		tooMuch := es.Invalidf("document", "is too large")
		w.models.before = func(c es.Commit) error {
			for _, write := range c.Writes {
				if strings.Contains(string(write.Data), `"sum":6`) {
					return tooMuch
				}
			}
			return nil
		}
		w.append("a-1", Added{To: "x", N: 1}, Added{To: "y", N: 666}, Added{To: "x", N: 2}, Added{To: "y", N: 5})
		p := w.start()
		w.await(p)
		w.total("x", 2, 3)
		w.total("y", 1, 5)
		if s := w.status(p); s.Skipped != 1 || !errors.Is(s.LastError, tooMuch) {
			w.Errorf("status %+v", s)
		}
	})
}
