package eventsourcing

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// ContentTypeJSON is the content type of a message's Data unless its maker says otherwise.
const ContentTypeJSON = "application/json"

// MetadataErased is the metadata key that an erased event carries; its value is the ID of the audit event that says so.
// See [StreamEditor.Erase].
const MetadataErased = "es.erased"

// Message is one event, command or query, and what is known about it.
//
// A message that a store, an outbox or a subscription hands out is shared and must not be changed; [Message.Clone] gives a
// private copy. Stores and publishers copy what they keep, so a caller may reuse its own message, and the bytes of Data, as
// soon as the call returns. For Tags, Metadata and Data, nil and empty mean the same.
type Message struct {
	// ID is identity and idempotency key: a UUIDv7 unless its maker sets another.
	ID uuid.UUID
	// Name says what happened, such as "ItemAdded". It is the name on the wire, not that of a Go type.
	Name string
	// Schema is the version of Data's schema under that name, from 1.
	Schema int
	// Stream is what the message belongs to, such as "order-7". See [Category].
	Stream string
	// Version is the place in the stream, from 1; 0 until appended.
	Version int64
	// Position is the place in the store's global order, from 1; 0 until appended. Positions rise, with gaps.
	Position int64
	// Time is when it happened, by its maker: UTC, in microseconds, the precision that every backend keeps. A time that has
	// more comes back as [Timestamp] gives it, cut and not rounded.
	Time time.Time
	// Recorded is when the store took it, by the store's clock: UTC, in microseconds; zero until appended.
	Recorded time.Time
	// CorrelationID is shared by all the messages of one conversation.
	CorrelationID string
	// CausationID is the ID of the message that led to this one.
	CausationID string
	// Tags are for queries and conditions that cut across streams, such as "course:go-101".
	Tags []string
	// Metadata is what does not belong to what happened: tenant, user, traceparent.
	Metadata map[string]string
	// ContentType says how Data is encoded.
	ContentType string
	// Data is the encoded payload. Backends keep it byte for byte.
	Data []byte
}

// NewMessage makes a message for a stream, with a new UUIDv7, the present time, schema 1 and JSON as its content type. The
// caller may change any field before handing the message over.
func NewMessage(stream, name string, data []byte) *Message {
	return &Message{
		ID:          NewID(),
		Name:        name,
		Schema:      1,
		Stream:      stream,
		Time:        Timestamp(time.Now()),
		ContentType: ContentTypeJSON,
		Data:        data,
	}
}

// NewID returns a new UUIDv7 (RFC 9562): unique, and rising with time, which keeps the indexes of a database small.
func NewID() uuid.UUID {
	return uuid.Must(uuid.NewV7())
}

// Timestamp brings a time to what every backend keeps: UTC, in microseconds, without a monotonic clock reading.
func Timestamp(t time.Time) time.Time {
	return t.UTC().Truncate(time.Microsecond)
}

// DeriveID gives the ID of the index-th message that a consumer group made from an input. The same input, group and index
// always give the same ID, so that a redelivered input does not double its outputs; anything else gives another one. It is a
// UUIDv8 (RFC 9562) that begins with the first 48 bits of the input's ID: derived from a UUIDv7 it keeps rising with time.
func DeriveID(input uuid.UUID, group string, index int) uuid.UUID {
	var room [128]byte
	key := append(room[:0], input[:]...)
	key = binary.BigEndian.AppendUint64(key, uint64(index)) //nolint:gosec // only has to be one-to-one
	key = append(key, group...)
	sum := sha256.Sum256(key)
	var id uuid.UUID
	copy(id[:6], input[:6])
	copy(id[6:], sum[:10])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Clone returns a private copy that shares nothing with the original.
func (m *Message) Clone() *Message {
	c := *m
	c.Tags = slices.Clone(m.Tags)
	c.Metadata = maps.Clone(m.Metadata)
	c.Data = bytes.Clone(m.Data)
	return &c
}

// Caused makes next the consequences of m: each gets m's correlation ID (or m's ID, when m starts the conversation) and m's
// ID as its causation. It sets these two fields of the given messages, whatever they held, and returns the messages.
func (m *Message) Caused(next ...*Message) []*Message {
	id := m.ID.String()
	correlation := m.CorrelationID
	if correlation == "" {
		correlation = id
	}
	for _, n := range next {
		n.CorrelationID = correlation
		n.CausationID = id
	}
	return next
}

// Category is the kind of stream that m belongs to; see [Category].
func (m *Message) Category() string { return Category(m.Stream) }

// Erased tells whether the Data and Metadata of a stored event have been removed; see [StreamEditor].Erase.
func (m *Message) Erased() bool {
	_, erased := m.Metadata[MetadataErased]
	return erased
}

// SameContent tells whether two messages say the same thing: stream, name, schema, content type, tags and data. An event
// store uses it to tell an append that is repeated from another message under an ID that is taken ([ErrDuplicate]).
//
// What is left out differs, rightly, between two attempts at the same work: Time, Metadata (a trace), correlation and
// causation, and what the store itself sets.
func (m *Message) SameContent(other *Message) bool {
	return m.Stream == other.Stream && m.Name == other.Name && m.Schema == other.Schema &&
		m.ContentType == other.ContentType && slices.Equal(m.Tags, other.Tags) && bytes.Equal(m.Data, other.Data)
}
