package processor

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Stats tells what is in the outbox, and what this processor has done since it was made.
type Stats struct {
	// Outbox is what waits: its depth, the age of the oldest entry, failures and dead letters, of all processors together.
	Outbox es.OutboxStats
	// Appended counts the messages that were appended; one that was there already is not counted.
	Appended int64
	// Published counts the messages that the publisher took, each time it did.
	Published int64
	// Completed counts the entries that were done.
	Completed int64
	// Retried counts the entries that failed and were given back for another attempt.
	Retried int64
	// Released counts the entries that were given back without an attempt: those behind a failed one of their stream, and what
	// was in hand at a stop. What a [Batch] gives back only to see what has come to it since is not counted.
	Released int64
	// Dead counts the dead letters.
	Dead int64
	// Dropped counts the messages that an [AtMostOnce] did not pass on although they were completed, or may have been.
	Dropped int64
	// Batches counts the batches that a [Batch] has passed on or given up.
	Batches int64
	// LeasesLost counts the entries that were in the hands of somebody else before they could be answered.
	LeasesLost int64
}

type counters struct {
	appended, published, completed, retried, released, dead, dropped, batches, lost atomic.Int64
}

// Stats reads the statistics. The error is that of the outbox.
func (e *engine) Stats(ctx context.Context) (Stats, error) {
	outbox, err := e.config.Outbox.Stats(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("statistics of the outbox: %w", err)
	}
	return Stats{
		Outbox:     outbox,
		Appended:   e.counters.appended.Load(),
		Published:  e.counters.published.Load(),
		Completed:  e.counters.completed.Load(),
		Retried:    e.counters.retried.Load(),
		Released:   e.counters.released.Load(),
		Dead:       e.counters.dead.Load(),
		Dropped:    e.counters.dropped.Load(),
		Batches:    e.counters.batches.Load(),
		LeasesLost: e.counters.lost.Load(),
	}, nil
}

// Health is nil while the processor runs and gets something done. It fails when nothing could be claimed, or everything that
// was claimed has failed, for [Config].UnhealthyAfter, and when the outbox lags by more than [Config].MaxLag. One stream that
// fails among others that do not is no reason; see [Stats] and the log for it.
func (e *engine) Health(ctx context.Context) error {
	e.mu.Lock()
	state, err := e.state, e.err
	e.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("processor %s has ended: %w", e.config.Name, err)
	case state != stateRunning:
		return fmt.Errorf("processor %s is not running", e.config.Name)
	}
	for _, t := range []*trouble{&e.claiming, &e.moving} {
		if err := t.lasting(e.config.UnhealthyAfter); err != nil {
			return fmt.Errorf("processor %s: %w", e.config.Name, err)
		}
	}
	if e.config.MaxLag == 0 {
		return nil
	}
	outbox, err := e.config.Outbox.Stats(ctx)
	if err != nil {
		return fmt.Errorf("processor %s: statistics of the outbox: %w", e.config.Name, err)
	}
	if outbox.Depth == 0 {
		return nil
	}
	if lag := time.Since(outbox.Oldest); lag > e.config.MaxLag {
		return fmt.Errorf("processor %s: the oldest of %d entries has waited for %v, at most %v is allowed",
			e.config.Name, outbox.Depth, lag.Round(time.Millisecond), e.config.MaxLag)
	}
	return nil
}

// gaveUp notes what was given up, unless that was its own fault: who sends what can never succeed makes nobody unhealthy.
func (e *engine) gaveUp(cause error) {
	if !es.Permanent(cause) {
		e.moving.note(cause)
	}
}

// trouble remembers since when something fails without a success between.
type trouble struct {
	fresh time.Duration // how long a failure counts

	mu    sync.Mutex
	since time.Time // the first failure
	until time.Time // and the last
	last  error
}

func (t *trouble) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.last == nil || now.Sub(t.until) > t.fresh {
		t.since = now
	}
	t.until, t.last = now, err
}

func (t *trouble) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = nil
}

// lasting returns the last error when it has been failing for as long as limit, and the last failure is fresh.
func (t *trouble) lasting(limit time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil || time.Since(t.until) > t.fresh {
		return nil
	}
	if d := time.Since(t.since); d >= limit {
		return fmt.Errorf("failing for %v: %w", d.Round(time.Millisecond), t.last)
	}
	return nil
}
