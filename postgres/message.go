package postgres

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// messageColumns are the columns that a message has in the event store and in the outbox. What is empty, and what is the default, is
// NULL.
const messageColumns = "id, stream, name, schema, time, correlation, causation, content_type, tags, metadata, data"

// messageRow is a message as it is in the columns messageColumns, to be written or read: pgx takes and fills its fields.
type messageRow struct {
	ID                                            uuid.UUID
	Stream, Name                                  string
	Schema                                        int32
	Time                                          int64
	Correlation, Causation, ContentType, Metadata *string
	Tags                                          []string
	Data                                          []byte
}

// rowOf returns a message, which is valid, as a row.
func rowOf(m *es.Message) messageRow {
	return messageRow{
		ID: m.ID, Stream: m.Stream, Name: m.Name, Schema: int32(m.Schema), Time: micros(m.Time), //nolint:gosec // a valid schema fits
		Correlation: unless(m.CorrelationID, ""), Causation: unless(m.CausationID, ""), ContentType: unless(m.ContentType, es.ContentTypeJSON),
		Metadata: unless(encodeMetadata(m.Metadata), ""), Tags: nilIfEmpty(m.Tags), Data: nilIfEmpty(m.Data),
	}
}

// fields returns where to scan the columns.
func (r *messageRow) fields() []any {
	return []any{&r.ID, &r.Stream, &r.Name, &r.Schema, &r.Time, &r.Correlation, &r.Causation, &r.ContentType, &r.Tags, &r.Metadata, &r.Data}
}

// message returns the message that is in a row.
func (r *messageRow) message() (*es.Message, error) {
	m := &es.Message{
		ID: r.ID, Stream: r.Stream, Name: r.Name, Schema: int(r.Schema), Time: timeAt(r.Time), CorrelationID: text(r.Correlation, ""),
		CausationID: text(r.Causation, ""), ContentType: text(r.ContentType, es.ContentTypeJSON), Tags: nilIfEmpty(r.Tags), Data: r.Data,
	}
	var err error
	if m.Metadata, err = decodeMetadata(text(r.Metadata, "")); err != nil {
		return nil, fmt.Errorf("message %s: %w", m.ID, err)
	}
	return m, nil
}

// unless returns a text, and nil for the one that NULL stands for.
func unless(text, null string) *string {
	if text == null {
		return nil
	}
	return &text
}

// text returns a text, or the one that NULL stands for.
func text(t *string, null string) string {
	if t == nil {
		return null
	}
	return *t
}

func nilIfEmpty[E any](s []E) []E {
	if len(s) == 0 {
		return nil
	}
	return s
}

// micros returns a time as it is stored, in microseconds since 1970.
func micros(t time.Time) int64 { return es.Timestamp(t).UnixMicro() }

// timeAt returns the time that is stored as a number, which micros has made.
func timeAt(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// encodeMetadata writes metadata as a JSON object, whose keys are sorted: the same metadata is the same text. It is empty when there is
// none.
func encodeMetadata(metadata map[string]string) string {
	if len(metadata) == 0 {
		return ""
	}
	var room [16]string // no allocation for as many
	keys, size := room[:0], len("{}")
	for key, value := range metadata {
		keys = append(keys, key)
		size += len(key) + len(value) + len(`"":"",`)
	}
	slices.Sort(keys)
	var b strings.Builder
	b.Grow(size)
	b.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		writeJSON(&b, key)
		b.WriteByte(':')
		writeJSON(&b, metadata[key])
	}
	b.WriteByte('}')
	return b.String()
}

// writeJSON writes a text, which is valid UTF-8, as JSON. What has to be escaped there are quotes, backslashes and control characters
// (RFC 8259, section 7).
func writeJSON(b *strings.Builder, text string) {
	const hex = "0123456789abcdef"
	b.WriteByte('"')
	written := 0
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' {
			b.WriteString(text[written:i])
			b.WriteString(`\u00`)
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
			written = i + 1
		}
	}
	b.WriteString(text[written:])
	b.WriteByte('"')
}
