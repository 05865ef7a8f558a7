package memory

import (
	"context"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Forward appends each entry's message to its stream, expecting [es.Any], and completes the entry, both or neither.
func (o *Outbox) Forward(ctx context.Context, entries []es.Entry) []es.Outcome {
	outcomes := make([]es.Outcome, len(entries))
	if err := o.handle.begin(ctx); err != nil {
		for i := range outcomes {
			outcomes[i].Err = err
		}
		return outcomes
	}
	defer o.handle.leave()
	q := o.queue
	q.mu.Lock() // and then, in append, that of the event log
	defer q.mu.Unlock()
	now := time.Now()
	q.advance(now)
	var held map[string]bool // streams whose later entries must not overtake one that failed
	for i := range entries {
		if entries[i].Message != nil && held[entries[i].Stream] {
			outcomes[i].Err = es.ErrHeldBack
			continue
		}
		outcomes[i] = q.forward(entries[i], o.limits, now)
		if err := outcomes[i].Err; err != nil && !es.Permanent(err) {
			if held == nil {
				held = map[string]bool{}
			}
			held[entries[i].Stream] = true
		}
	}
	return outcomes
}

func (q *outboxQueue) forward(entry es.Entry, limits es.Limits, now time.Time) es.Outcome {
	e, err := q.held(entry)
	if err != nil {
		return es.Outcome{Err: err}
	}
	appended, err := q.events.append(es.AppendTo(e.message.Stream, es.Any, e.message), limits)
	if err != nil {
		return es.Outcome{Err: err}
	}
	q.answer(e)
	q.complete(e)
	q.settle(e.stream, now)
	return es.Outcome{Appended: appended}
}
