package estest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// goldenFile is what stands in the file of [CheckStoredEvents].
type goldenFile struct {
	Comment string        `json:"comment"`
	Events  []goldenEvent `json:"events"`
}

// goldenComment says in the file what it is.
const goldenComment = "Events as they were stored. Tests add to this file, and change nothing in it. See estest.CheckStoredEvents."

// goldenEvent is an event as it was stored.
type goldenEvent struct {
	Name        string          `json:"name"`
	Schema      int             `json:"schema"`
	ContentType string          `json:"contentType"`
	Tags        []string        `json:"tags,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`   // when it is JSON
	Base64      string          `json:"base64,omitempty"` // when it is not
	Value       json.RawMessage `json:"value,omitempty"`  // what encoding/json made of the Go value of data that is not JSON
}

// newGoldenEvent makes an event for the file of a message, and of the Go value in it.
func newGoldenEvent(m *es.Message, value any) (goldenEvent, error) {
	e := goldenEvent{Name: m.Name, Schema: m.Schema, ContentType: m.ContentType, Tags: m.Tags}
	if m.ContentType == es.ContentTypeJSON && json.Valid(m.Data) {
		e.Data = m.Data
		return e, nil
	}
	e.Base64 = base64.StdEncoding.EncodeToString(m.Data)
	var err error
	if e.Value, err = json.Marshal(value); err != nil {
		return e, fmt.Errorf("%s cannot be shown as JSON, which is how it is compared: %w", m.Name, err)
	}
	return e, nil
}

// message is the stored message.
func (e goldenEvent) message() (*es.Message, error) {
	data := []byte(e.Data)
	if e.Data == nil {
		var err error
		if data, err = base64.StdEncoding.DecodeString(e.Base64); err != nil {
			return nil, err
		}
	}
	m := es.NewMessage("sample", e.Name, data)
	m.Schema, m.ContentType, m.Tags = e.Schema, e.ContentType, e.Tags
	return m, m.Validate(es.Limits{})
}

// content is the JSON that two events are compared by.
func (e goldenEvent) content() json.RawMessage {
	if e.Data != nil {
		return e.Data
	}
	return e.Value
}

// fields are the places in an event that have something in them.
func (e goldenEvent) fields() fields {
	l, err := leavesOf(e.content())
	if err != nil {
		return nil // who compares it says so
	}
	return l.fields()
}

func (f *goldenFile) parse(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(f)
}

// text is the file in the order of names and schemas, events of one schema as they came.
func (f *goldenFile) text() ([]byte, error) {
	f.Comment = goldenComment
	slices.SortStableFunc(f.Events, func(a, b goldenEvent) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Schema, b.Schema))
	})
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(f)
	return text.Bytes(), err
}

// writeFile writes the file in one step, with the directories that lead to it.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	aside := path + ".new"
	if err := os.WriteFile(aside, data, 0o600); err != nil {
		return err
	}
	return os.Rename(aside, path)
}
