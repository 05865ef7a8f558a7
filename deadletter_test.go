package eventsourcing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
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

// TestDeadLetterOfWhatCannotBeDecoded: whatever could be read of it, a store takes the dead letter; otherwise the message
// would come back for ever.
func TestDeadLetterOfWhatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	far := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, spoil := range map[string]func(m *es.Message){
		"nothing could be read":         func(m *es.Message) { *m = es.Message{} },
		"a time after the year 9999":    func(m *es.Message) { m.Time = far },
		"recorded after the year 9999":  func(m *es.Message) { m.Recorded = far },
		"a zone that is a day away":     func(m *es.Message) { m.Time = m.Time.In(time.FixedZone("far", 25*60*60)) },
		"a correlation that is no text": func(m *es.Message) { m.CorrelationID = "\xff" },
		"a correlation with a NUL":      func(m *es.Message) { m.CorrelationID = "a\x00b" },
		"a long correlation":            func(m *es.Message) { m.CorrelationID = strings.Repeat("c", 1<<20) },
		"names that are no text":        func(m *es.Message) { m.Name, m.Stream, m.Tags = "\xff", "\x00", []string{"\xff"} },
	} {
		m := es.NewMessage("order-7", "OrderPlaced", nil)
		spoil(m)
		d := &es.Delivery{Message: m, Topic: "order", Group: "g", Attempt: 1, Err: errors.New("garbled"), Raw: []byte("\xffraw")}
		dead, err := es.NewDeadLetter("dead", "ship", d, d.Err)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := dead.Validate(es.Limits{}); err != nil {
			t.Errorf("%s: no store takes the dead letter: %v", name, err)
		}
		var record es.DeadLetterRecord
		if err := json.Unmarshal(dead.Data, &record); err != nil || string(record.Original.Raw) != "\xffraw" {
			t.Errorf("%s: the bytes are lost: %v", name, err)
		}
	}
}

// TestDeadLetterOfTheLongestCorrelation: what was taken with the longest correlation ID has a dead letter that is taken.
func TestDeadLetterOfTheLongestCorrelation(t *testing.T) {
	t.Parallel()
	var l es.Limits
	m := es.NewMessage("order-7", "OrderPlaced", nil)
	m.CorrelationID = strings.Repeat("c", l.WithDefaults().MetadataBytes-len(m.ContentType))
	if err := m.Validate(l); err != nil {
		t.Fatal(err)
	}
	dead, err := es.NewDeadLetter("dead", "ship", &es.Delivery{Message: m, Attempt: 1}, errors.New("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Validate(l); err != nil {
		t.Errorf("no store takes the dead letter: %v", err)
	}
}
