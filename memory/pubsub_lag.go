package memory

import (
	"context"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Lag tells what the group of the subscription has still to handle, exactly and at one moment: what waits, and what it or another
// member of the group has in flight. It takes the topic's lock for an instant, however long the queue is. After Close it is
// [es.ErrClosed]. See [es.Lagger].
func (s *subscription) Lag(ctx context.Context) (es.Lag, error) {
	if err := ctx.Err(); err != nil {
		return es.Lag{}, err
	}
	s.topic.mu.Lock()
	defer s.topic.unlock()
	if s.closed {
		return es.Lag{}, es.ErrClosed
	}
	return s.group.lag(), nil
}

func (g *consumerGroup) lag() es.Lag {
	lag := es.Lag{Messages: int64(g.waiting() + g.inFlight)}
	if oldest := g.oldest(); oldest != nil {
		lag.Oldest = g.topic.space.time(oldest.published)
	}
	return lag
}

// oldest returns the oldest message that is not acknowledged, or nil. What the group has taken out of the log comes before all
// that lies ahead there.
func (g *consumerGroup) oldest() *topicRecord {
	switch {
	case g.lot.sub != nil:
		return g.lot.oldest()
	case !g.ordered.empty():
		return g.parcels.all[g.ordered.first].record
	case g.fresh() > 0:
		return g.cursor.record()
	}
	return nil
}
