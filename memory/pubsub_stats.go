package memory

import (
	"cmp"
	"slices"
)

// TopicStats tell what a topic holds.
type TopicStats struct {
	Topic string
	// Backlog is how many messages wait that nobody has subscribed to.
	Backlog int
	// Evicted is how many messages were dropped because there was no room: from the backlog, and from all groups and subscriptions
	// there are or were.
	Evicted int64
	// Groups are the groups, by name, and the subscriptions without a group, whose name is empty.
	Groups []GroupStats
}

// GroupStats tell how far a group is behind.
type GroupStats struct {
	Group string
	// Members is how many subscriptions the group has at the moment.
	Members int
	// Depth is how many messages wait; InFlight is how many more are received and not answered.
	Depth, InFlight int
	// Evicted is how many messages were dropped because there was no room.
	Evicted int64
}

// Stats tell what the topics of the namespace hold, in the order of their names. Each topic is seen at one moment, but not all
// at the same. What was dropped by a topic that has nothing and nobody any more is forgotten with it.
func (p *PubSub) Stats() []TopicStats {
	p.space.mu.RLock()
	topics := make([]*topic, 0, len(p.space.topics))
	for _, t := range p.space.topics {
		topics = append(topics, t)
	}
	p.space.mu.RUnlock()
	stats := make([]TopicStats, len(topics))
	for i, t := range topics {
		stats[i] = t.stats()
	}
	slices.SortFunc(stats, func(a, b TopicStats) int { return cmp.Compare(a.Topic, b.Topic) })
	return stats
}

func (t *topic) stats() TopicStats {
	t.mu.Lock()
	defer t.unlock()
	stats := TopicStats{Topic: t.name, Evicted: t.evicted}
	if t.backlog != nil {
		stats.Backlog = t.backlog.waiting()
		stats.Evicted += t.backlog.evicted
	}
	for _, g := range t.groups {
		if g == t.backlog {
			continue
		}
		stats.Evicted += g.evicted
		stats.Groups = append(stats.Groups, GroupStats{
			Group: g.name, Members: g.present, Depth: g.waiting(), InFlight: g.inFlight, Evicted: g.evicted,
		})
	}
	slices.SortStableFunc(stats.Groups, func(a, b GroupStats) int { return cmp.Compare(a.Group, b.Group) })
	return stats
}
