package eventsourcing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestDeadLetterHasEverythingAndTheOriginal(t *testing.T) {
	t.Parallel()
	m := es.NewMessage("order-7", "OrderPlaced", []byte{0, 1, 0xff})
	m.Tags, m.Metadata = []string{"a"}, map[string]string{"tenant": "t1"}
	m.Version, m.Position, m.CorrelationID = 3, 44, "conversation"
	d := &es.Delivery{Message: m, Topic: "order", Group: "shipping", Attempt: 5, First: time.Now()}

	dead, err := es.NewDeadLetter("dead", "ship", d, &es.PanicError{Value: "boom", Stack: []byte("main.go:7")})
	if err != nil {
		t.Fatal(err)
	}
	if dead.Stream != "dead" || dead.Name != es.DeadLetterName || dead.ID == m.ID {
		t.Errorf("unexpected envelope: %+v", dead)
	}
	if dead.CausationID != m.ID.String() || dead.CorrelationID != "conversation" {
		t.Errorf("it does not name the original: causation %q, correlation %q", dead.CausationID, dead.CorrelationID)
	}
	var record es.DeadLetterRecord
	if err := json.Unmarshal(dead.Data, &record); err != nil {
		t.Fatal(err)
	}
	if record.Topic != "order" || record.Group != "shipping" || record.Handler != "ship" || record.Attempts != 5 ||
		record.Error != "panic: boom" || record.Stack != "main.go:7" || record.Time.IsZero() {
		t.Errorf("unexpected record: %+v", record)
	}
	got := record.Original.Message()
	if !got.SameContent(m) || got.ID != m.ID || got.Version != 3 || got.Position != 44 || !got.Time.Equal(m.Time) ||
		got.CorrelationID != m.CorrelationID || !maps.Equal(got.Metadata, m.Metadata) || !slices.Equal(got.Tags, m.Tags) {
		t.Errorf("the original came back as %+v", got)
	}

	d.Attempt++ // it crashed before the acknowledgement, which counts as an attempt
	again, err := es.NewDeadLetter("dead", "ship", d, errors.New("x"))
	if err != nil {
		t.Fatal(err)
	}
	if again.ID != dead.ID {
		t.Error("sending it again would leave two dead letters")
	}
	d.First = d.First.Add(time.Hour) // it was replayed
	if later, err := es.NewDeadLetter("dead", "ship", d, errors.New("x")); err != nil || later.ID == dead.ID {
		t.Errorf("failing after a replay leaves no dead letter of its own: %v", err)
	}
}

func TestDeadLettersOfUndecodableMessagesAreToldApart(t *testing.T) {
	t.Parallel()
	make1 := func(raw string) *es.Message {
		d := &es.Delivery{Message: &es.Message{}, Topic: "order", Group: "g", Attempt: 1, Err: errors.New("bad"), Raw: []byte(raw)}
		m, err := es.NewDeadLetter("dead", "h", d, d.Err)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Validate(es.Limits{}); err != nil {
			t.Fatal(err)
		}
		var record es.DeadLetterRecord
		if err := json.Unmarshal(m.Data, &record); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(record.Original.Raw, []byte(raw)) {
			t.Errorf("raw bytes came back as %q", record.Original.Raw)
		}
		return m
	}
	if a, b := make1("\xff1"), make1("\xff2"); a.ID == b.ID || a.ID == uuid.Nil {
		t.Errorf("IDs %v and %v", a.ID, b.ID)
	}
}
