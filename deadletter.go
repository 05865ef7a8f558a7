package eventsourcing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The longest error text and stack that a dead letter keeps, and the longest ID of correlation that it carries itself, in
// bytes, and what it takes at most beside the message in it.
const (
	deadLetterError       = 16 << 10
	deadLetterStack       = 64 << 10
	deadLetterCorrelation = 1 << 10
	deadLetterOverhead    = 6 * (deadLetterError + deadLetterStack + 8*MaxNameBytes)
)

// DeadLetterName is the name of the messages in a dead stream.
const DeadLetterName = "DeadLetter"

// DeadLetterRecord is the payload of a message in the dead stream: what could not be handled, by whom, and why. It has
// everything that is needed to look at the original and to replay it to the route that failed.
type DeadLetterRecord struct {
	// Original is the message that failed, with its bytes.
	Original RecordedMessage `json:"original"`
	// Topic is where it was published, Group the consumer group and Handler the route that failed. A processor leaves Topic
	// and Group empty.
	Topic   string `json:"topic,omitempty"`
	Group   string `json:"group,omitempty"`
	Handler string `json:"handler"`
	// Error is the text of the last error, cut after 16 KiB; Stack is where it happened when it was a panic, cut after 64 KiB.
	Error string `json:"error"`
	Stack string `json:"stack,omitempty"`
	// Attempts is how often it was tried.
	Attempts int       `json:"attempts"`
	Time     time.Time `json:"time"`
}

// RecordedMessage is a [Message] as it stands inside a dead letter, in JSON.
type RecordedMessage struct {
	ID            uuid.UUID         `json:"id"`
	Name          string            `json:"name"`
	Schema        int               `json:"schema"`
	Stream        string            `json:"stream"`
	Version       int64             `json:"version,omitempty"`
	Position      int64             `json:"position,omitempty"`
	Time          time.Time         `json:"time"`
	Recorded      time.Time         `json:"recorded,omitzero"`
	CorrelationID string            `json:"correlationId,omitempty"`
	CausationID   string            `json:"causationId,omitempty"`
	Tags          []string          `json:"tags,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	ContentType   string            `json:"contentType"`
	Data          []byte            `json:"data,omitempty"` // in base64
	Raw           []byte            `json:"raw,omitempty"`  // in base64; what came when it could not be decoded
}

// Record puts a message into the shape that stands inside a dead letter.
func Record(m *Message) RecordedMessage {
	return RecordedMessage{
		ID: m.ID, Name: m.Name, Schema: m.Schema, Stream: m.Stream, Version: m.Version, Position: m.Position, Time: m.Time,
		Recorded: m.Recorded, CorrelationID: m.CorrelationID, CausationID: m.CausationID, Tags: m.Tags, Metadata: m.Metadata,
		ContentType: m.ContentType, Data: m.Data,
	}
}

// Message returns the message that was recorded.
func (r RecordedMessage) Message() *Message {
	m := &Message{
		ID: r.ID, Name: r.Name, Schema: r.Schema, Stream: r.Stream, Version: r.Version, Position: r.Position, Time: r.Time,
		Recorded: r.Recorded, CorrelationID: r.CorrelationID, CausationID: r.CausationID, Tags: r.Tags, Metadata: r.Metadata,
		ContentType: r.ContentType, Data: r.Data,
	}
	return m.Clone()
}

// NewDeadLetter makes the message for the dead stream out of a delivery that failed for good in a route. Its ID is derived
// from the original, the group and when the message was first handed to the group, or the attempt where that is not known: who
// crashes between sending it and acknowledging the original leaves one dead letter and not two, and a message that is replayed
// and fails again gets another. Its causation names the original.
func NewDeadLetter(stream, handler string, d *Delivery, cause error) (*Message, error) {
	record := DeadLetterRecord{
		Original: Record(d.Message),
		Topic:    d.Topic, Group: d.Group, Handler: handler, Attempts: d.Attempt,
	}
	original := d.ID
	if d.Err != nil {
		record.Original.Raw, record.Original.Data = d.Raw, nil
		record.Original.Time, record.Original.Recorded = readable(d.Time), readable(d.Recorded)
		if original == uuid.Nil { // what cannot be decoded may not even have an ID to tell it by
			original = uuid.NewSHA1(uuid.NameSpaceOID, d.Raw)
		}
	}
	round := int64(d.Attempt)
	if !d.First.IsZero() {
		round = d.First.UnixMicro()
	}
	id := DeriveID(original, "dead letter of route "+handler+" in group "+d.Group, int(round))
	return newDeadLetter(stream, record, id, cause, d.Message)
}

// NewDeadEntry makes the message for the dead stream out of an entry of the outbox that a processor gave up. Its ID is derived
// from the original and when that was enqueued or last replayed, with the same effect as that of [NewDeadLetter].
func NewDeadEntry(stream, processor string, e *Entry, cause error) (*Message, error) {
	record := DeadLetterRecord{Original: Record(e.Message), Handler: processor, Attempts: e.Attempt}
	id := DeriveID(e.ID, "dead letter of processor "+processor, int(e.Enqueued.UnixMicro()))
	return newDeadLetter(stream, record, id, cause, e.Message)
}

// ReadDeadLetters yields what is in a dead stream, the oldest first. An error, of the store or of a dead letter that cannot be
// decoded, ends it.
func ReadDeadLetters(ctx context.Context, store EventStore, stream string) iter.Seq2[DeadLetterRecord, error] {
	return func(yield func(DeadLetterRecord, error) bool) {
		for m, err := range store.Read(ctx, Query{Stream: stream, Names: []string{DeadLetterName}}) {
			var record DeadLetterRecord
			if err == nil {
				if err = json.Unmarshal(m.Data, &record); err != nil {
					err = fmt.Errorf("decode dead letter %s: %w", m.ID, err)
				}
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

func newDeadLetter(stream string, record DeadLetterRecord, id uuid.UUID, cause error, original *Message) (*Message, error) {
	if cause != nil {
		record.Error = cut(reason(cause), deadLetterError)
	}
	if panicked, ok := errors.AsType[*PanicError](cause); ok {
		record.Stack = cut(string(panicked.Stack), deadLetterStack)
	}
	record.Time = Timestamp(time.Now())
	data, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode dead letter of %s: %w", original.ID, err)
	}
	m := NewMessage(stream, DeadLetterName, data)
	m.ID = id
	if original.ID != uuid.Nil {
		original.Caused(m)
	}
	// An ID of correlation that no store takes, or that may leave no room for the rest, stands in the record alone.
	if len(m.CorrelationID) > deadLetterCorrelation || validateText("message correlation ID", m.CorrelationID) != nil {
		m.CorrelationID = ""
	}
	return m, nil
}

// reason is the text of an error without the word that steered the router, as "dead": that it is a dead letter is known.
func reason(cause error) string {
	if control, ok := cause.(*controlError); ok && control.err != nil { //nolint:errorlint // the outermost one and no other
		return control.err.Error()
	}
	return cause.Error()
}

// readable returns a time that was read of something broken, in a form that JSON can hold: the zero time where it cannot.
func readable(t time.Time) time.Time {
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return time.Time{}
	}
	return t.UTC()
}

// cut shortens a text to at most so many bytes of valid UTF-8.
func cut(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "")
}
