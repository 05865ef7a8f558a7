package sqlite

import (
	"encoding/json"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// messageTable is a table whose first column is something else, and the others a message's.
type messageTable struct {
	t    testing.TB
	conn *conn
}

func newMessageTable(t testing.TB) messageTable {
	t.Helper()
	c, err := openConn(Config{Path: filepath.Join(t.TempDir(), "messages.db")}.withDefaults(), lite.OpenReadWrite|lite.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.closeConn(); err != nil {
			t.Error(err)
		}
	})
	m := messageTable{t, c}
	m.must(c.pragma("PRAGMA synchronous=OFF"))
	m.must(c.pragma("CREATE TABLE messages (number INTEGER PRIMARY KEY, " + messageColumns + ")"))
	return m
}

func (m messageTable) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// write writes a message, in the place of the one before.
func (m messageTable) write(message *es.Message) {
	m.t.Helper()
	stmt, err := m.conn.prepare("INSERT OR REPLACE INTO messages (number, " + messageColumns + ") VALUES (?, " + messagePlaces + ")")
	m.must(err)
	stmt.BindInt64(1, 1)
	bindMessage(stmt, 2, message, encode(message))
	m.must(each(stmt, nil))
}

// read reads the message into one that has something in each field already.
func (m messageTable) read() (*es.Message, error) {
	got := &es.Message{
		ID: uuid.Max, Stream: "x", Name: "x", Schema: -1, Time: time.Now(), CorrelationID: "x", CausationID: "x",
		ContentType: "x", Tags: []string{"x"}, Metadata: map[string]string{"x": "x"}, Data: []byte("x"),
	}
	err := m.conn.query(func(stmt *lite.Stmt) error { return readMessage(stmt, 1, got, &m.conn.texts) }, "SELECT number, "+messageColumns+" FROM messages")
	return got, err
}

// same ends the test unless a message comes back as it was written.
func (m messageTable) same(message *es.Message) {
	m.t.Helper()
	m.write(message)
	got, err := m.read()
	m.must(err)
	if !got.SameContent(message) || got.ID != message.ID || !got.Time.Equal(es.Timestamp(message.Time)) || got.Time.Location() != time.UTC ||
		got.CorrelationID != message.CorrelationID || got.CausationID != message.CausationID ||
		!maps.Equal(got.Metadata, message.Metadata) {
		m.t.Fatalf("read\n%+v\nwhere this was written:\n%+v", got, message)
	}
}

func TestMessageComesBackAsItWas(t *testing.T) {
	t.Parallel()
	table := newMessageTable(t)
	text := "a\"b\\c\nd\te\x01f\x7f<&>/ü🙂\u2028\u2029 ' \ufffd"
	for what, change := range map[string]func(m *es.Message){
		"as it is made":            func(*es.Message) {},
		"another ID":               func(m *es.Message) { m.ID = uuid.New() },
		"a long stream":            func(m *es.Message) { m.Stream = strings.Repeat("ß", 127) },
		"an odd name":              func(m *es.Message) { m.Name = text },
		"a large schema":           func(m *es.Message) { m.Schema = math.MaxInt },
		"the first time":           func(m *es.Message) { m.Time = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC) },
		"the last time":            func(m *es.Message) { m.Time = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC) },
		"1970":                     func(m *es.Message) { m.Time = time.Unix(0, 0) },
		"a time before it":         func(m *es.Message) { m.Time = time.Unix(-1, 1500) },
		"another place":            func(m *es.Message) { m.Time = time.Now().In(time.FixedZone("X", 3600)) },
		"a correlation ID":         func(m *es.Message) { m.CorrelationID = text },
		"a causation ID":           func(m *es.Message) { m.CausationID = text },
		"another content type":     func(m *es.Message) { m.ContentType = text },
		"a tag":                    func(m *es.Message) { m.Tags = []string{"course:go-101"} },
		"tags":                     func(m *es.Message) { m.Tags = []string{"z", "a", "ключ", "b c"} },
		"odd tags":                 func(m *es.Message) { m.Tags = []string{text, `","`, `"]`, `\`, "x\\"} },
		"no tags":                  func(m *es.Message) { m.Tags = []string{} },
		"metadata":                 func(m *es.Message) { m.Metadata = map[string]string{"tenant": "7", "user": "ü"} },
		"odd metadata":             func(m *es.Message) { m.Metadata = map[string]string{text: text, "": "", `":"`: `"}`, "b": ""} },
		"more than a few metadata": func(m *es.Message) { m.Metadata = manyMetadata(40) },
		"no metadata":              func(m *es.Message) { m.Metadata = map[string]string{} },
		"any data":                 func(m *es.Message) { m.Data = []byte("\x00\xff\xfe\x00") },
		"large data":               func(m *es.Message) { m.Data = make([]byte, 1<<20) },
		"no data":                  func(m *es.Message) { m.Data = []byte{} },
	} {
		m := es.NewMessage("order-7", "OrderPlaced", []byte(`{"total":3}`))
		change(m)
		t.Log(what)
		table.same(m)
	}
}

func manyMetadata(n int) map[string]string {
	metadata := map[string]string{}
	for i := range n {
		metadata[strings.Repeat("k", i)] = strings.Repeat("v", i)
	}
	return metadata
}

// TestMessageTakesNoRoomForDefaults reads the row itself: what every message has alike is NULL.
func TestMessageTakesNoRoomForDefaults(t *testing.T) {
	t.Parallel()
	table := newMessageTable(t)
	m := es.NewMessage("order-7", "OrderPlaced", nil)
	m.Tags, m.Metadata = []string{}, map[string]string{}
	table.write(m)
	columns := strings.Split(messageColumns, ", ")
	for column, null := range map[int]bool{
		idColumn: false, streamColumn: false, nameColumn: false, schemaColumn: false, timeColumn: false, correlationColumn: true,
		causationColumn: true, contentTypeColumn: true, tagsColumn: true, metadataColumn: true, dataColumn: true,
	} {
		got, err := table.conn.number("SELECT " + columns[column] + " IS NULL FROM messages")
		table.must(err)
		if (got == 1) != null {
			t.Errorf("%s is NULL: %v, want %v", columns[column], got == 1, null)
		}
	}
}

// TestMessageIsReadableBySQL: tags and metadata are for a program's own queries, too.
func TestMessageIsReadableBySQL(t *testing.T) {
	t.Parallel()
	table := newMessageTable(t)
	m := es.NewMessage("order-7", "OrderPlaced", nil)
	m.Tags = []string{"course:go-101", "a \"quoted\"\n tag", "ключ"}
	m.Metadata = map[string]string{"tenant": "T\"1", "user": "ü"}
	table.write(m)
	var tags []string
	table.must(table.conn.query(func(stmt *lite.Stmt) error {
		tags = append(tags, stmt.ColumnText(0))
		return nil
	}, "SELECT j.value FROM messages, json_each(tags) j ORDER BY j.key"))
	if !slices.Equal(tags, m.Tags) {
		t.Errorf("SQL reads the tags %q, want %q", tags, m.Tags)
	}
	for key, want := range m.Metadata {
		got := ""
		table.must(table.conn.query(func(stmt *lite.Stmt) error {
			got = stmt.ColumnText(0)
			return nil
		}, "SELECT metadata ->> ? FROM messages", key))
		if got != want {
			t.Errorf("SQL reads %s = %q, want %q", key, got, want)
		}
	}
}

func TestDamagedMessageIsAnError(t *testing.T) {
	t.Parallel()
	for _, damage := range []string{"id = x'00'", "id = NULL", "tags = '[1]'", "tags = '[\"a\"'", "metadata = '[]'", "metadata = '{\"a\":1}'"} {
		table := newMessageTable(t)
		table.write(es.NewMessage("order-7", "OrderPlaced", nil))
		table.must(table.conn.query(nil, "UPDATE messages SET "+damage))
		if m, err := table.read(); err == nil {
			t.Errorf("with %s the message is read as %+v, want an error", damage, m)
		}
	}
}

// FuzzTags writes two tags and reads them again. Any text is to be read as [json.Unmarshal] reads it, or not at all.
func FuzzTags(f *testing.F) {
	f.Add("course:go-101", `a"b\c`, `["a","b"]`)
	f.Add("", "\x00\x1f", `["a", "b\u0022"]`)
	f.Add("ключ", "\u2028", `["a",null]`)
	f.Add(`","`, `"]`, `["]`)
	f.Fuzz(func(t *testing.T, one, two, text string) {
		if !utf8.ValidString(one) || !utf8.ValidString(two) || !utf8.ValidString(text) {
			return // no message has it
		}
		for _, tags := range [][]string{{one}, {one, two}, {two, one, one + two}} {
			written := encodeTags(tags)
			var byJSON []string
			if err := json.Unmarshal([]byte(written), &byJSON); err != nil || !slices.Equal(byJSON, tags) {
				t.Fatalf("%q is written as %s, which JSON reads as %q, %v", tags, written, byJSON, err)
			}
			if got, err := decodeTags(written); err != nil || !slices.Equal(got, tags) {
				t.Fatalf("%q is read as %q, %v", tags, got, err)
			}
		}
		var byJSON []string
		if json.Unmarshal([]byte(text), &byJSON) == nil {
			if got, err := decodeTags(text); err != nil || !slices.Equal(got, byJSON) {
				t.Fatalf("%s is read as %q, %v; JSON reads %q", text, got, err, byJSON)
			}
		}
	})
}

// FuzzMetadata does the same with metadata.
func FuzzMetadata(f *testing.F) {
	f.Add("tenant", "7", `{"a":"b"}`)
	f.Add("", `a"b\c`, `{"a":"b","a":"c"}`)
	f.Add("ключ", "\x00", `{"a":"b", "c":null}`)
	f.Add(`":"`, `"}`, `{"a":"}`)
	f.Fuzz(func(t *testing.T, one, two, text string) {
		if !utf8.ValidString(one) || !utf8.ValidString(two) || !utf8.ValidString(text) {
			return // no message has it
		}
		for _, metadata := range []map[string]string{{one: two}, {two: one}, {one: two, one + two: "", two + "x": one}} {
			written := encodeMetadata(metadata)
			var byJSON map[string]string
			if err := json.Unmarshal([]byte(written), &byJSON); err != nil || !maps.Equal(byJSON, metadata) {
				t.Fatalf("%q is written as %s, which JSON reads as %q, %v", metadata, written, byJSON, err)
			}
			if got, err := decodeMetadata(written); err != nil || !maps.Equal(got, metadata) {
				t.Fatalf("%q is read as %q, %v", metadata, got, err)
			}
		}
		var byJSON map[string]string
		if json.Unmarshal([]byte(text), &byJSON) == nil {
			if got, err := decodeMetadata(text); err != nil || !maps.Equal(got, byJSON) {
				t.Fatalf("%s is read as %q, %v; JSON reads %q", text, got, err, byJSON)
			}
		}
	})
}

// FuzzMessage writes a message with any texts and bytes, and reads it again.
func FuzzMessage(f *testing.F) {
	f.Add("order-7", "OrderPlaced", 1, int64(0), "", "application/json", "tag", []byte(`{}`))
	f.Add("ß", "a\"b", 1<<40, int64(-62135596799), "c", "text/plain", "\\", []byte{0, 255})
	f.Fuzz(func(t *testing.T, stream, name string, schema int, seconds int64, text, contentType, tag string, data []byte) {
		m := &es.Message{
			ID: uuid.NewSHA1(uuid.Nil, data), Stream: stream, Name: name, Schema: schema, Time: time.Unix(seconds, 123_456_789),
			CorrelationID: text, CausationID: name, ContentType: contentType, Data: data,
			Tags: []string{tag}, Metadata: map[string]string{tag: text, stream: name},
		}
		if m.Validate(es.Limits{}) == nil {
			newMessageTable(t).same(m)
		}
	})
}

// BenchmarkMessage binds a message with tags and metadata, and reads it.
func BenchmarkMessage(b *testing.B) {
	m := es.NewMessage("order-0191e6f0", "OrderPlaced", make([]byte, 256))
	m.CorrelationID, m.CausationID = es.NewID().String(), es.NewID().String()
	full := m.Clone()
	full.Tags = []string{"order:0191e6f0", "customer:42"}
	full.Metadata = map[string]string{"tenant": "acme", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	for _, c := range []struct {
		name    string
		message *es.Message
	}{{"plain", m}, {"with tags and metadata", full}} {
		table := newMessageTable(b)
		table.write(c.message)
		b.Run(c.name+"/bind", func(b *testing.B) {
			stmt, err := table.conn.prepare("INSERT INTO messages (" + messageColumns + ") VALUES (" + messagePlaces + ")")
			table.must(err)
			b.ReportAllocs()
			for b.Loop() {
				bindMessage(stmt, 1, c.message, encode(c.message))
			}
		})
		b.Run(c.name+"/read", func(b *testing.B) {
			table.must(table.conn.query(func(stmt *lite.Stmt) error {
				b.ReportAllocs()
				for b.Loop() {
					var m es.Message
					if err := readMessage(stmt, 0, &m, &table.conn.texts); err != nil {
						return err
					}
				}
				return nil
			}, "SELECT "+messageColumns+" FROM messages"))
		})
	}
}
