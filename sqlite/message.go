package sqlite

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

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

// bindMessage binds a message to the parameters of a statement from one on, which counts from 1. The statement's parameters are NULL
// before.
func bindMessage(stmt *lite.Stmt, first int, m *es.Message) error {
	stmt.BindBytes(first+idColumn, m.ID[:])
	stmt.BindText(first+streamColumn, m.Stream)
	stmt.BindText(first+nameColumn, m.Name)
	stmt.BindInt64(first+schemaColumn, int64(m.Schema))
	stmt.BindInt64(first+timeColumn, es.Timestamp(m.Time).UnixMicro())
	if m.CorrelationID != "" {
		stmt.BindText(first+correlationColumn, m.CorrelationID)
	}
	if m.CausationID != "" {
		stmt.BindText(first+causationColumn, m.CausationID)
	}
	if m.ContentType != es.ContentTypeJSON {
		stmt.BindText(first+contentTypeColumn, m.ContentType)
	}
	if len(m.Tags) > 0 {
		stmt.BindText(first+tagsColumn, encodeTags(m.Tags))
	}
	if len(m.Metadata) > 0 {
		metadata, err := encodeMetadata(m.Metadata)
		if err != nil {
			return err
		}
		stmt.BindText(first+metadataColumn, metadata)
	}
	if len(m.Data) > 0 {
		stmt.BindBytes(first+dataColumn, m.Data)
	}
	return nil
}

// readMessage reads a message from the columns of a row from one on, which counts from 0.
func readMessage(stmt *lite.Stmt, first int, m *es.Message) (err error) {
	stmt.ColumnBytes(first+idColumn, m.ID[:])
	m.Stream = stmt.ColumnText(first + streamColumn)
	m.Name = stmt.ColumnText(first + nameColumn)
	m.Schema = stmt.ColumnInt(first + schemaColumn)
	m.Time = timeAt(stmt.ColumnInt64(first + timeColumn))
	m.CorrelationID = stmt.ColumnText(first + correlationColumn)
	m.CausationID = stmt.ColumnText(first + causationColumn)
	m.ContentType = es.ContentTypeJSON
	if !stmt.ColumnIsNull(first + contentTypeColumn) {
		m.ContentType = stmt.ColumnText(first + contentTypeColumn)
	}
	if !stmt.ColumnIsNull(first + tagsColumn) {
		if m.Tags, err = decodeTags(stmt.ColumnText(first + tagsColumn)); err != nil {
			return err
		}
	}
	if !stmt.ColumnIsNull(first + metadataColumn) {
		if m.Metadata, err = decodeMetadata(stmt.ColumnText(first + metadataColumn)); err != nil {
			return err
		}
	}
	m.Data = columnBytes(stmt, first+dataColumn)
	return nil
}

// encodeTags writes tags as a JSON array.
func encodeTags(tags []string) string {
	var b strings.Builder
	for i, tag := range tags {
		b.WriteByte("[,"[min(i, 1)])
		appendJSON(&b, tag)
	}
	b.WriteByte(']')
	return b.String()
}

// appendJSON writes a text as JSON.
func appendJSON(b *strings.Builder, text string) {
	if plain(text) {
		b.WriteByte('"')
		b.WriteString(text)
		b.WriteByte('"')
		return
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string can be marshaled
	}
	b.Write(quoted)
}

// plain tells whether a text stands in JSON as it is. That JSON has others too, which are valid UTF-8 and not control characters, does
// not matter: they take the long way.
func plain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// decodeTags reads what encodeTags has written.
func decodeTags(text string) ([]string, error) {
	if inner, ok := strings.CutPrefix(text, `["`); ok && !strings.Contains(text, `\`) {
		if inner, ok = strings.CutSuffix(inner, `"]`); ok {
			if tags := strings.Split(inner, `","`); !strings.Contains(strings.Join(tags, ""), `"`) {
				return tags, nil
			}
		}
	}
	var tags []string
	if err := json.Unmarshal([]byte(text), &tags); err != nil {
		return nil, fmt.Errorf("its tags are %q, which is no JSON array of strings: %w", text, err)
	}
	return tags, nil
}

// encodeMetadata writes metadata as a JSON object, whose keys are sorted.
func encodeMetadata(metadata map[string]string) (string, error) {
	text, err := json.Marshal(metadata)
	return string(text), err
}

// decodeMetadata reads what encodeMetadata has written.
func decodeMetadata(text string) (map[string]string, error) {
	var metadata map[string]string
	if err := json.Unmarshal([]byte(text), &metadata); err != nil {
		return nil, fmt.Errorf("its metadata is %q, which is no JSON object of strings: %w", text, err)
	}
	return metadata, nil
}
