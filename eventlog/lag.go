package eventlog

import (
	"context"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Lag tells how far the group of the subscription is behind, with what its other members have not handled; see [es.Lagger].
func (s *subscription) Lag(ctx context.Context) (es.Lag, error) {
	g := s.group
	g.mu.Lock()
	closed, failed := s.closed, g.err
	mark := es.Checkpoint{Incarnation: g.incarnation, Position: never}
	for _, p := range g.owned {
		mark.Position = min(mark.Position, p.mark())
	}
	whole := len(g.owned) == g.partitions
	g.mu.Unlock()
	switch {
	case closed:
		return es.Lag{}, es.ErrClosed
	case failed != nil:
		return es.Lag{}, failed
	case !whole:
		info, err := g.log.Group(ctx, g.topic, g.name)
		return info.Lag, err
	}
	return g.log.lag(ctx, g.topic, mark, g.only)
}

// lag tells how far a low-water mark is behind the head.
func (l *Log) lag(ctx context.Context, topic string, mark es.Checkpoint, only []es.Criterion) (es.Lag, error) {
	head, err := l.events.Head(ctx)
	if err != nil || head.Position <= mark.Position {
		return es.Lag{}, err
	}
	query := es.Query{Category: topic, Any: only, UpTo: head.Position, Limit: 1}
	for m, err := range l.events.Read(ctx, query.Resume(mark)) {
		if err != nil {
			return es.Lag{}, err
		}
		return es.Lag{Messages: head.Position - m.Position + 1, Oldest: m.Recorded}, nil
	}
	return es.Lag{}, nil // nothing beyond the mark is for the group
}
