package postgres

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Texts that take each other's places, and such as are too long to be kept or to share memory, are read as they stand there, again and
// again, and stay as they are.
func TestTextsAreReadAsTheyStandThere(t *testing.T) {
	t.Parallel()
	d := newDecoder()
	type read struct{ text, want string }
	var all []read
	for n := range 3000 {
		text := fmt.Sprint("text ", n%700)
		switch {
		case n%5 == 0:
			text = strings.Repeat("ü", n%300) // some of 255 bytes, 256 and more
		case n%7 == 0:
			text = strings.Repeat("x", n)
		}
		raw := []byte(text)
		all = append(all, read{d.texts.shared(raw), text}, read{d.texts.copied(raw), text}, read{string(d.bytes(raw)), text})
		want := map[string]string{"key": text}
		got, err := d.texts.decodeMetadata([]byte(encodeMetadata(want)))
		if err != nil || !maps.Equal(got, want) {
			t.Fatalf("%q was read as %q: %v", want, got, err)
		}
		clear(raw) // as the next row does
		if n%1000 == 999 {
			d.texts.forget()
		}
	}
	for _, r := range all {
		if r.text != r.want {
			t.Fatalf("%q was read as %q", r.want, r.text)
		}
	}
}

func TestDataOfMessagesIsApart(t *testing.T) {
	t.Parallel()
	d := newDecoder()
	first, second := d.bytes([]byte("first")), d.bytes([]byte("second"))
	if _ = append(first, "!!!"...); string(second) != "second" {
		t.Errorf("appending to one changes the other to %q", second)
	}
}

func TestTextsThatRepeatAreNotCopied(t *testing.T) {
	d := newDecoder()
	name, metadata := []byte("OrderPlaced"), []byte(`{"tenant":"tenant-1"}`)
	got := testing.AllocsPerRun(100, func() {
		d.texts.shared(name)
		if _, err := d.texts.decodeMetadata(metadata); err != nil {
			t.Error(err)
		}
	})
	if got > 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestMetadataIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	texts := []string{"", "a", `"`, `\`, `\"`, `","`, `":"`, "}", "{", "\u0000\u001f", "ü\u2028", `\u0041`, strings.Repeat(`"\`, 200)}
	for _, key := range texts {
		for _, value := range texts {
			want := map[string]string{key: value, "other" + value: key}
			got, err := decodeMetadata(encodeMetadata(want))
			if err != nil || !maps.Equal(got, want) {
				t.Fatalf("%q was read as %q: %v", want, got, err)
			}
		}
	}
	for _, text := range []string{"[]", "{", `{"a":1}`, `{"a":"b"`, `{"a":"b"}}`, `{"a","b"}`, "x"} {
		if got, err := decodeMetadata(text); err == nil {
			t.Errorf("%q was read as %q", text, got)
		}
	}
	if got, err := decodeMetadata(` { "a" : "b" } `); err != nil || !maps.Equal(got, map[string]string{"a": "b"}) {
		t.Errorf("an object with spaces was read as %q: %v", got, err)
	}
}

// encodeArray returns an array of texts as PostgreSQL sends it.
func encodeArray(tb testing.TB, elements []string) []byte {
	tb.Helper()
	raw, err := pgtype.NewMap().Encode(pgtype.TextArrayOID, pgtype.BinaryFormatCode, elements, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func TestArraysAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	d := newDecoder()
	var all [][2][]string
	for n := range 400 {
		var want []string
		for i := range n % 37 {
			want = append(want, strings.Repeat(strconv.Itoa(i), n%9*i))
		}
		got, err := d.textArray(encodeArray(t, want))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, [2][]string{got, want})
	}
	for _, r := range all {
		if !slices.Equal(r[0], r[1]) {
			t.Fatalf("%q was read as %q", r[1], r[0])
		}
	}
	if got, err := d.textArray(encodeArray(t, []string{})); err != nil || got != nil {
		t.Errorf("an empty array was read as %q: %v", got, err)
	}
}

// FuzzTextArray reads arrays that nobody has written: they are an error, or what they say.
func FuzzTextArray(f *testing.F) {
	for _, elements := range [][]string{nil, {}, {""}, {"a", "", "ü"}, {strings.Repeat("x", 300)}} {
		f.Add(encodeArray(f, elements))
	}
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x19\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff")) // a NULL
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := newDecoder()
		before := bytes.Clone(raw)
		tags, err := d.textArray(raw)
		if !bytes.Equal(raw, before) {
			t.Fatal("the row was changed")
		}
		if err != nil || tags == nil {
			return
		}
		size := 20
		for _, tag := range tags {
			size += 4 + len(tag)
		}
		if size != len(raw) {
			t.Fatalf("%q was read from %d bytes", tags, len(raw))
		}
		again, err := d.textArray(encodeArray(t, tags))
		if err != nil || !slices.Equal(again, tags) {
			t.Fatalf("%q was read as %q: %v", tags, again, err)
		}
	})
}

// A page is read with few allocations: those for pieces of memory that many messages share.
func TestEventsAreDecodedWithFewAllocations(t *testing.T) {
	d := newDecoder()
	number := func(n byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, n} }
	raw := make([][]byte, columnCount)
	for _, column := range []int{positionColumn, versionColumn, recordedColumn, timeColumn} {
		raw[column] = number(7)
	}
	raw[idColumn], raw[streamColumn], raw[nameColumn] = make([]byte, 16), []byte("order-7"), []byte("OrderPlaced")
	raw[schemaColumn], raw[metadataColumn] = []byte{0, 0, 0, 1}, []byte(`{"tenant":"tenant-1"}`)
	raw[tagsColumn], raw[dataColumn] = encodeArray(t, []string{"customer:7", "tenant:1"}), make([]byte, 256)
	raw[correlationColumn], raw[causationColumn] = make([]byte, 36), make([]byte, 36)
	rows := &oneRow{raw: raw}
	page := make([]*es.Message, 0, 1000)
	n := byte(0)
	got := testing.AllocsPerRun(10, func() {
		page = page[:0]
		for range 1000 {
			n++
			raw[correlationColumn][0], raw[causationColumn][0] = n, n
			rows.read = false
			var err error
			if page, _, err = d.events(rows, page); err != nil {
				t.Fatal(err)
			}
		}
	})
	if got > 100 {
		t.Errorf("%v allocations for 1000 events, want 100 at the most", got)
	}
	if m := page[999]; m.Version != 7 || m.Schema != 1 || m.Tags[1] != "tenant:1" || m.Metadata["tenant"] != "tenant-1" ||
		m.ContentType != es.ContentTypeJSON || len(m.Data) != 256 {
		t.Errorf("the last one is %+v", m)
	}
}

// oneRow is a result of one row.
type oneRow struct {
	pgx.Rows

	raw  [][]byte
	read bool
}

func (r *oneRow) Next() bool {
	before := r.read
	r.read = true
	return !before
}

func (r *oneRow) RawValues() [][]byte { return r.raw }
func (*oneRow) Err() error            { return nil }

func (*oneRow) FieldDescriptions() []pgconn.FieldDescription { return binaryColumns[:] }

var binaryColumns = func() (columns [columnCount]pgconn.FieldDescription) {
	for i := range columns {
		columns[i].Format = pgx.BinaryFormatCode
	}
	return columns
}()
