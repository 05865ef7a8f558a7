package estest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// UpdateVariable is the environment variable that has [CheckStoredEvents] add to its file what is new: set it to 1.
const UpdateVariable = "ES_UPDATE_GOLDEN"

// StoredEventsOption is an option of [CheckStoredEvents].
type StoredEventsOption func(*storedEvents)

// WantAllFields makes a field that the file does not know yet a failure. Without it a new field is logged only, and not looked after until
// it is recorded.
func WantAllFields() StoredEventsOption { return func(c *storedEvents) { c.allFields = true } }

// CheckStoredEvents fails a test when a change of Go types, or of what is registered for them, breaks events that were stored before.
// What that is says a file, which belongs into the program's repository, such as "testdata/events.golden.json": it has an event of each
// name and schema that was ever registered, as it was stored then. A program calls it in a test of its own:
//
//	func TestStoredEvents(t *testing.T) {
//		estest.CheckStoredEvents(t, newTypes(), "testdata/events.golden.json")
//	}
//
// Each event of the file must be decoded by today's types, by way of its upcasters where its schema is no longer the registered one, and
// these must leave the stored message as it is and give the same result again. When no upcaster had a part in it, the value must also have
// in it all that was stored: encoded again, it has each field of the event, with the same value. So a field that was renamed or removed, or
// has another type, fails the test, and so does a name that is no longer registered and a schema without an upcaster. A field that was
// added passes.
//
// A name or schema that is registered and not in the file fails the test as well. With ES_UPDATE_GOLDEN=1 in the environment the test adds
// it, and fields that are new, unless it fails; it never changes or removes what is there. When an event was never stored anywhere, take it
// out of the file by hand.
//
// The events are those of [es.Types.Samples]. A type whose codec is not [es.JSON] is compared by what encoding/json makes of its value,
// unless it is encoded to the same bytes again.
func CheckStoredEvents(t testing.TB, types *es.Types, path string, options ...StoredEventsOption) {
	t.Helper()
	update, err := updating()
	if err != nil {
		t.Fatal(err)
	}
	c := &storedEvents{types: types}
	for _, option := range options {
		option(c)
	}
	if types == nil {
		t.Fatalf("estest.CheckStoredEvents has no types; give it those that the program stores events with")
	}
	if err := c.load(path); err != nil {
		t.Fatalf("read the stored events: %v", err)
	}
	c.check()
	added := c.add()
	if len(c.file.Events) == 0 && len(c.failures) == 0 {
		t.Fatalf("no type is registered and %s has no event: there is nothing to look after", path)
	}
	for _, failure := range c.failures {
		t.Error(failure)
	}
	if update {
		if len(added) == 0 || len(c.failures) > 0 { // what is broken is not recorded as if it were right
			return
		}
		if err := c.save(path); err != nil {
			t.Fatalf("write the stored events: %v", err)
		}
		t.Logf("%s: added %d events", path, len(added))
		return
	}
	for _, a := range added {
		switch {
		case a.fields == nil:
			t.Errorf("%s (schema %d) is not in %s yet: run this test once with %s=1, and commit the file", a.event.Name, a.event.Schema, path,
				UpdateVariable)
		case c.allFields:
			t.Errorf("%s (schema %d) has fields that are not in %s yet: %s: run this test once with %s=1, and commit the file", a.event.Name,
				a.event.Schema, path, strings.Join(a.fields, ", "), UpdateVariable)
		default:
			t.Logf("%s (schema %d) has fields that are not in %s yet and are not looked after: %s: run this test once with %s=1", a.event.Name,
				a.event.Schema, path, strings.Join(a.fields, ", "), UpdateVariable)
		}
	}
}

// updating tells whether the file is to be updated.
func updating() (bool, error) {
	text := os.Getenv(UpdateVariable)
	if text == "" {
		return false, nil
	}
	update, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%s is %q; it takes 1 or 0", UpdateVariable, text)
	}
	return update, nil
}

// storedEvents is one check.
type storedEvents struct {
	types     *es.Types
	allFields bool
	file      goldenFile
	failures  []string
}

// addition is an event that is not in the file yet: the fields of it that are new, nil when it is new itself.
type addition struct {
	event  goldenEvent
	fields []string
}

func (c *storedEvents) load(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.file.parse(data)
}

func (c *storedEvents) failf(e goldenEvent, format string, args ...any) {
	c.failures = append(c.failures, fmt.Sprintf("%s (schema %d), as it was stored: ", e.Name, e.Schema)+fmt.Sprintf(format, args...))
}

// check decodes each event of the file.
func (c *storedEvents) check() {
	today, err := c.samples()
	if err != nil {
		c.failures = append(c.failures, err.Error())
	}
	for _, e := range c.file.Events {
		c.checkEvent(e, today)
	}
}

func (c *storedEvents) checkEvent(e goldenEvent, today []goldenEvent) {
	m, err := e.message()
	if err != nil {
		c.failf(e, "the file is damaged: %v", err)
		return
	}
	before := m.Clone()
	all, err := c.types.DecodeAll(nil, m, es.FailUnknown)
	if unknown, ok := errors.AsType[*es.UnknownTypeError](err); ok {
		c.failf(e, "%s", adviceFor(unknown, e))
		return
	}
	if err != nil {
		c.failf(e, "it cannot be decoded any more: %v. Give the changed type a schema of its own, and an upcaster (es.Upcast) to it", err)
		return
	}
	if !reflect.DeepEqual(before, m) {
		c.failf(e, "an upcaster changes the stored message; it has to change a Clone of it")
		return
	}
	again, err := c.types.DecodeAll(nil, m, es.FailUnknown)
	if err != nil || !reflect.DeepEqual(contents(all), contents(again)) {
		c.failf(e, "it is decoded to something else each time; an upcaster may look at nothing but the message")
		return
	}
	if len(all) == 1 && all[0].Message == m { // no upcaster had a part in it
		c.compare(e, all[0].Value, today)
	}
}

// adviceFor says what can be done about an event that is unknown now.
func adviceFor(unknown *es.UnknownTypeError, e goldenEvent) string {
	switch {
	case unknown.Name != e.Name || unknown.Schema != e.Schema:
		return fmt.Sprintf("an upcaster makes %q (schema %d) of it, which is not registered: %v", unknown.Name, unknown.Schema, unknown)
	case unknown.Registered == 0:
		return "its name is not registered any more. Register it, or upcast it (es.Upcast with es.RenameEvent, es.DropEvent or a function)"
	case unknown.Registered < e.Schema:
		return fmt.Sprintf("the name is registered with schema %d, which is older. Schemas only go up", unknown.Registered)
	}
	return fmt.Sprintf("the name is registered with schema %d, and there is no upcaster from schema %d. Add one by es.Upcast",
		unknown.Registered, e.Schema)
}

// contents are what events hold, and not where that is.
func contents(all []es.Decoded) []any {
	var values []any
	for _, d := range all {
		values = append(values, d.Value, *d.Message, d.Index)
	}
	return values
}

// compare wants all in a value that was stored.
func (c *storedEvents) compare(e goldenEvent, value any, today []goldenEvent) {
	back, err := c.types.Encode("sample", value)
	if err != nil {
		c.failf(e, "it was decoded and cannot be encoded: %v", err)
		return
	}
	now, err := newGoldenEvent(back, value)
	if err != nil {
		c.failf(e, "%v", err)
		return
	}
	if e.Base64 != "" && e.Base64 == now.Base64 {
		return
	}
	was, err := leavesOf(e.content())
	if err != nil {
		c.failf(e, "the file is damaged: %v", err)
		return
	}
	is, err := leavesOf(now.content())
	if err != nil {
		c.failf(e, "%v", err)
		return
	}
	known := map[string]bool{}
	for _, sample := range today {
		if sample.Name == e.Name && sample.Schema == e.Schema {
			for path := range sample.fields() {
				known[path] = true
			}
		}
	}
	for _, problem := range was.lostIn(is, known) {
		c.failf(e, "%s. If that is on purpose, give the changed type the schema %d, and an upcaster (es.Upcast) from %d", problem, e.Schema+1,
			e.Schema)
	}
}

// samples returns an event of each registered type, as it is stored now.
func (c *storedEvents) samples() ([]goldenEvent, error) {
	messages, errs := c.types.Samples()
	var events []goldenEvent
	for _, m := range messages {
		value, err := c.types.Decode(m)
		if err == nil {
			var e goldenEvent
			if e, err = newGoldenEvent(m, value); err == nil {
				events = append(events, e)
				continue
			}
		}
		errs = errors.Join(errs, fmt.Errorf("the sample of %s: %w", m.Name, err))
	}
	return events, errs
}

// add adds what is new to the file, and returns it.
func (c *storedEvents) add() []addition {
	samples, err := c.samples()
	if err != nil {
		return nil // check has said so
	}
	var added []addition
	for _, sample := range samples {
		known, recorded := map[string]bool{}, false
		for _, e := range c.file.Events {
			if e.Name == sample.Name && e.Schema == sample.Schema {
				recorded = true
				for path := range e.fields() {
					known[path] = true
				}
			}
		}
		var fields []string
		if recorded {
			if fields = sample.fields().without(known); len(fields) == 0 {
				continue
			}
		}
		added = append(added, addition{event: sample, fields: fields})
	}
	for _, a := range added {
		c.file.Events = append(c.file.Events, a.event)
	}
	return added
}

func (c *storedEvents) save(path string) error {
	data, err := c.file.text()
	if err != nil {
		return err
	}
	return writeFile(path, data)
}
