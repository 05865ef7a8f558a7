package eventsourcing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// MaxNameBytes is the longest stream, topic, group, model, lease or tag name, and the longest message name, in bytes.
const MaxNameBytes = 255

// Category returns the kind of a stream, which is also the topic its messages are published to: what stands before the first
// "-", so "order" for "order-7". A name without "-", or that begins with it, is its own category, so that every valid stream
// name has a valid category.
func Category(stream string) string {
	if i := strings.IndexByte(stream, '-'); i > 0 {
		return stream[:i]
	}
	return stream
}

// ValidateName checks the name of a stream, topic, group, model or lease: 1 to [MaxNameBytes] bytes of UTF-8 without
// control characters. The kind ("stream", "topic") is for the message of the [*InvalidError] that it returns.
func ValidateName(kind, name string) error {
	switch {
	case name == "":
		return Invalidf(kind, "is empty; it takes 1 to %d bytes", MaxNameBytes)
	case len(name) > MaxNameBytes:
		return Invalidf(kind, "has %d bytes; at most %d are allowed", len(name), MaxNameBytes)
	case printable(name):
		return nil
	case !utf8.ValidString(name):
		return Invalidf(kind, "%q is not valid UTF-8", name)
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return Invalidf(kind, "%q has the control character %U", name, r)
		}
	}
	return nil
}

// printable tells whether a text is of printable ASCII, as most names are: a look at its bytes, eight at a time, then says all
// about it. The last eight are looked at first, so that nothing is left over in the end.
func printable(text string) bool {
	if len(text) < 8 {
		return printableShort(text)
	}
	marks := oddMarks(text[len(text)-8:])
	for ; len(text) > 16; text = text[16:] {
		marks |= oddMarks(text) | oddMarks(text[8:])
	}
	if len(text) > 8 {
		marks |= oddMarks(text)
	}
	return marks == 0
}

// printableShort is printable for less than eight bytes.
func printableShort(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// oddMarks is 0 when the first eight bytes of a text are printable ASCII. A byte has its highest bit set in one of the three sums
// when it is above 0x7f, or is 0x7f, or is below a space. What is carried from byte to byte makes no difference: it comes from a
// byte that has told already.
func oddMarks(text string) uint64 {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	_ = text[7] // the compiler makes one load of the eight
	eight := uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
		uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
	return (eight | (eight + ones) | (eight - ones*' ')) & high
}

// Limits are the largest sizes that a backend takes. Larger input is [ErrInvalid], before anything is written.
// A zero field means the default.
type Limits struct {
	// EventBytes is the largest Data of one message, in bytes. The default is 16 MiB. A dead letter may be larger by what it
	// takes to have a message of that size in it.
	EventBytes int
	// EventsPerAppend is the largest number of events in one append, over all its streams. The default is 10,000.
	EventsPerAppend int
	// MetadataBytes is the largest sum of the lengths of a message's metadata keys and values, correlation ID, causation ID
	// and content type, in bytes. The default is 64 KiB.
	MetadataBytes int
	// TagsPerEvent is the largest number of tags of one message. The default is 64.
	TagsPerEvent int
}

// WithDefaults returns l with the default in each field that is zero.
func (l Limits) WithDefaults() Limits {
	if l.EventBytes != 0 && l.EventsPerAppend != 0 && l.MetadataBytes != 0 && l.TagsPerEvent != 0 {
		return l // as all but the first time: each message is checked against them
	}
	return Limits{
		EventBytes:      cmp.Or(l.EventBytes, 16<<20),
		EventsPerAppend: cmp.Or(l.EventsPerAppend, 10_000),
		MetadataBytes:   cmp.Or(l.MetadataBytes, 64<<10),
		TagsPerEvent:    cmp.Or(l.TagsPerEvent, 64),
	}
}

// Validate checks a message against the rules that hold on every backend and against the limits of one. The error is an
// [*InvalidError] and says which field is wrong and what would be right.
//
// Names, tags, metadata keys and values, and the IDs of correlation and causation are valid UTF-8 without NUL, because
// databases cannot hold anything else; Data may hold any bytes.
func (m *Message) Validate(l Limits) error {
	if m == nil {
		return Invalidf("message", "is nil")
	}
	l = l.WithDefaults()
	if m.ID == uuid.Nil {
		return Invalidf("message ID", "is missing; make messages with NewMessage, or set a UUIDv7")
	}
	if err := ValidateName("stream", m.Stream); err != nil {
		return err
	}
	if m.Schema < 1 {
		return Invalidf("message schema", "is %d; schema versions count from 1", m.Schema)
	}
	const year1, year10000 = -62135596800, 253402300800 // when they begin, in Unix time
	if s := m.Time.Unix(); m.Time.IsZero() || s < year1 || s >= year10000 {
		return Invalidf("message time", "is %v; it takes a time in the years 1 to 9999, and not the zero time", m.Time)
	}
	if err := m.validateTexts(); err != nil {
		return err
	}
	if len(m.Tags) > 0 {
		if err := m.validateTags(l); err != nil {
			return err
		}
	}
	if err := m.validateMetadata(l); err != nil {
		return err
	}
	if most := l.dataBytes(m); len(m.Data) > most {
		return Invalidf("message data", "has %d bytes; this store takes at most %d", len(m.Data), most)
	}
	return nil
}

// dataBytes is the largest Data that m may have. A dead letter, and its replay, have a whole message in them, in JSON and base64,
// and must never be turned down for their size where the message itself was taken.
func (l Limits) dataBytes(m *Message) int {
	if m.Name != DeadLetterName && m.Name != ReplayName {
		return l.EventBytes
	}
	const base64, escaped = 4.0 / 3, 6
	return int(float64(l.EventBytes)*base64) + escaped*(l.MetadataBytes+l.TagsPerEvent*MaxNameBytes) + deadLetterOverhead
}

func (m *Message) validateTexts() error {
	switch {
	case m.Name == "":
		return Invalidf("message name", "is empty; it says what happened, such as \"ItemAdded\"")
	case len(m.Name) > MaxNameBytes:
		return Invalidf("message name", "has %d bytes; at most %d are allowed", len(m.Name), MaxNameBytes)
	case m.ContentType == "":
		return Invalidf("message content type", "is empty; %q is the usual one", ContentTypeJSON)
	}
	if printable(m.Name) && printable(m.ContentType) && printable(m.CorrelationID) && printable(m.CausationID) {
		return nil // as it is most often
	}
	if err := validateText("message name", m.Name); err != nil {
		return err
	}
	if err := validateText("message content type", m.ContentType); err != nil {
		return err
	}
	if err := validateText("message correlation ID", m.CorrelationID); err != nil {
		return err
	}
	return validateText("message causation ID", m.CausationID)
}

func (m *Message) validateTags(l Limits) error {
	if len(m.Tags) > l.TagsPerEvent {
		return Invalidf("message tags", "are %d; this store takes at most %d", len(m.Tags), l.TagsPerEvent)
	}
	for i, tag := range m.Tags {
		if err := validateTag(tag); err != nil {
			return err
		}
		if slices.Contains(m.Tags[:i], tag) {
			return Invalidf("message tags", "hold %q twice", tag)
		}
	}
	return nil
}

func validateTag(tag string) error {
	if tag == "" || len(tag) > MaxNameBytes {
		return Invalidf("message tag", "has %d bytes; it takes 1 to %d", len(tag), MaxNameBytes)
	}
	return validateText("message tag", tag)
}

func (m *Message) validateMetadata(l Limits) error {
	size := len(m.CorrelationID) + len(m.CausationID) + len(m.ContentType)
	if len(m.Metadata) == 0 && size <= l.MetadataBytes { // as it is most often
		return nil
	}
	for key, value := range m.Metadata {
		if err := validateText("message metadata key", key); err != nil {
			return err
		}
		if err := validateText("message metadata value", value); err != nil {
			return err
		}
		size += len(key) + len(value)
	}
	most := l.MetadataBytes
	if m.Name == DeadLetterName { // as with its Data: it has what its maker gives it, and must never be turned down for that
		most += deadLetterCorrelation + 2*len(uuid.Nil.String()) + len(ContentTypeJSON)
	}
	if size > most {
		return Invalidf("message metadata", "has %d bytes; this store takes at most %d", size, most)
	}
	return nil
}

func validateText(what, text string) error {
	switch {
	case printable(text):
		return nil
	case !utf8.ValidString(text):
		return Invalidf(what, "%q is not valid UTF-8", shorten(text))
	case strings.IndexByte(text, 0) >= 0:
		return Invalidf(what, "%q has a NUL, which databases cannot hold", shorten(text))
	}
	return nil
}

// shorten keeps an error message readable when the text it quotes is long.
func shorten(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", text[:most], len(text))
}
