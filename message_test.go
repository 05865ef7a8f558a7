package eventsourcing_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestNewMessageSetsWhatEveryMessageHas(t *testing.T) {
	t.Parallel()
	before := time.Now()
	m := es.NewMessage("order-7", "OrderPlaced", []byte(`{}`))
	if v := m.ID.Version(); v != 7 {
		t.Errorf("ID is a UUIDv%d, want a UUIDv7", v)
	}
	if m.Time.Location() != time.UTC || m.Time.Nanosecond()%1000 != 0 {
		t.Errorf("time %v is not UTC in microseconds", m.Time)
	}
	if m.Time.Before(before.Truncate(time.Microsecond)) || m.Time.After(time.Now()) {
		t.Errorf("time %v is not the present", m.Time)
	}
	if m.ContentType != es.ContentTypeJSON || m.Schema != 1 || m.Version != 0 || m.Position != 0 {
		t.Errorf("unexpected defaults: %+v", m)
	}
	if err := m.Validate(es.Limits{}); err != nil {
		t.Errorf("a new message is not valid: %v", err)
	}
	if later := es.NewMessage("order-7", "OrderPlaced", nil); later.ID.String() <= m.ID.String() {
		t.Errorf("ID %v does not come after %v", later.ID, m.ID)
	}
}

func TestCausedCarriesTheConversation(t *testing.T) {
	t.Parallel()
	first := es.NewMessage("order-7", "OrderPlaced", nil)
	second := es.NewMessage("payment-1", "PaymentAsked", nil)
	third := es.NewMessage("payment-1", "PaymentMade", nil)

	first.Caused(second)
	second.Caused(third)

	if second.CorrelationID != first.ID.String() || second.CausationID != first.ID.String() {
		t.Errorf("second: correlation %q, causation %q, want the first's ID for both", second.CorrelationID, second.CausationID)
	}
	if third.CorrelationID != first.ID.String() || third.CausationID != second.ID.String() {
		t.Errorf("third: correlation %q, causation %q", third.CorrelationID, third.CausationID)
	}
}

func TestDeriveIDIsStableAndTellsInputsApart(t *testing.T) {
	t.Parallel()
	input := es.NewID()
	id := es.DeriveID(input, "shipping", 0)
	if again := es.DeriveID(input, "shipping", 0); again != id {
		t.Errorf("the same input gave %v and %v", id, again)
	}
	if id.Version() != 8 || id.Variant() != uuid.RFC4122 {
		t.Errorf("%v is not a UUIDv8", id)
	}
	if [6]byte(id[:6]) != [6]byte(input[:6]) {
		t.Errorf("%v does not begin with the time of %v", id, input)
	}
	others := map[string]uuid.UUID{
		"index": es.DeriveID(input, "shipping", 1),
		"group": es.DeriveID(input, "billing", 0),
		"input": es.DeriveID(es.NewID(), "shipping", 0),
		"long":  es.DeriveID(input, strings.Repeat("g", 300), 0),
	}
	for what, other := range others {
		if other == id {
			t.Errorf("another %s gave the same ID", what)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	t.Parallel()
	m := es.NewMessage("order-7", "OrderPlaced", []byte("abc"))
	m.Tags = []string{"a"}
	m.Metadata = map[string]string{"k": "v"}
	c := m.Clone()
	c.Data[0], c.Tags[0], c.Metadata["k"] = 'x', "x", "x"
	if string(m.Data) != "abc" || m.Tags[0] != "a" || !maps.Equal(m.Metadata, map[string]string{"k": "v"}) {
		t.Errorf("changing the clone changed the original: %+v", m)
	}
}

func TestSameContent(t *testing.T) {
	t.Parallel()
	base := es.NewMessage("order-7", "OrderPlaced", []byte("abc"))
	base.Tags = []string{"a", "b"}
	same := map[string]func(*es.Message){
		"time":        func(m *es.Message) { m.Time = m.Time.Add(time.Hour) },
		"metadata":    func(m *es.Message) { m.Metadata = map[string]string{"traceparent": "x"} },
		"correlation": func(m *es.Message) { m.CorrelationID = "x" },
		"causation":   func(m *es.Message) { m.CausationID = "x" },
		"place":       func(m *es.Message) { m.Version, m.Position = 3, 4 },
	}
	other := map[string]func(*es.Message){
		"stream":       func(m *es.Message) { m.Stream = "order-8" },
		"name":         func(m *es.Message) { m.Name = "OrderLost" },
		"schema":       func(m *es.Message) { m.Schema = 2 },
		"content type": func(m *es.Message) { m.ContentType = "text/plain" },
		"tags":         func(m *es.Message) { m.Tags = []string{"b", "a"} },
		"data":         func(m *es.Message) { m.Data = []byte("abd") },
	}
	for what, change := range same {
		if m := base.Clone(); true {
			change(m)
			if !m.SameContent(base) {
				t.Errorf("another %s makes other content", what)
			}
		}
	}
	for what, change := range other {
		m := base.Clone()
		change(m)
		if m.SameContent(base) {
			t.Errorf("another %s is taken for the same content", what)
		}
	}
	empty, none := base.Clone(), base.Clone()
	empty.Tags, empty.Data, none.Tags, none.Data = []string{}, []byte{}, nil, nil
	if !empty.SameContent(none) {
		t.Error("empty and nil are told apart")
	}
}

func TestCategory(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string]string{
		"order-7": "order", "order-7-a": "order", "items.events": "items.events", "-7": "-7", "-": "-", "order-": "order",
	} {
		if got := es.Category(stream); got != want {
			t.Errorf("Category(%q) = %q, want %q", stream, got, want)
		}
	}
}

func FuzzCategoryOfAValidNameIsValid(f *testing.F) {
	for _, seed := range []string{"order-7", "-", "", "a\x00b", "\xff", "é-1", strings.Repeat("x", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if err := es.ValidateName("stream", name); err != nil {
			if !errors.Is(err, es.ErrInvalid) || !utf8.ValidString(err.Error()) {
				t.Fatalf("ValidateName(%q) = %v", name, err)
			}
			return
		}
		if err := es.ValidateName("topic", es.Category(name)); err != nil {
			t.Fatalf("%q is a valid stream, its category is not a valid topic: %v", name, err)
		}
	})
}

func TestValidateName(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "order-7", "items.events", "ünïcödé 🙂", strings.Repeat("x", 255)} {
		if err := es.ValidateName("stream", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, reason := range map[string]string{
		"": "empty", strings.Repeat("x", 256): "256 bytes", "a\nb": "control character", "a\x00b": "control character",
		"a\xffb": "UTF-8", "a\u0085b": "control character",
	} {
		err := es.ValidateName("stream", bad)
		if !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "stream") {
			t.Errorf("%q: %v, want ErrInvalid that speaks of %q", bad, err, reason)
		}
	}
}

// TestValidateNameLooksAtEachByte has one odd byte at each place of names of each length: they are looked at several at a time.
func TestValidateNameLooksAtEachByte(t *testing.T) {
	t.Parallel()
	const longest = 42
	for length := 1; length <= longest; length++ {
		for at := range length {
			for _, odd := range []byte{0, 1, 0x1f, ' ', '!', '~', 0x7f, 0x80, 0xc2, 0xff} {
				name := []byte(strings.Repeat("~", length))
				name[at] = odd
				good := ' ' <= odd && odd <= '~'
				if err := es.ValidateName("stream", string(name)); (err == nil) != good {
					t.Fatalf("%q: %v, want that it is good: %v", name, err, good)
				}
				m := es.NewMessage("a-1", "Noted", nil)
				m.CorrelationID = string(name)
				good = odd != 0 && odd < 0x80 // a text may have control characters but NUL
				if err := m.Validate(es.Limits{}); (err == nil) != good {
					t.Fatalf("correlation ID %q: %v, want that it is good: %v", name, err, good)
				}
			}
		}
	}
}

func TestMessageValidateSaysWhichFieldIsWrong(t *testing.T) {
	t.Parallel()
	limits := es.Limits{EventBytes: 8, MetadataBytes: 64, TagsPerEvent: 2}
	tests := map[string]struct {
		change func(*es.Message)
		reason string
	}{
		"no ID":              {func(m *es.Message) { m.ID = uuid.Nil }, "ID"},
		"no name":            {func(m *es.Message) { m.Name = "" }, "name"},
		"long name":          {func(m *es.Message) { m.Name = strings.Repeat("x", 256) }, "256 bytes"},
		"NUL in name":        {func(m *es.Message) { m.Name = "a\x00" }, "NUL"},
		"schema 0":           {func(m *es.Message) { m.Schema = 0 }, "schema"},
		"no stream":          {func(m *es.Message) { m.Stream = "" }, "stream"},
		"no time":            {func(m *es.Message) { m.Time = time.Time{} }, "time"},
		"year 10000":         {func(m *es.Message) { m.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "years"},
		"no content type":    {func(m *es.Message) { m.ContentType = "" }, "content type"},
		"bytes in tag":       {func(m *es.Message) { m.Tags = []string{"\xff"} }, "tag"},
		"empty tag":          {func(m *es.Message) { m.Tags = []string{""} }, "tag"},
		"tag twice":          {func(m *es.Message) { m.Tags = []string{"a", "a"} }, "twice"},
		"too many tags":      {func(m *es.Message) { m.Tags = []string{"a", "b", "c"} }, "at most 2"},
		"NUL in metadata":    {func(m *es.Message) { m.Metadata = map[string]string{"k": "\x00"} }, "metadata value"},
		"bytes in key":       {func(m *es.Message) { m.Metadata = map[string]string{"\xff": ""} }, "metadata key"},
		"too much metadata":  {func(m *es.Message) { m.Metadata = map[string]string{"k": strings.Repeat("x", 64)} }, "at most 64"},
		"bytes in causation": {func(m *es.Message) { m.CausationID = "\xff" }, "causation"},
		"too much data":      {func(m *es.Message) { m.Data = make([]byte, 9) }, "at most 8"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := es.NewMessage("order-7", "OrderPlaced", []byte("12345678"))
			if err := m.Validate(limits); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			test.change(m)
			err := m.Validate(limits)
			if !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("%v, want ErrInvalid that speaks of %q", err, test.reason)
			}
		})
	}
	var none *es.Message
	if err := none.Validate(limits); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("nil message: %v", err)
	}
}

func TestADeadLetterIsNeverTooLarge(t *testing.T) {
	t.Parallel()
	limits := es.Limits{EventBytes: 1 << 20, MetadataBytes: 64}
	m := es.NewMessage("order-7", "OrderPlaced", []byte(strings.Repeat("\xff", limits.EventBytes)))
	m.Metadata = map[string]string{"k": strings.Repeat("\x01", 40)}
	for i := range 64 {
		m.Tags = append(m.Tags, strings.Repeat("\x01", 200)+string(rune('A'+i)))
	}
	if err := m.Validate(limits); err != nil {
		t.Fatal(err)
	}
	d := &es.Delivery{Message: m, Topic: "order", Group: "g", Attempt: 9}
	cause := &es.PanicError{Value: strings.Repeat("\x01", 1<<20), Stack: []byte(strings.Repeat("\x02", 1<<20))}
	dead, err := es.NewDeadLetter("dead", "handler", d, cause)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Validate(limits); err != nil {
		t.Errorf("the dead letter of a message that was taken is turned down: %v", err)
	}
}
