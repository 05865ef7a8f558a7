package eventsourcing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Upcaster turns a stored message of an older schema into what it is called today: one message, several or none.
//
// It returns clones ([Message.Clone]) with another Name, Schema, Data, Tags, Metadata or ContentType, and leaves m as it is. Who the
// message is (ID, Stream, Version, Position, Time, Recorded, correlation and causation, and whether it was erased) must stay. It gives the
// same result each time, so it looks at nothing but m. It may be called by several goroutines at once.
//
// The Data of a message that was erased is empty ([Message.Erased]). Those of [UpcastJSON], [RenameEvent] and [DropEvent] take care of it.
type Upcaster func(m *Message) ([]*Message, error)

// Upcast has the messages of a name and an older schema go through an upcaster when they are decoded. What comes out goes on to the next
// one, if there is one for its name and schema, until it is what is registered. What it makes of a message has another name or a higher
// schema; a chain that comes back to where it was is an error when a message is decoded.
//
// It panics when the name and schema have an upcaster already, or the schema is not below the registered one: that is a mistake in the
// program, found when it starts.
func Upcast(types *Types, name string, schema int, up Upcaster) {
	if err := types.addUpcaster(messageType{name, schema}, up); err != nil {
		panic(fmt.Sprintf("eventsourcing: upcast %q of schema %d: %v", name, schema, err))
	}
}

func (t *Types) addUpcaster(from messageType, up Upcaster) error {
	if err := ValidateName("message name", from.name); err != nil {
		return err
	}
	if from.schema < 1 {
		return Invalidf("schema", "is %d; schema versions count from 1", from.schema)
	}
	if up == nil {
		return Invalidf("upcaster", "is nil")
	}
	return t.change(func(table *typeTable) error {
		if r := table.byName[from.name]; r != nil && r.schema <= from.schema {
			return Invalidf("schema", "is %d; an upcaster is for one below the registered schema, which is %d", from.schema, r.schema)
		}
		if _, taken := table.upcasters[from]; taken {
			return Invalidf("upcaster", "is there already")
		}
		table.upcasters[from] = up
		return nil
	})
}

// Upcasts tells whether there is an upcaster for messages of the name and schema of m.
func (t *Types) Upcasts(m *Message) bool {
	_, up := t.table.Load().find(m)
	return up != nil
}

// Today returns what a stored message is called today, as the upcasters have it: the message itself when there is none for it, and
// otherwise one, several or none. The error is that of an upcaster.
func (t *Types) Today(m *Message) ([]*Message, error) {
	table := t.table.Load()
	_, up := table.find(m)
	if up == nil {
		return []*Message{m}, nil
	}
	var today []*Message
	err := table.upcast(m, up, 0, func(next *Message, _ *registration) error {
		today = append(today, next)
		return nil
	})
	return today, err
}

// maxUpcasts is how many upcasters a message may go through one after the other: more than any schema has versions.
const maxUpcasts = 1000

// upcast calls visit with what a message is today, in order, and what that is registered as.
func (t *typeTable) upcast(m *Message, up Upcaster, steps int, visit func(*Message, *registration) error) error {
	if steps == maxUpcasts {
		return upcastError(m, fmt.Errorf("it has gone through %d upcasters; they lead in a circle", steps))
	}
	made, err := up(m)
	if err != nil {
		return upcastError(m, err)
	}
	for _, next := range made {
		if err := checkUpcast(m, next); err != nil {
			return upcastError(m, err)
		}
		r, up := t.find(next)
		if up != nil {
			err = t.upcast(next, up, steps+1, visit)
		} else {
			err = visit(next, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func upcastError(m *Message, err error) error {
	return fmt.Errorf("upcast %s (schema %d) of message %s: %w", m.Name, m.Schema, m.ID, err)
}

// checkUpcast says what is wrong with a message that an upcaster has made of m.
func checkUpcast(m, next *Message) error {
	switch {
	case next == nil:
		return errors.New("a message that was made of it is nil")
	case next == m:
		return errors.New("what was made of it is the stored message itself; return a Clone")
	case next.Name == m.Name && next.Schema <= m.Schema:
		return fmt.Errorf("what was made of it has schema %d; set a higher one, or another name", next.Schema)
	case next.ID != m.ID || next.Stream != m.Stream || next.Version != m.Version || next.Position != m.Position ||
		!next.Time.Equal(m.Time) || !next.Recorded.Equal(m.Recorded) ||
		next.CorrelationID != m.CorrelationID || next.CausationID != m.CausationID:
		return errors.New("what was made of it is another message; ID, stream, version, position, times, correlation and causation stay")
	case next.Erased() != m.Erased():
		return fmt.Errorf("what was made of it differs in the metadata %q, which tells whether it was erased and stays", MetadataErased)
	}
	return nil
}

// UpcastJSON changes the fields of data that is a JSON object, and makes it one of another schema under the same name. The functions are
// called in order; [RenameField], [AddField] and [RemoveField] make some. A message that was erased has its schema changed only.
func UpcastJSON(to int, changes ...func(fields map[string]json.RawMessage) error) Upcaster {
	return func(m *Message) ([]*Message, error) {
		next := *m // what does not change is shared, as messages are
		next.Schema = to
		if m.Erased() {
			return []*Message{&next}, nil
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(m.Data, &fields); err != nil {
			return nil, err
		}
		if fields == nil {
			return nil, errors.New("the data is null, and not a JSON object")
		}
		for _, change := range changes {
			if err := change(fields); err != nil {
				return nil, err
			}
		}
		var data bytes.Buffer
		encoder := json.NewEncoder(&data)
		encoder.SetEscapeHTML(false) // the values stay as they were
		if err := encoder.Encode(fields); err != nil {
			return nil, err
		}
		next.Data = bytes.TrimSuffix(data.Bytes(), []byte("\n"))
		return []*Message{&next}, nil
	}
}

// RenameField renames a field of a JSON object, for [UpcastJSON]. One that is not there is not there afterwards either.
func RenameField(from, to string) func(fields map[string]json.RawMessage) error {
	return func(fields map[string]json.RawMessage) error {
		value, ok := fields[from]
		if !ok {
			return nil
		}
		if _, taken := fields[to]; taken {
			return fmt.Errorf("rename field %q: there is a field %q already", from, to)
		}
		delete(fields, from)
		fields[to] = value
		return nil
	}
}

// AddField adds a field to a JSON object that does not have it, for [UpcastJSON].
func AddField(name string, value any) func(fields map[string]json.RawMessage) error {
	data, err := json.Marshal(value)
	return func(fields map[string]json.RawMessage) error {
		if err != nil {
			return fmt.Errorf("add field %q: %w", name, err)
		}
		if _, there := fields[name]; !there {
			fields[name] = data
		}
		return nil
	}
}

// RemoveField removes a field from a JSON object, for [UpcastJSON].
func RemoveField(name string) func(fields map[string]json.RawMessage) error {
	return func(fields map[string]json.RawMessage) error {
		delete(fields, name)
		return nil
	}
}

// RenameEvent gives an event another name, and the schema that its data has under that name.
func RenameEvent(name string, schema int) Upcaster {
	return func(m *Message) ([]*Message, error) {
		next := *m // what does not change is shared, as messages are
		next.Name, next.Schema = name, schema
		return []*Message{&next}, nil
	}
}

// DropEvent is the upcaster of events that mean nothing any more.
func DropEvent(*Message) ([]*Message, error) { return nil, nil }
