package estest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/internal/compare"
)

// StreamEvents is events of one stream, made by [In].
type StreamEvents struct {
	stream string
	tags   []string
	events []any
}

// In is events of a stream: Go values of registered types, or messages. As a past they are appended, and as an outcome they are
// compared with what was appended; of a message the name, the schema, the data and the tags count, and neither ID nor time.
func In(stream string, events ...any) StreamEvents {
	return StreamEvents{stream: stream, events: events}
}

// Tagged adds tags to those that the events have themselves, see [es.Tagged].
func (s StreamEvents) Tagged(tags ...string) StreamEvents {
	s.tags = slices.Concat(s.tags, tags)
	return s
}

// messages makes the messages of the events.
func (s StreamEvents) messages(types *es.Types) ([]*es.Message, error) {
	messages := make([]*es.Message, len(s.events))
	for i, event := range s.events {
		m, err := messageOf(s.stream, event, types)
		if err != nil {
			return nil, fmt.Errorf("event %d of stream %q: %w", i+1, s.stream, err)
		}
		m.Tags = slices.Concat(m.Tags, s.tags)
		messages[i] = m
	}
	return messages, nil
}

// messageOf is an event as a message of its own.
func messageOf(stream string, event any, types *es.Types) (*es.Message, error) {
	m, raw := event.(*es.Message)
	switch {
	case raw && m == nil:
		return nil, errors.New("the message is nil")
	case raw:
		m = m.Clone()
		m.Stream = stream
		return m, nil
	case types == nil:
		return nil, fmt.Errorf("it is of type %T, and the test gives no types to store that with", event)
	}
	return types.Encode(stream, event)
}

// appendAll appends the events of streams to a store, one append for each, and returns what it has appended.
func appendAll(ctx context.Context, store es.EventStore, types *es.Types, all []StreamEvents) ([]*es.Message, error) {
	var appended []*es.Message
	for _, s := range all {
		messages, err := s.messages(types)
		if err != nil {
			return appended, err
		}
		if len(messages) == 0 {
			continue
		}
		if _, err := store.Append(ctx, es.AppendTo(s.stream, es.Any, messages...)); err != nil {
			return appended, fmt.Errorf("append to %q: %w", s.stream, err)
		}
		appended = append(appended, messages...)
	}
	return appended, nil
}

// describeStreams writes events with their streams.
func describeStreams(b *strings.Builder, what string, types *es.Types, all []StreamEvents) {
	fmt.Fprintf(b, "%s %s\n", what, count(total(all), "event"))
	const most = 20
	left := most
	for _, s := range all {
		for _, event := range s.events {
			if left--; left < 0 {
				fmt.Fprintf(b, "  and %d more\n", total(all)-most)
				return
			}
			if m, raw := event.(*es.Message); raw && m != nil {
				event = valueOf(types, m)
			}
			fmt.Fprintf(b, "  %s: %s\n", s.stream, compare.Clip(compare.Text(event)))
		}
	}
}

// total is how many events there are.
func total(all []StreamEvents) int {
	n := 0
	for _, s := range all {
		n += len(s.events)
	}
	return n
}

// unregistered stands for a message of which there is no Go type.
type unregistered struct {
	Name   string
	Schema int
	Data   []byte
}

// valueOf is what a message is compared as.
func valueOf(types *es.Types, m *es.Message) any {
	if types != nil {
		if v, err := types.Decode(m); err == nil {
			return v
		}
	}
	return unregistered{Name: m.Name, Schema: m.Schema, Data: m.Data}
}
