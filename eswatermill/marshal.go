package eswatermill

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Marshaler turns messages into Watermill's and back. [Headers] is the one that is used unless another is named.
type Marshaler interface {
	// Marshal makes a Watermill message, which shares nothing with m.
	Marshal(topic string, m *es.Message) (*message.Message, error)
	// Unmarshal makes a message of a Watermill message that came from a topic, sharing nothing with it. An error makes it a
	// delivery that cannot be decoded.
	Unmarshal(topic string, w *message.Message) (*es.Message, error)
}

// The metadata under which [Headers] keeps the fields of a message. HeaderCorrelationID is that of Watermill's own middleware, and
// HeaderName that of its CQRS component.
const (
	HeaderName          = "name"
	HeaderCorrelationID = "correlation_id"
	HeaderCausationID   = "es_causation_id"
	HeaderStream        = "es_stream"
	HeaderVersion       = "es_version"
	HeaderPosition      = "es_position"
	HeaderSchema        = "es_schema"
	HeaderTime          = "es_time"
	HeaderRecorded      = "es_recorded"
	HeaderTags          = "es_tags" // joined by line feeds
	HeaderContentType   = "es_content_type"
)

// Headers keeps the payload as it is and everything else in the metadata of a Watermill message, under the Header names. What
// comes from programs that do not know them is understood as far as it goes: its UUID is the ID when it is one, and an ID is
// derived from it when it is not; the name is DefaultName, the stream the topic, and the time that of its arrival. The zero value
// is ready to use.
type Headers struct {
	// DefaultName is the name of a message that has none in its metadata; the topic by default.
	DefaultName string
}

// Marshal implements [Marshaler].
func (Headers) Marshal(_ string, m *es.Message) (*message.Message, error) {
	w := message.NewMessage(m.ID.String(), append(message.Payload(nil), m.Data...))
	maps.Copy(w.Metadata, m.Metadata)
	set := func(key, value string) {
		if value != "" {
			w.Metadata.Set(key, value)
		}
	}
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	set(HeaderName, m.Name)
	set(HeaderCorrelationID, m.CorrelationID)
	set(HeaderCausationID, m.CausationID)
	set(HeaderStream, m.Stream)
	set(HeaderVersion, number(m.Version))
	set(HeaderPosition, number(m.Position))
	set(HeaderSchema, number(int64(m.Schema)))
	set(HeaderTime, moment(m.Time))
	set(HeaderRecorded, moment(m.Recorded))
	set(HeaderTags, strings.Join(m.Tags, "\n"))
	set(HeaderContentType, m.ContentType)
	return w, nil
}

// Unmarshal implements [Marshaler].
func (h Headers) Unmarshal(topic string, w *message.Message) (*es.Message, error) {
	r := headerReader{rest: maps.Clone(map[string]string(w.Metadata))}
	m := &es.Message{
		ID:            idOf(topic, w),
		Name:          r.text(HeaderName, h.DefaultName, topic),
		Stream:        r.text(HeaderStream, topic),
		CorrelationID: r.text(HeaderCorrelationID),
		CausationID:   r.text(HeaderCausationID),
		ContentType:   r.text(HeaderContentType, es.ContentTypeJSON),
		Version:       r.number(HeaderVersion, 0),
		Position:      r.number(HeaderPosition, 0),
		Schema:        int(r.number(HeaderSchema, 1)),
		Time:          r.moment(HeaderTime, time.Now()),
		Recorded:      r.moment(HeaderRecorded, time.Time{}),
		Data:          append([]byte(nil), w.Payload...),
	}
	if tags := r.text(HeaderTags); tags != "" {
		m.Tags = strings.Split(tags, "\n")
	}
	if len(r.rest) > 0 {
		m.Metadata = r.rest
	}
	return m, r.err
}

// foreignIDs is the namespace of the IDs that are derived from Watermill's where these are no UUIDs.
var foreignIDs = uuid.MustParse("0c0d1a52-6f63-5f0e-9a0b-6d1f2f6f7a11") //nolint:gochecknoglobals // a constant

// idOf returns the ID of a Watermill message. They may be any text, such as a ULID, or empty.
func idOf(topic string, w *message.Message) uuid.UUID {
	if id, err := uuid.Parse(w.UUID); err == nil && id != uuid.Nil {
		return id
	}
	if w.UUID == "" {
		return es.NewID()
	}
	return uuid.NewSHA1(foreignIDs, []byte(topic+"\x00"+w.UUID))
}

// headerReader takes our fields out of metadata, and leaves the rest.
type headerReader struct {
	rest map[string]string
	err  error
}

// text returns a value, or else the first of others that is not empty.
func (r *headerReader) text(key string, others ...string) string {
	value := r.rest[key]
	delete(r.rest, key)
	for _, other := range others {
		if value != "" {
			break
		}
		value = other
	}
	return value
}

func (r *headerReader) number(key string, otherwise int64) int64 {
	text := r.text(key)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("metadata %s is %q; it takes a number", key, text)
	}
	return n
}

func (r *headerReader) moment(key string, otherwise time.Time) time.Time {
	text := r.text(key)
	if text == "" {
		if otherwise.IsZero() {
			return otherwise
		}
		return es.Timestamp(otherwise)
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("metadata %s is %q; it takes a time such as 2006-01-02T15:04:05Z", key, text)
	}
	return t
}
