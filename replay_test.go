package eventsourcing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestReplayBringsTheOriginalBack(t *testing.T) {
	t.Parallel()
	original := es.NewMessage("order-1", "OrderPlaced", []byte{0, 1, 0xff})
	original.Metadata = map[string]string{"tenant": "acme"}
	letter, err := es.NewDeadLetter("dead", "mailer", &es.Delivery{Message: original, Topic: "order", Group: "mailer", Attempt: 3}, errors.New("no"))
	if err != nil {
		t.Fatal(err)
	}
	var record es.DeadLetterRecord
	if err := json.Unmarshal(letter.Data, &record); err != nil {
		t.Fatal(err)
	}
	replay, err := es.NewReplay(letter.ID, record)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := es.NewReplay(letter.ID, record); again.ID != replay.ID || again.Stream != replay.Stream {
		t.Error("a replay that is repeated is another message")
	}
	if replay.Category() != es.ReplayTopic("order", "mailer") {
		t.Errorf("stream %q is not of the topic %q", replay.Stream, es.ReplayTopic("order", "mailer"))
	}
	if err := replay.Validate(es.Limits{}); err != nil {
		t.Error(err)
	}
	if replay.CorrelationID != original.ID.String() || replay.CausationID != letter.ID.String() {
		t.Errorf("the replay has correlation %q and causation %q", replay.CorrelationID, replay.CausationID)
	}
	back, err := es.ReadReplay(replay)
	if err != nil {
		t.Fatal(err)
	}
	m := back.Original.Message()
	if m.ID != original.ID || !bytes.Equal(m.Data, original.Data) || m.Metadata["tenant"] != "acme" || back.Group != "mailer" || back.Topic != "order" {
		t.Errorf("got back %+v of %+v", m, back)
	}
}

func TestReplayTopicTellsRoutesApart(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, r := range [][2]string{{"a", "b"}, {"a", "c"}, {"ab", ""}, {"", "ab"}, {"order-events", "mailer"}, {strings.Repeat("t", 255), strings.Repeat("g", 255)}} {
		topic := es.ReplayTopic(r[0], r[1])
		if err := es.ValidateName("topic", topic); err != nil || es.Category(topic+"-1") != topic {
			t.Errorf("topic %q of %v cannot be a category: %v", topic, r, err)
		}
		if other, taken := seen[topic]; taken {
			t.Errorf("%v and %s have the topic %q", r, other, topic)
		}
		seen[topic] = r[0] + "/" + r[1]
	}
}

func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	for name, record := range map[string]es.DeadLetterRecord{
		"that of a processor":         {Handler: "processor"},
		"what could not be decoded":   {Topic: "order", Group: "mailer", Original: es.RecordedMessage{Raw: []byte("x")}},
		"one without the topic alone": {Group: "mailer"},
	} {
		if _, err := es.NewReplay(uuid.New(), record); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	if _, err := es.ReadReplay(es.NewMessage("order-1", "OrderPlaced", nil)); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("a message of another name: got %v, want ErrInvalid", err)
	}
	broken := es.NewMessage("replay.x-1", es.ReplayName, []byte("{"))
	if _, err := es.ReadReplay(broken); err == nil {
		t.Error("a replay that cannot be decoded is no error")
	}
}

// TestReplayOfTheLargest: what was taken as a message and as a dead letter is taken as a replay.
func TestReplayOfTheLargest(t *testing.T) {
	t.Parallel()
	limits := es.Limits{EventBytes: 1000}
	original := es.NewMessage("order-1", "OrderPlaced", bytes.Repeat([]byte{0xff}, 1000))
	letter, err := es.NewDeadLetter("dead", "mailer", &es.Delivery{Message: original, Topic: "order", Group: "mailer", Attempt: 3},
		errors.New(strings.Repeat("<", 1<<16)))
	if err != nil {
		t.Fatal(err)
	}
	var record es.DeadLetterRecord
	if err := json.Unmarshal(letter.Data, &record); err != nil {
		t.Fatal(err)
	}
	replay, err := es.NewReplay(letter.ID, record)
	if err != nil {
		t.Fatal(err)
	}
	if err := replay.Validate(limits); err != nil {
		t.Error(err)
	}
}
