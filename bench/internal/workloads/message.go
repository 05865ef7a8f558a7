package workloads

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The messages of all workloads are alike: 256 bytes of payload that begin with the message's number, one of 64 streams, and a
// correlation ID. Message i is of stream i modulo 64.
const (
	payloadBytes = 256
	streamCount  = 64
	topic        = "order"
	correlation  = "0198a1f0-0000-7000-8000-00000000c0de"
)

// newMessages makes messages that are used again and again, as [es.Publisher] and [es.EventStore] allow: making an ID and reading
// the clock cost more than most of what is measured here. Their number is a multiple of 64.
func newMessages(n int) []*es.Message {
	messages := make([]*es.Message, n)
	for i := range messages {
		m := es.NewMessage(fmt.Sprintf("%s-%d", topic, i%streamCount), "OrderPlaced", make([]byte, payloadBytes))
		m.ContentType = "application/octet-stream"
		m.CorrelationID = correlation
		messages[i] = m
	}
	return messages
}

// number makes m the i-th message: by its ID and in its payload.
func number(m *es.Message, i uint64) {
	binary.BigEndian.PutUint64(m.ID[8:], scatter(i))
	m.ID[8] = m.ID[8]&0x3f | 0x80 // the variant of RFC 9562
	putNumber(m.Data, i)
}

func putNumber(payload []byte, i uint64) { binary.BigEndian.PutUint64(payload, i) }

func numberOf(payload []byte) uint64 { return binary.BigEndian.Uint64(payload) }

// scatter makes the random part of the i-th ID, as unlike that of the next as a real one: SplitMix64 (Steele, Lea and Flood,
// "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014). It gives each i another value; the two bits that the variant
// takes can only make two of them alike once in far more messages than are sent here.
func scatter(i uint64) uint64 {
	i += 0x9e3779b97f4a7c15
	i = (i ^ i>>30) * 0xbf58476d1ce4e5b9
	i = (i ^ i>>27) * 0x94d049bb133111eb
	return i ^ i>>31
}

// idOf is the ID of the i-th message as text, which is what Watermill takes.
func idOf(i uint64) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], scatter(i))
	id[6], id[8] = 0x70, id[8]&0x3f|0x80
	return id.String()
}
