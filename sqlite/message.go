package sqlite

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// messageColumns are the columns that a message has in the event store and in the outbox. Data is the last, and large, so that who
// wants only the others does not read the pages that it goes on in. What is empty, and what is the default, is NULL.
const (
	messageColumns = "id, stream, name, schema, time, correlation, causation, content_type, tags, metadata, data"
	messagePlaces  = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
)

// The columns of a message, counted from its first.
const (
	idColumn = iota
	streamColumn
	nameColumn
	schemaColumn
	timeColumn
	correlationColumn
	causationColumn
	contentTypeColumn
	tagsColumn
	metadataColumn
	dataColumn
)

// encoded is what of a message is encoded before it is written: by who writes it, so that the writer, who works for all, need not.
type encoded struct{ tags, metadata string } // empty: there are none

func encode(m *es.Message) (e encoded) {
	if len(m.Tags) > 0 {
		e.tags = encodeTags(m.Tags)
	}
	if len(m.Metadata) > 0 {
		e.metadata = encodeMetadata(m.Metadata)
	}
	return e
}

// bindMessage binds a message, which is valid, to the parameters of a statement from one on, which counts from 1.
func bindMessage(stmt *lite.Stmt, first int, m *es.Message, e encoded) {
	stmt.BindBytes(first+idColumn, m.ID[:])
	stmt.BindText(first+streamColumn, m.Stream)
	stmt.BindText(first+nameColumn, m.Name)
	stmt.BindInt64(first+schemaColumn, int64(m.Schema))
	stmt.BindInt64(first+timeColumn, es.Timestamp(m.Time).UnixMicro())
	bindUnless(stmt, first+correlationColumn, m.CorrelationID, "")
	bindUnless(stmt, first+causationColumn, m.CausationID, "")
	bindUnless(stmt, first+contentTypeColumn, m.ContentType, es.ContentTypeJSON)
	bindUnless(stmt, first+tagsColumn, e.tags, "")
	bindUnless(stmt, first+metadataColumn, e.metadata, "")
	if len(m.Data) == 0 {
		stmt.BindNull(first + dataColumn)
		return
	}
	stmt.BindBytes(first+dataColumn, m.Data)
}

// bindUnless binds a text, and NULL for the one that NULL stands for.
func bindUnless(stmt *lite.Stmt, parameter int, text, null string) {
	if text == null {
		stmt.BindNull(parameter)
		return
	}
	stmt.BindText(parameter, text)
}

// readMessage reads a message from the columns of a row from one on, which counts from 0. It sets every field that bindMessage binds.
// Messages that are read with the same texts share what they have in common.
func readMessage(stmt *lite.Stmt, first int, m *es.Message, t *texts) (err error) {
	if n := stmt.ColumnLen(first + idColumn); n != len(m.ID) {
		return fmt.Errorf("its ID has %d bytes, which is no UUID", n)
	}
	stmt.ColumnBytes(first+idColumn, m.ID[:])
	m.Stream = t.column(stmt, first+streamColumn)
	m.Name = t.column(stmt, first+nameColumn)
	m.Schema = stmt.ColumnInt(first + schemaColumn)
	m.Time = timeAt(stmt.ColumnInt64(first + timeColumn))
	m.CorrelationID = t.column(stmt, first+correlationColumn)
	m.CausationID = t.column(stmt, first+causationColumn)
	m.ContentType = t.column(stmt, first+contentTypeColumn)
	if m.ContentType == "" && stmt.ColumnIsNull(first+contentTypeColumn) {
		m.ContentType = es.ContentTypeJSON
	}
	if m.Tags, err = decodeTags(stmt.ColumnText(first + tagsColumn)); err != nil {
		return err
	}
	if m.Metadata, err = t.metadataColumn(stmt, first+metadataColumn); err != nil {
		return err
	}
	m.Data = columnBytes(stmt, first+dataColumn)
	return nil
}

// encodeTags writes tags as a JSON array.
func encodeTags(tags []string) string {
	size := len("[]")
	for _, tag := range tags {
		size += len(tag) + len(`"",`)
	}
	var b strings.Builder
	b.Grow(size)
	b.WriteByte('[')
	for i, tag := range tags {
		if i > 0 {
			b.WriteByte(',')
		}
		writeJSON(&b, tag)
	}
	b.WriteByte(']')
	return b.String()
}

// encodeMetadata writes metadata as a JSON object, whose keys are sorted: the same metadata is the same text.
func encodeMetadata(metadata map[string]string) string {
	var room [16]string // no allocation for as many
	keys, size := room[:0], len("{}")
	for key, value := range metadata {
		keys = append(keys, key)
		size += len(key) + len(value) + len(`"":"",`)
	}
	slices.Sort(keys)
	var b strings.Builder
	b.Grow(size)
	b.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		writeJSON(&b, key)
		b.WriteByte(':')
		writeJSON(&b, metadata[key])
	}
	b.WriteByte('}')
	return b.String()
}

// writeJSON writes a text, which is valid UTF-8, as JSON. What has to be escaped there are quotes, backslashes and control characters
// (RFC 8259, section 7).
func writeJSON(b *strings.Builder, text string) {
	const hex = "0123456789abcdef"
	b.WriteByte('"')
	written := 0
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' {
			b.WriteString(text[written:i])
			b.WriteString(`\u00`)
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
			written = i + 1
		}
	}
	b.WriteString(text[written:])
	b.WriteByte('"')
}

// decodeTags reads what encodeTags has written, and nil from the empty text. The tags share the memory of the text.
func decodeTags(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	if tags, ok := plainTags(text); ok {
		return tags, nil
	}
	var tags []string
	if err := json.Unmarshal([]byte(text), &tags); err != nil {
		return nil, fmt.Errorf("its tags are %q, which is no JSON array of strings: %w", text, err)
	}
	return tags, nil
}

// decodeMetadata reads what encodeMetadata has written, and nil from the empty text. The metadata shares the memory of the text.
func decodeMetadata(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // it is what a message without metadata has
	}
	if metadata, ok := plainMetadata(text); ok {
		return metadata, nil
	}
	var metadata map[string]string
	if err := json.Unmarshal([]byte(text), &metadata); err != nil {
		return nil, fmt.Errorf("its metadata is %q, which is no JSON object of strings: %w", text, err)
	}
	return metadata, nil
}

// plainTags reads an array of strings without white space around them and without escapes in them, as most are.
func plainTags(text string) ([]string, bool) {
	if strings.Contains(text, `\`) {
		return nil, false
	}
	tags := make([]string, 0, strings.Count(text, `","`)+1)
	for before := byte('['); ; before = ',' {
		tag, rest, ok := cutString(text, before)
		if !ok {
			return nil, false
		}
		tags = append(tags, tag)
		if rest == "]" {
			return tags, true
		}
		text = rest
	}
}

// plainMetadata reads an object of strings without white space around them and without escapes in them, as most are.
func plainMetadata(text string) (map[string]string, bool) {
	if strings.Contains(text, `\`) {
		return nil, false
	}
	metadata := make(map[string]string, strings.Count(text, `":"`))
	for before := byte('{'); ; before = ',' {
		key, rest, ok := cutString(text, before)
		if !ok {
			return nil, false
		}
		value, rest, ok := cutString(rest, ':')
		if !ok {
			return nil, false
		}
		metadata[key] = value
		if rest == "}" {
			return metadata, true
		}
		text = rest
	}
}

// cutString cuts a character and the string in quotes that follows it off a text.
func cutString(text string, before byte) (value, rest string, ok bool) {
	if len(text) < 2 || text[0] != before || text[1] != '"' {
		return "", "", false
	}
	return strings.Cut(text[2:], `"`)
}
