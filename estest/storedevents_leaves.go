package estest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// leaves are what stands in a JSON value that has nothing further in it, by its path: texts, numbers, true, false and null, and arrays and
// objects that are empty.
type leaves map[string]leaf

type leaf struct {
	text  string // as JSON
	field string // the path without the numbers of items
}

// fields are the paths of values, without the numbers of items.
type fields map[string]bool

func leavesOf(data json.RawMessage) (leaves, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // a number as it stands
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	l := leaves{}
	return l, l.add(value, "", "")
}

// add adds what is in a value, which stands at a path.
func (l leaves) add(value any, path, field string) error {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if err := l.add(member, joined(path, name), joined(field, name)); err != nil {
				return err
			}
		}
		if len(v) > 0 {
			return nil
		}
	case []any:
		for i, item := range v {
			if err := l.add(item, path+"["+strconv.Itoa(i)+"]", field+"[]"); err != nil {
				return err
			}
		}
		if len(v) > 0 {
			return nil
		}
	}
	text, err := json.Marshal(value)
	l[path] = leaf{text: string(text), field: field}
	return err
}

func joined(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// empty tells whether a value may be left out by the option omitempty or omitzero.
func (l leaf) empty() bool {
	return slices.Contains([]string{"null", `""`, "0", "false", "[]", "{}"}, l.text)
}

// fields returns the places that have something in them.
func (l leaves) fields() fields {
	f := fields{}
	for _, leaf := range l {
		if leaf.text != "null" {
			f[leaf.field] = true
		}
	}
	return f
}

// without returns the fields that are not known, in order.
func (f fields) without(known map[string]bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(f)), func(path string) bool { return known[path] })
}

// lostIn says what is in l and not in the other, in order. Something empty may be left out when its field is one of those that are known,
// and null in any case: it is no more than what an option omitempty does.
func (l leaves) lostIn(other leaves, known map[string]bool) []string {
	var problems []string
	for _, path := range slices.Sorted(maps.Keys(l)) {
		was := l[path]
		is, there := other[path]
		name := path
		if name == "" {
			name = "the value"
		}
		switch {
		case there && (is.text == was.text || is.empty() && was.empty()):
		case there:
			problems = append(problems, fmt.Sprintf("%s was %s and comes back as %s", name, was.text, is.text))
		case was.text == "null" || was.empty() && known[was.field]:
		default:
			problems = append(problems, fmt.Sprintf("%s was %s and is lost: the field was removed, or has another name or type", name, was.text))
		}
	}
	return problems
}
