package eventsourcing

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
)

// ReplayName is the name of the messages by which dead letters come back to the route that failed. Their payload is the
// [DeadLetterRecord].
const ReplayName = "DeadLetterReplay"

// ReplayTopic is the topic on which a route, told by its topic and its group, gets dead letters back. No other route sees what is
// published there: what failed in one is not handled again by those that succeeded. The name is derived from both, so that it is
// short, and a category.
func ReplayTopic(topic, group string) string {
	return "replay." + digest(topic+"\x00"+group)
}

// digest is a short name for a text of any length.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:12])
}

// NewReplay makes the message that brings a dead letter back to its route. letter is the ID of the dead letter. The message's ID is
// derived from it, so that a replay that is repeated after a crash is the same message; its stream is one of the [ReplayTopic] that
// is the same for all originals of one stream, so that they keep their order.
//
// [ErrInvalid] for the letter of a processor, which has no group and whose entry is replayed by its outbox ([Outbox].Replay), and
// for a message that could not be decoded: it would fail in the same way.
func NewReplay(letter uuid.UUID, record DeadLetterRecord) (*Message, error) {
	switch {
	case record.Topic == "" || record.Group == "":
		return nil, Invalidf("replay", "of dead letter %s, which names no topic and group; that of a processor is replayed by its outbox",
			letter)
	case record.Original.Raw != nil:
		return nil, Invalidf("replay", "of dead letter %s, whose message could not be decoded and would fail again", letter)
	}
	data, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode replay of dead letter %s: %w", letter, err)
	}
	stream := ReplayTopic(record.Topic, record.Group) + "-" + digest(record.Original.Stream)
	m := NewMessage(stream, ReplayName, data)
	m.ID = DeriveID(letter, "replay", 0)
	m.CorrelationID, m.CausationID = record.Original.CorrelationID, letter.String()
	if m.CorrelationID == "" {
		m.CorrelationID = record.Original.ID.String()
	}
	if len(m.CorrelationID) > deadLetterCorrelation || validateText("message correlation ID", m.CorrelationID) != nil {
		m.CorrelationID = "" // as in the dead letter
	}
	return m, nil
}

// ReadReplay returns the dead letter that a message of [NewReplay] brings back.
func ReadReplay(m *Message) (DeadLetterRecord, error) {
	var record DeadLetterRecord
	if m.Name != ReplayName {
		return record, Invalidf("replay", "is a message named %q and not %q", m.Name, ReplayName)
	}
	if err := json.Unmarshal(m.Data, &record); err != nil {
		return record, fmt.Errorf("decode replay %s: %w", m.ID, err)
	}
	return record, nil
}
