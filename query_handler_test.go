package eventsourcing_test

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
)

// counted counts how often a projection's progress is asked for.
type counted struct {
	es.ReadModels

	asked atomic.Int64
}

func (c *counted) Progress(ctx context.Context, projection string) (es.Progress, error) {
	c.asked.Add(1)
	return c.ReadModels.Progress(ctx, projection)
}

// totals is a read model that a test moves forward.
type totals struct {
	*testing.T

	models *counted
	at     es.Progress
}

func newTotals(t *testing.T) *totals {
	t.Helper()
	backend := memory.New()
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	return &totals{T: t, models: &counted{ReadModels: backend.ReadModels()}}
}

// moveTo brings the projection to a place, with a document that says which.
func (m *totals) moveTo(c es.Checkpoint) {
	m.Helper()
	w, err := m.model().Put("order-1", c.Position, es.Any)
	if err != nil {
		m.Fatal(err)
	}
	next := es.Progress{Generation: 1, Epoch: 1, Checkpoint: c}
	move := es.ProgressUpdate{Projection: "totals", From: m.at, To: next}
	if err := m.models.Commit(context.Background(), es.Commit{Writes: []es.Write{w}, Progress: move}); err != nil {
		m.Fatal(err)
	}
	m.at = next
}

func (m *totals) model() es.Model[int64] { return es.NewModel[int64](m.models, "totals") }

func (m *totals) handler(patience time.Duration) *es.QueryHandler[string, es.Item[int64]] {
	m.Helper()
	h, err := es.NewQueryHandler(es.QueryConfig{Waiter: es.WaitForProgress(m.models, "totals"), Patience: patience},
		es.FromModel(m.model(), func(q string) string { return q }))
	if err != nil {
		m.Fatal(err)
	}
	return h
}

func TestAQueryReadsWhatItWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newTotals(t)
		h := m.handler(0)
		store := es.NewID()
		if _, err := h.Ask(t.Context(), "order-1"); !errors.Is(err, es.ErrNotFound) {
			t.Errorf("before there is anything: %v", err)
		}
		answered := make(chan es.Item[int64])
		go func() {
			item, err := h.AskAfter(t.Context(), "order-1", es.Checkpoint{Incarnation: store, Position: 7})
			if err != nil {
				t.Error(err)
			}
			answered <- item
		}()
		<-time.After(time.Second)
		m.moveTo(es.Checkpoint{Incarnation: store, Position: 6})
		<-time.After(time.Second)
		select {
		case item := <-answered:
			t.Fatalf("it was answered from position %d", item.Value)
		default:
		}
		m.moveTo(es.Checkpoint{Incarnation: store, Position: 9})
		if item := <-answered; item.Value != 9 {
			t.Errorf("it was answered from position %d, want 9", item.Value)
		}
		begin := time.Now()
		item, err := h.AskAfter(t.Context(), "order-1", es.Checkpoint{Incarnation: store, Position: 9})
		if err != nil || item.Value != 9 || time.Since(begin) != 0 {
			t.Errorf("where it is already: %+v after %v, %v", item, time.Since(begin), err)
		}
	})
}

func TestAQueryDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newTotals(t)
		store := es.NewID()
		m.moveTo(es.Checkpoint{Incarnation: store, Position: 1})
		begin := time.Now()
		_, err := m.handler(time.Second).AskAfter(t.Context(), "order-1", es.Checkpoint{Incarnation: store, Position: 2})
		if !errors.Is(err, es.ErrLagging) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if n := m.models.asked.Load(); n < 20 || n > 40 {
			t.Errorf("in a second it looked %d times, want some 25", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = m.handler(time.Second).AskAfter(ctx, "order-1", es.Checkpoint{Position: 2})
		if !errors.Is(err, context.Canceled) || errors.Is(err, es.ErrLagging) {
			t.Errorf("when its context has ended: %v", err)
		}
	})
}

func TestManyQueriesThatWaitLookTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newTotals(t)
		h := m.handler(0)
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if _, err := h.AskAfter(t.Context(), "order-1", es.Checkpoint{Position: 1}); err != nil {
					t.Error(err)
				}
			})
		}
		<-time.After(time.Second)
		m.moveTo(es.Checkpoint{Incarnation: es.NewID(), Position: 1})
		all.Wait()
		if n := m.models.asked.Load(); n > 50 {
			t.Errorf("1000 queries looked %d times in a second, want as often as one", n)
		}
	})
}

func TestAQueryAfterAPlaceInAnotherStore(t *testing.T) {
	t.Parallel()
	m := newTotals(t)
	m.moveTo(es.Checkpoint{Incarnation: es.NewID(), Position: 5})
	h := m.handler(0)
	if _, err := h.AskAfter(t.Context(), "order-1", es.Checkpoint{Incarnation: es.NewID(), Position: 3}); !errors.Is(err, es.ErrCheckpoint) {
		t.Errorf("it was answered with %v", err)
	}
	if _, err := h.AskAfter(t.Context(), "order-1", es.Checkpoint{Position: 3}); err != nil {
		t.Errorf("a place without an incarnation: %v", err)
	}
}

func TestQueryHandlersThatCannotBe(t *testing.T) {
	t.Parallel()
	answer := func(context.Context, string) (int, error) { return 1, nil }
	if _, err := es.NewQueryHandler[string, int](es.QueryConfig{}, nil); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("without a function: %v", err)
	}
	_, err := es.NewQueryHandler(es.QueryConfig{Patience: -1}, answer)
	if !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), "Patience") {
		t.Errorf("with negative patience: %v", err)
	}
	h, err := es.NewQueryHandler(es.QueryConfig{}, answer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.AskAfter(t.Context(), "", es.Checkpoint{Position: 1}); !errors.Is(err, es.ErrUnsupported) {
		t.Errorf("to wait without a waiter: %v", err)
	}
	if n, err := h.AskAfter(t.Context(), "", es.Checkpoint{}); n != 1 || err != nil {
		t.Errorf("without waiting: %d %v", n, err)
	}
}

func TestAReadModelThatFailsWhileAQueryWaits(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	if err := backend.Close(); err != nil {
		t.Fatal(err)
	}
	w := es.WaitForProgress(backend.ReadModels(), "totals")
	if err := w.WaitFor(t.Context(), es.Checkpoint{Position: 1}); !errors.Is(err, es.ErrClosed) {
		t.Errorf("%v", err)
	}
}
