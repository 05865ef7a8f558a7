package estest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Hop is something that takes messages and gives them back: an event store, an outbox, a publisher with a subscriber. It is how
// [RunMessage] sees a role. [EventHop], [OutboxHop] and [PubSubHop] make a harness of hops out of that of a role.
type Hop interface {
	// Put hands messages over, and returns the error of the role.
	Put(ctx context.Context, msgs ...*es.Message) error
	// Take waits until it has n messages that were put and not taken before, and returns them: those of one stream in order.
	Take(ctx context.Context, n int) ([]*es.Message, error)
}

// RunMessage holds a hop to what is promised of messages, M2, M3 and M5: that they survive it. What M1 and M4 promise is in the
// root package, where no implementation can break it.
func RunMessage(t *testing.T, h Harness[Hop]) {
	t.Helper()
	run(t, h, MessageLines())
}

// MessageLines returns the tests of [RunMessage], one by one.
func MessageLines() []Line[Harness[Hop]] {
	return []Line[Harness[Hop]]{
		onHop("M2", "all_fields_survive", allFieldsSurvive),
		onHop("M2", "any_bytes_survive", anyBytesSurvive),
		onHop("M2", "a_mebibyte_survives", mebibyteSurvives),
		onHop("M2", "any_text_survives", anyTextSurvives),
		onHop("M2", "what_is_not_text_is_invalid", notTextIsInvalid),
		onHop("M2", "broken_rules_are_invalid", brokenRulesAreInvalid),
		onHop("M2", "nil_and_empty_are_the_same", nilIsEmpty),
		onHop("M2", "times_are_utc_in_microseconds", timesInMicroseconds),
		onHop("M2", "order_survives", orderSurvives),
		onHop("M3", "any_stream_name_survives", anyStreamName),
		onHop("M3", "broken_stream_names_are_invalid", brokenStreamNames),
		{ID: "M3", Name: "M3/namespaces_are_apart", Run: namespacesAreApart},
		onHop("M5", "the_caller_may_reuse_its_message", callerMayReuse),
		onHop("M5", "the_callers_message_is_left_alone", callersMessageIsLeftAlone),
	}
}

// hopBench is a hop under test.
type hopBench struct {
	testing.TB

	ctx context.Context
	hop Hop
}

func onHop(id, name string, run func(b *hopBench)) Line[Harness[Hop]] {
	return Line[Harness[Hop]]{ID: id, Name: id + "/" + name, Run: func(t testing.TB, h Harness[Hop]) {
		t.Helper()
		run(&hopBench{TB: t, ctx: patient(t), hop: h.New(t).Open(t, Namespace)})
	}}
}

// put hands messages over, which must be taken.
func (b *hopBench) put(msgs ...*es.Message) {
	b.Helper()
	if err := b.hop.Put(b.ctx, msgs...); err != nil {
		b.Fatalf("put %d messages, the first of them %+v: %v", len(msgs), *msgs[0], err)
	}
}

// take takes n messages.
func (b *hopBench) take(n int) []*es.Message {
	b.Helper()
	msgs, err := b.hop.Take(b.ctx, n)
	if err != nil {
		b.Fatalf("take %d messages: %v (got %d)", n, err, len(msgs))
	}
	if len(msgs) != n {
		b.Fatalf("took %d messages, want %d", len(msgs), n)
	}
	return msgs
}

// passes hands a message over, takes it back and fails when it has changed.
func (b *hopBench) passes(what string, m *es.Message) *es.Message {
	b.Helper()
	want := m.Clone()
	if err := b.hop.Put(b.ctx, m); err != nil {
		b.Fatalf("put a message with %s: %v", what, err)
	}
	got := b.take(1)[0]
	if diff := differMessage(got, want); diff != "" {
		b.Fatalf("a message with %s: %s", what, diff)
	}
	return got
}

// invalid hands over a message that breaks a rule, alone and beside one that does not, and looks that nothing of it is there.
func (b *hopBench) invalid(what string, m *es.Message) {
	b.Helper()
	fine := made("fine-1", "Fine")
	for _, msgs := range [][]*es.Message{{m}, {fine, m}, {m, fine}} {
		if err := b.hop.Put(b.ctx, msgs...); !errors.Is(err, es.ErrInvalid) {
			b.Errorf("a message with %s gives %v; want ErrInvalid", what, err)
			return
		}
	}
	next := made("fine-1", "Next") // whatever had been written comes before it
	b.put(next)
	if got := b.take(1)[0]; got.ID != next.ID {
		b.Errorf("a message with %s was turned down, and all the same there is %q of %q", what, got.Name, got.Stream)
	}
}

// full makes a message that has something in each field that is its maker's.
func full(stream string) *es.Message {
	m := es.NewMessage(stream, "OrderPlaced", []byte(`{"total": 12.50, "total": 12.5}`))
	m.Schema = 7
	m.Time = time.Date(2024, 2, 29, 23, 59, 59, 999_999_000, time.UTC)
	m.CorrelationID, m.CausationID = "01890a5d-ac96-774b-bcce-b302099a8057", "cause: not even a UUID"
	m.Tags = []string{"zebra", "course:go-101", "apple"}
	m.Metadata = map[string]string{"tenant": "t1", "user": "ada", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	m.ContentType = "application/vnd.shop.order+json; charset=utf-8"
	return m
}

func allFieldsSurvive(b *hopBench) {
	b.passes("all fields set", full("order-1"))
	bare := es.NewMessage("order-1", "Bare", nil)
	bare.Schema = 1<<31 - 1
	b.passes("hardly any field set", bare)
	other := full("order-1")
	other.ID = [16]byte{0xff, 1, 2, 3} // any ID will do, not only a UUIDv7
	b.passes("an ID that is no UUIDv7", other)
}

func anyBytesSurvive(b *hopBench) {
	every := make([]byte, 0, 512)
	for i := range 256 {
		every = append(every, byte(i), byte(255-i))
	}
	for what, data := range map[string][]byte{
		"every byte":            every,
		"a NUL":                 {0},
		"no UTF-8":              {0xff, 0xfe, 0xc0, 0x80, 0xed, 0xa0, 0x80},
		"a byte order mark":     {0xef, 0xbb, 0xbf, '{', '}'},
		"JSON in its own shape": []byte("{\"b\" : 1.0,\n\t\"a\":1e2, \"a\":\"\\u00e9\\/\", \"n\":123456789012345678901234567890}  \r\n"),
		"half of a JSON value":  []byte(`{"a":`),
		"blanks":                []byte(" \t\r\n "),
		"the word null":         []byte("null"),
		"quotes and escapes":    []byte(`'"\'\\"; -- \x00 %s $1 ?`),
	} {
		m := made("bytes-1", "Happened")
		m.Data = data
		b.passes("the data "+what, m)
	}
}

func mebibyteSurvives(b *hopBench) {
	m := made("large-1", "Large")
	m.Data = make([]byte, 1<<20)
	for i := range m.Data { // neither compressible nor text
		m.Data[i] = byte(i*i>>7 ^ i>>11 ^ i)
	}
	b.passes("a mebibyte of data", m)
	b.passes("little data after much", made("large-1", "Small"))
}

// texts are valid UTF-8 without NUL, which is all that is asked of names, tags and metadata.
func texts() []string {
	return []string{
		" ", "  leading and trailing  ", "\t\n\r\x01\x1f\x7f\u0085", "é", "e\u0301", "Ω≈ç√", "\u65e5\u672c\u8a9e", "עברית",
		"\u202eright to left", "👩‍👩‍👧", "\U0010FFFF", "\u2028\u2029", "\ufeff", "\ufffd", "\u200b", `"quoted"`, `'single'`,
		`back\slash`, "a,b;c|d", "{a}", "[1]", "%d%s", "$1", "?", "a=b&c", "<b>",
		"null", "NULL", "true", "0", "--", "/* */", "../..", "a\u00a0b", "ﬀ", "İı", "__proto__",
	}
}

func anyTextSurvives(b *hopBench) {
	for _, text := range texts() {
		m := made("text-1", text, text, "other"+text)
		m.CorrelationID, m.CausationID, m.ContentType = text, text+text, "text/"+text
		m.Metadata = map[string]string{text: text, "key": text, "other" + text: "value", "empty": ""}
		b.passes(fmt.Sprintf("the text %q", text), m)
	}
	long := made("text-1", longText(es.MaxNameBytes), longText(es.MaxNameBytes))
	long.Metadata = map[string]string{"": "under an empty key", longText(1000): longText(10_000)}
	b.passes("long texts", long)
}

// longText makes n bytes of text in which a character has several.
func longText(n int) string {
	text := bytes.Repeat([]byte("é"), n/2)
	if n%2 == 1 {
		text = append(text, 'x')
	}
	return string(text)
}

func notTextIsInvalid(b *hopBench) {
	for _, text := range []string{"nul\x00", "\x00", "\xff", "cut off \xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80"} {
		for what, set := range map[string]func(m *es.Message){
			"name":           func(m *es.Message) { m.Name = text },
			"tag":            func(m *es.Message) { m.Tags = []string{"fine", text} },
			"metadata key":   func(m *es.Message) { m.Metadata = map[string]string{"fine": "fine", text: "fine"} },
			"metadata value": func(m *es.Message) { m.Metadata = map[string]string{"fine": text} },
			"correlation ID": func(m *es.Message) { m.CorrelationID = text },
			"causation ID":   func(m *es.Message) { m.CausationID = text },
			"content type":   func(m *es.Message) { m.ContentType = text },
		} {
			m := made("text-1", "Happened")
			set(m)
			b.invalid(fmt.Sprintf("the %s %q", what, text), m)
		}
	}
}

func brokenRulesAreInvalid(b *hopBench) {
	for what, set := range map[string]func(m *es.Message){
		"no ID":               func(m *es.Message) { m.ID = [16]byte{} },
		"no name":             func(m *es.Message) { m.Name = "" },
		"a name too long":     func(m *es.Message) { m.Name = longText(es.MaxNameBytes + 1) },
		"schema 0":            func(m *es.Message) { m.Schema = 0 },
		"a negative schema":   func(m *es.Message) { m.Schema = -1 },
		"no time":             func(m *es.Message) { m.Time = time.Time{} },
		"the year 10000":      func(m *es.Message) { m.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a year before 1":     func(m *es.Message) { m.Time = time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC) },
		"no content type":     func(m *es.Message) { m.ContentType = "" },
		"an empty tag":        func(m *es.Message) { m.Tags = []string{"fine", ""} },
		"a tag too long":      func(m *es.Message) { m.Tags = []string{longText(es.MaxNameBytes + 1)} },
		"a tag that is twice": func(m *es.Message) { m.Tags = []string{"a", "b", "a"} },
	} {
		m := made("rules-1", "Happened")
		set(m)
		b.invalid(what, m)
	}
}

func nilIsEmpty(b *hopBench) {
	none, empty := made("empty-1", "Happened"), made("empty-1", "Happened")
	none.Tags, none.Metadata, none.Data = nil, nil, nil
	empty.Tags, empty.Metadata, empty.Data = []string{}, map[string]string{}, []byte{}
	for what, m := range map[string]*es.Message{"nil": none, "empty": empty} {
		got := b.passes("tags, metadata and data that are "+what, m)
		if len(got.Tags) != 0 || len(got.Metadata) != 0 || len(got.Data) != 0 {
			b.Errorf("tags, metadata and data that were %s come back as %v, %v, %v", what, got.Tags, got.Metadata, got.Data)
		}
	}
}

func timesInMicroseconds(b *hopBench) {
	zone := time.FixedZone("elsewhere", 5*3600+45*60)
	for _, at := range []time.Time{
		time.Date(2024, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(2024, 3, 1, 0, 0, 0, 1000, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC),
		time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(1583, 1, 1, 12, 0, 0, 123_456_000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(2024, 7, 1, 3, 0, 0, 123_456_000, zone),
		time.Date(2024, 7, 1, 3, 0, 0, 123_456_789, time.UTC), // cut, and not rounded up
		time.Date(2024, 7, 1, 3, 0, 0, 999_999_999, zone),
		time.Now(), // with a monotonic reading
	} {
		m := made("time-1", "Happened")
		m.Time = at
		b.put(m)
		got := b.take(1)[0].Time
		if want := es.Timestamp(at); !got.Equal(want) || got.Location() != time.UTC {
			b.Errorf("the time %v comes back as %v; want %v", at, got, want)
		}
	}
}

func orderSurvives(b *hopBench) {
	const n = 100
	events := some("order-1", n)
	b.put(events[:1]...)
	b.put(events[1:40]...)
	b.put(events[40:]...)
	for i, m := range b.take(n) {
		if m.ID != events[i].ID {
			at := slices.IndexFunc(events, func(e *es.Message) bool { return e.ID == m.ID })
			b.Fatalf("message %d of the stream comes in place %d", at, i)
		}
	}
}

func anyStreamName(b *hopBench) {
	names := []string{
		"a", "-", "--", "-a", "a-", "a-b-c", "order-7", "ORDER-7", "order-07", "é-1", "e\u0301-1", "\u65e5\u672c\u8a9e-1", "👩‍👩‍👧",
		"a b", " a", "a ", "a/b", "..", "a.b.c", "a*", "a%", "a_b",
		`a"b`, "a'b", `a\b`, "$all", "*", ">", "null", "0", longText(es.MaxNameBytes - 1), longText(es.MaxNameBytes),
	}
	for _, name := range names {
		b.passes(fmt.Sprintf("the stream %q", name), made(name, "Happened"))
	}
}

func brokenStreamNames(b *hopBench) {
	for _, name := range []string{
		"", longText(es.MaxNameBytes + 1), "nul\x00", "\xff", "cut off \xc3", "line\nbreak", "tab\t", "\x7f", "c1\u0085", "\x1b[0m",
	} {
		b.invalid(fmt.Sprintf("the stream %q", name), made(name, "Happened"))
	}
}

func namespacesAreApart(t testing.TB, h Harness[Hop]) {
	t.Helper()
	if !h.Namespaces() {
		t.Skip("not promised: this takes several namespaces in one storage")
	}
	storage := h.New(t)
	names := []string{Namespace, Namespace + "2", "Estest", "other"}
	benches := make([]*hopBench, len(names))
	for i, name := range names {
		benches[i] = &hopBench{TB: t, ctx: patient(t), hop: storage.Open(t, name)}
	}
	shared := made("shared-1", "Happened") // the same message, and so the same ID, in each of them
	own := make([]*es.Message, len(names))
	for i, b := range benches {
		own[i] = made("shared-1", fmt.Sprintf("Own%d", i))
		b.put(shared)
		b.put(own[i])
	}
	for i, b := range benches {
		got := b.take(2)
		if got[0].ID != shared.ID || got[1].ID != own[i].ID {
			b.Fatalf("namespace %q gives %q and %q; want what was put into it", names[i], got[0].Name, got[1].Name)
		}
		next := made("shared-1", "Next")
		b.put(next)
		if got := b.take(1)[0]; got.ID != next.ID {
			b.Fatalf("namespace %q has %q of another namespace", names[i], got.Name)
		}
	}
}

func callerMayReuse(b *hopBench) {
	first, second := full("reuse-1"), full("reuse-1")
	want := []*es.Message{first.Clone(), second.Clone()}
	b.put(first, second)
	for _, m := range []*es.Message{first, second} { // overwritten in place: the fields, and what they point to
		for i := range m.Data {
			m.Data[i] = 'X'
		}
		for i := range m.Tags {
			m.Tags[i] = "overwritten"
		}
		for key := range m.Metadata {
			m.Metadata[key] = "overwritten"
		}
		m.Metadata["more"] = "added"
		m.ID, m.Name, m.Stream, m.Schema = es.NewID(), "Overwritten", "overwritten-1", 99
		m.Time, m.CorrelationID, m.CausationID, m.ContentType = time.Now(), "overwritten", "overwritten", "overwritten"
	}
	for i, got := range b.take(2) {
		if diff := differMessage(got, want[i]); diff != "" {
			b.Errorf("message %d, whose maker reused it: %s", i, diff)
		}
	}
}

func callersMessageIsLeftAlone(b *hopBench) {
	m := full("alone-1")
	m.Tags = slices.Grow(m.Tags, 10)
	m.Version, m.Position = 5, 50
	want := m.Clone()
	b.put(m)
	b.take(1)
	if m.Version != want.Version || m.Position != want.Position || !m.Recorded.Equal(want.Recorded) {
		b.Fatalf("the message that was handed over is changed to %+v", *m)
	}
	if diff := differMessage(m, want); diff != "" {
		b.Fatalf("the message that was handed over is changed: %s", diff)
	}
}
