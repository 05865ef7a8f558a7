package router

import (
	"context"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// replayBatch is how many replays are received at a time, at the most: they are few, and room for more would lie idle.
const replayBatch = 32

// takesReplays tells whether dead letters come back to the route.
func (s *spec) takesReplays() bool { return s.canBury() && !s.opts.NoReplays && !s.config.NoReplays }

// work receives replays until the lane stops, and gives their originals to the workers of the lane.
func (in *intake) work() {
	l := in.lane
	l.mu.Lock()
	defer func() {
		l.workers--
		l.wakeKeeper()
		l.mu.Unlock()
	}()
	for !l.stopping {
		b := in.spareBatch()
		l.mu.Unlock()
		if b == nil {
			in.awaitFreed(l.receiving)
			l.mu.Lock()
			continue
		}
		n, err := in.receive(l.receiving, b.room)
		now := time.Now()
		for i := range n {
			b.shown[i] = l.original(b.room[i])
		}
		l.mu.Lock()
		if n == 0 {
			in.putBack(b)
			in.ended(err)
			l.idle.Broadcast()
			continue
		}
		in.err = trouble{}
		l.enqueue(b, n, now)
		l.wakeWorkers()
	}
}

func (in *intake) awaitFreed(ctx context.Context) {
	select {
	case <-in.freed:
	case <-ctx.Done():
	}
}

// original returns what the handler is shown of a replay: the delivery of the message that failed, with the attempts, the first
// time and the lease of the replay. So what fails again is a new dead letter. What brings nothing back is shown as something that
// cannot be decoded.
func (l *lane) original(d es.Delivery) es.Delivery {
	if d.Err != nil {
		return d
	}
	record, err := l.readReplay(d.Message)
	if err != nil {
		d.Err, d.Raw = err, d.Data
		return d
	}
	if d.First.IsZero() {
		d.First = d.Time // of this replay, and of no other
	}
	d.Message, d.Topic, d.Group = record.Original.Message(), record.Topic, record.Group
	return d
}

func (l *lane) readReplay(m *es.Message) (es.DeadLetterRecord, error) {
	record, err := es.ReadReplay(m)
	switch {
	case err != nil:
		return record, err
	case record.Original.Raw != nil:
		return record, fmt.Errorf("replay %s brings back a message that could not be decoded", m.ID)
	case record.Topic != l.topic || record.Group != l.name:
		return record, fmt.Errorf("replay %s is for group %q of topic %q and not for this route", m.ID, record.Group, record.Topic)
	}
	return record, nil
}

// replayKey is the ordering key of a replay for a route that has a key of its own: that of the original.
func (l *lane) replayKey(m *es.Message) string {
	record, err := l.readReplay(m)
	if err != nil {
		return m.Stream
	}
	return l.opts.Key(record.Original.Message())
}
