package index

import (
	"crypto/sha256"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Event is what the index has to know of an event.
type Event struct {
	Position, Version int64
	ID                uuid.UUID
	Stream, Name      string
	Tags              []string
}

// Kind says what the text of a [Key] is.
type Kind uint8

// What events are found by, beside their IDs.
const (
	KindStream Kind = iota + 1
	KindCategory
	KindName
	KindTag
)

// Key is what events are found by: an ID as it is, or 128 bits of the hash of a text with its kind.
//
// The hash is SHA-256, cut off. Names of streams and tags come from outside, and for a hash without cryptographic strength
// anybody can make two names with the same key, which would then be one stream.
type Key [16]byte

// KeyOf returns the key of a text.
func KeyOf(kind Kind, text string) Key {
	var room [1 + es.MaxNameBytes]byte
	input := append(append(room[:0], byte(kind)), text...)
	sum := sha256.Sum256(input)
	return Key(sum[:len(Key{})])
}

// Keys are the keys of one event, and its place. Only [Keys.Set] may change the keys.
type Keys struct {
	ID, Stream, Category, Name Key
	Tags                       []Key
	// Position and Version are not set by [Keys.Set]: they are known when the event gets its place.
	Position, Version int64

	stream, category, name string // whose keys are there
}

// Set makes k the keys of an event, without its place. It reuses the memory of k, and what it has of the event before; it needs no
// lock, so whoever appends does it before taking any.
func (k *Keys) Set(e *Event) {
	k.ID = Key(e.ID)
	k.stream = k.Stream.set(KindStream, e.Stream, k.stream)
	k.category = k.Category.set(KindCategory, es.Category(e.Stream), k.category)
	k.name = k.Name.set(KindName, e.Name, k.name)
	k.Tags = k.Tags[:0]
	for _, tag := range e.Tags {
		k.Tags = append(k.Tags, KeyOf(KindTag, tag))
	}
}

// set makes k the key of a text, and returns that. Often it is the one whose key it was before.
func (k *Key) set(kind Kind, text, before string) string {
	if text != before || text == "" {
		*k = KeyOf(kind, text)
	}
	return text
}
