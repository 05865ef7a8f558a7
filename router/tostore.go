package router

import (
	"context"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ToEventStore sends messages by appending each to its stream, in one append: all of them or none. It is for programs whose broker
// is the event log itself (package eventlog), where what is appended is published.
//
// A message that was appended before is fine, so that a redelivered input does not double its outputs.
func ToEventStore(events es.EventStore) Emitter {
	return func(ctx context.Context, msgs []*es.Message) error {
		_, err := events.Append(ctx, byStream(msgs))
		return err
	}
}

// byStream makes one append of messages, in which each stream is there once, with its messages in order.
func byStream(msgs []*es.Message) es.Append {
	var a es.Append
	index := make(map[string]int, len(msgs))
	for _, m := range msgs {
		i, known := index[m.Stream]
		if !known {
			i = len(a.Streams)
			index[m.Stream] = i
			a.Streams = append(a.Streams, es.StreamAppend{Stream: m.Stream, Expect: es.Any})
		}
		a.Streams[i].Events = append(a.Streams[i].Events, m)
	}
	return a
}
