package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func validateStart(s es.Start) error {
	switch s.Kind {
	case es.StartDefault, es.StartBeginning, es.StartEnd:
		return nil
	case es.StartPosition:
		if s.Position < 0 {
			return es.Invalidf("start", "is after position %d; it takes 0 for the beginning, or more", s.Position)
		}
		return nil
	case es.StartTime:
		if s.Time.IsZero() {
			return es.Invalidf("start", "is at a time that was not set; StartBeginning begins with the oldest message")
		}
		return nil
	}
	return es.Invalidf("start", "is of kind %d, which there is not", s.Kind)
}

// resolve returns the position behind which something begins, in the store as it is now.
func (l *Log) resolve(ctx context.Context, topic string, s es.Start) (es.Checkpoint, error) {
	at, err := l.events.Head(ctx)
	if err != nil {
		return at, fmt.Errorf("look for the head of the log: %w", err)
	}
	switch s.Kind {
	case es.StartBeginning:
		at.Position = 0
	case es.StartPosition:
		at.Position = s.Position
		err = l.check(ctx, at)
	case es.StartTime:
		at.Position, err = l.before(ctx, topic, at, s.Time)
	case es.StartDefault, es.StartEnd:
	}
	return at, err
}

// check returns the store's error when a checkpoint does not belong to it.
func (l *Log) check(ctx context.Context, at es.Checkpoint) error {
	query := es.Query{Limit: 1}
	for _, err := range l.events.Read(ctx, query.Resume(at)) {
		return err
	}
	return nil
}

// clockStep is how far the clock of the store may have been set back without a message being missed that starts are looked for by
// time.
const clockStep = time.Minute

// before returns the position before the first message of a category that was recorded at a time or later. It goes back from the
// head, so that it costs what will be read from there.
func (l *Log) before(ctx context.Context, topic string, head es.Checkpoint, t time.Time) (int64, error) {
	at := head.Position
	query := es.Query{Category: topic, UpTo: head.Position, Incarnation: head.Incarnation, Reverse: true}
	if head.Position == 0 {
		return 0, nil
	}
	for m, err := range l.events.Read(ctx, query) {
		switch {
		case err != nil:
			return 0, fmt.Errorf("look for the time to start at: %w", err)
		case !m.Recorded.Before(t):
			at = m.Position - 1
		case m.Recorded.Before(t.Add(-clockStep)):
			return at, nil
		}
	}
	return at, nil
}

// ensure returns the document of the group, and writes it, with those of its partitions, when the group is new.
func (g *group) ensure(ctx context.Context, start es.Start) (groupDocument, error) {
	for {
		docs, err := g.log.models.Load(ctx, g.keys.model, g.keys.group())
		if err != nil {
			return groupDocument{}, fmt.Errorf("load group %q: %w", g.name, err)
		}
		var d groupDocument
		var writes []es.Write
		if docs[0].Revision != 0 {
			if d, writes, err = g.resume(ctx, docs[0]); err != nil || len(writes) == 0 {
				return d, err
			}
		} else if d, writes, err = g.begin(ctx, start); err != nil {
			return d, err
		}
		switch err := g.log.models.Commit(ctx, es.Commit{Writes: writes}); {
		case err == nil:
			return d, nil
		case !errors.Is(err, es.ErrConflict): // with one, somebody else has begun it
			return d, fmt.Errorf("write the start of group %q: %w", g.name, err)
		}
	}
}

// resume returns the document of a group that is there, and what is to be written before it is: by which key it is ordered, when
// nobody has said so since it was reset.
func (g *group) resume(ctx context.Context, doc es.Document) (groupDocument, []es.Write, error) {
	d, err := decodeGroup(doc.Data)
	if err != nil {
		return d, nil, err
	}
	if err := g.log.check(ctx, es.Checkpoint{Incarnation: d.Incarnation, Position: d.Start}); err != nil {
		return d, nil, err
	}
	if d.Key != "" {
		return d, nil, g.sameKey(d)
	}
	d.Key = orderOf(g.keyOf)
	write, err := d.write(g.keys, es.Exactly(doc.Revision))
	return d, []es.Write{write}, err
}

// sameKey is an error when the group is ordered by another key: its members would disagree about the partition of a message, and
// each leave it to the other.
func (g *group) sameKey(d groupDocument) error {
	switch mine := orderOf(g.keyOf); {
	case d.Key == "" || d.Key == mine:
		return nil
	case mine == byStream:
		return es.Invalidf("key", "is that of the stream, and group %q was begun with a function; "+
			"all its subscriptions take the same, until it is reset", g.name)
	default:
		return es.Invalidf("key", "is a function, and group %q was begun with the key of the stream; "+
			"all its subscriptions take the same, until it is reset", g.name)
	}
}

// begin returns the document of a group that is new, and what is to be written.
func (g *group) begin(ctx context.Context, start es.Start) (groupDocument, []es.Write, error) {
	at, err := g.log.resolve(ctx, g.topic, start)
	if err != nil {
		return groupDocument{}, nil, err
	}
	d := groupDocument{
		Format: groupFormat, Topic: g.topic, Group: g.name, Partitions: g.log.config.Partitions,
		Incarnation: at.Incarnation, Start: at.Position, Only: stored(g.only), Key: orderOf(g.keyOf),
	}
	writes, err := beginning(g.keys, d)
	return d, writes, err
}

// write writes the document of a group.
func (d groupDocument) write(keys groupKeys, expect es.Expectation) (es.Write, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return es.Write{}, fmt.Errorf("encode the document of group %q: %w", d.Group, err)
	}
	return es.Write{Model: keys.model, Key: keys.group(), Data: data, Expect: expect}, nil
}

// beginning is what is written of a group that is new.
func beginning(keys groupKeys, d groupDocument) ([]es.Write, error) {
	write, err := d.write(keys, es.NoStream)
	if err != nil {
		return nil, err
	}
	writes := []es.Write{write}
	r := record{incarnation: d.Incarnation, high: d.Start}
	for _, key := range keys.partitions(d.Partitions) {
		writes = append(writes, es.Write{Model: keys.model, Key: key, Data: r.encode(), Expect: es.NoStream})
	}
	return writes, nil
}
