package compare

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Difference is one place in which two values differ.
type Difference struct {
	// Path is such as Lines[2].Amount; empty for the values as a whole.
	Path string
	// Got and Want are the texts of the two values there, and "nothing" where there is none.
	Got, Want string
}

// String is such as "Amount: got 2, want 1".
func (d Difference) String() string {
	place := ""
	if d.Path != "" {
		place = d.Path + ": "
	}
	return fmt.Sprintf("%sgot %s, want %s", place, Clip(d.Got), Clip(d.Want))
}

// differ collects the differences.
type differ struct {
	ignored []string // fields: "At", or "Deposited.At"
	found   []Difference
	open    map[visit]struct{}
}

// absent stands for what is not there.
const absent = "nothing"

// Values says where got differs from want, in the order of the fields. Ignored are names of fields that are left out: "At", or
// "Deposited.At" for those of one type. Nil and empty are the same, times are when they name the same instant, and types that have a
// method Equal are asked.
func Values(got, want any, ignored []string) []Difference {
	d := differ{ignored: ignored, open: map[visit]struct{}{}}
	d.compare("", reachable(reflect.ValueOf(got)), reachable(reflect.ValueOf(want)))
	return d.found
}

// add notes a difference. Where the texts of the two are the same, as of a secret that is written as stars, it shows what they hold.
func (d *differ) add(path string, got, want reflect.Value) {
	had, wanted := textOfPart(got), textOfPart(want)
	if had == wanted {
		had, wanted = rawOfPart(got), rawOfPart(want)
	}
	if had == wanted {
		wanted += ", which is not the same, though it looks so"
	}
	d.found = append(d.found, Difference{path, had, wanted})
}

func (d *differ) compare(path string, got, want reflect.Value) {
	switch {
	case !got.IsValid() && !want.IsValid():
		return
	case !got.IsValid() || !want.IsValid():
		d.addTyped(path, got, want)
		return
	case got.Type() != want.Type():
		d.addTyped(path, got, want)
		return
	}
	if equal, asked := askEqual(got, want); asked {
		if !equal {
			d.add(path, got, want)
		}
		return
	}
	switch got.Kind() {
	case reflect.Struct:
		for _, field := range fieldsOf(got.Type()) {
			if !d.ignores(got.Type(), field.Name) {
				d.compare(join(path, field.Name), fieldOf(got, field), fieldOf(want, field))
			}
		}
	case reflect.Interface:
		d.compare(path, reachable(got.Elem()), reachable(want.Elem()))
	case reflect.Pointer:
		d.follow(path, got, want, func() { d.compare(path, got.Elem(), want.Elem()) })
	case reflect.Map:
		d.follow(path, got, want, func() { d.compareMaps(path, got, want) })
	case reflect.Slice:
		d.followList(path, got, want)
	case reflect.Array:
		d.compareLists(path, got, want)
	default:
		if !sameScalar(got, want) {
			d.add(path, got, want)
		}
	}
}

// addTyped tells two values apart by their types too, and types of the same name by where they are from.
func (d *differ) addTyped(path string, got, want reflect.Value) {
	typed := func(v reflect.Value) string {
		if !v.IsValid() {
			return "nil"
		}
		text := Text(v.Interface())
		if v.Kind() == reflect.Struct && v.Type().Name() != "" {
			return text
		}
		return v.Type().String() + "(" + text + ")"
	}
	had, wanted := typed(got), typed(want)
	if got.IsValid() && want.IsValid() && got.Type().String() == want.Type().String() {
		if from, other := origin(got.Type()), origin(want.Type()); from != other {
			had, wanted = had+" of "+from, wanted+" of "+other
		} else {
			wanted += " of another type with that name"
		}
	}
	d.found = append(d.found, Difference{path, had, wanted})
}

// origin is the package that a type is from, or else the one of what it is made of.
func origin(t reflect.Type) string {
	made := []reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map}
	for t.PkgPath() == "" && slices.Contains(made, t.Kind()) {
		t = t.Elem()
	}
	return t.PkgPath()
}

func (d *differ) ignores(t reflect.Type, field string) bool {
	return slices.Contains(d.ignored, field) || slices.Contains(d.ignored, t.Name()+"."+field)
}

// follow compares what two pointers or maps lead to. Those that are nil are the same as empty maps.
func (d *differ) follow(path string, got, want reflect.Value, compare func()) {
	if got.Pointer() == want.Pointer() {
		return
	}
	if got.Kind() == reflect.Pointer && (got.IsNil() || want.IsNil()) {
		d.add(path, got, want)
		return
	}
	d.once(visit{got: got.Pointer(), want: want.Pointer(), typ: got.Type()}, compare)
}

// once compares a pair, unless that is under way further up.
func (d *differ) once(at visit, compare func()) {
	if _, again := d.open[at]; again {
		return
	}
	d.open[at] = struct{}{}
	compare()
	delete(d.open, at)
}

// followList compares two slices, which may hold themselves.
func (d *differ) followList(path string, got, want reflect.Value) {
	if got.Len() == 0 || want.Len() == 0 {
		d.compareLists(path, got, want)
		return
	}
	at := visit{got: got.Pointer(), want: want.Pointer(), typ: got.Type(), length: max(got.Len(), want.Len())}
	d.once(at, func() { d.compareLists(path, got, want) })
}

// compareMaps goes through the keys of both, as the maps tell them apart: two keys may have the same text.
func (d *differ) compareMaps(path string, got, want reflect.Value) {
	type entry struct {
		key  reflect.Value
		text string
	}
	var entries []entry
	for key := range got.Seq() {
		entries = append(entries, entry{key, textOfPart(key)})
	}
	for key := range want.Seq() {
		if !got.MapIndex(key).IsValid() {
			entries = append(entries, entry{key, textOfPart(key)})
		}
	}
	seen := map[string]int{}
	for _, e := range entries {
		seen[e.text]++
	}
	for i, e := range entries {
		if seen[e.text] > 1 { // only their types tell them apart
			entries[i].text = typeOfKey(e.key) + "(" + e.text + ")"
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.text, b.text) })
	for _, e := range entries {
		at := path + "[" + e.text + "]"
		g, w := got.MapIndex(e.key), want.MapIndex(e.key)
		switch {
		case !g.IsValid():
			d.found = append(d.found, Difference{at, absent, textOfPart(w)})
		case !w.IsValid():
			d.found = append(d.found, Difference{at, textOfPart(g), absent})
		default:
			d.compare(at, reachable(g), reachable(w))
		}
	}
}

func (d *differ) compareLists(path string, got, want reflect.Value) {
	if got.Type().Elem().Kind() == reflect.Uint8 {
		if !bytes.Equal(bytesOf(got), bytesOf(want)) {
			d.add(path, got, want)
		}
		return
	}
	for i := range max(got.Len(), want.Len()) {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case i >= got.Len():
			d.found = append(d.found, Difference{at, absent, textOfPart(want.Index(i))})
		case i >= want.Len():
			d.found = append(d.found, Difference{at, textOfPart(got.Index(i)), absent})
		default:
			d.compare(at, got.Index(i), want.Index(i))
		}
	}
}

func typeOfKey(key reflect.Value) string {
	if key.Kind() == reflect.Interface && !key.IsNil() {
		key = key.Elem()
	}
	return key.Type().String()
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

func sameScalar(got, want reflect.Value) bool {
	if got.CanFloat() && math.IsNaN(got.Float()) {
		return math.IsNaN(want.Float())
	}
	if got.Kind() == reflect.Func {
		return got.Pointer() == want.Pointer()
	}
	return got.Equal(want)
}

// askEqual asks a type that has a method Equal for itself, as [time.Time] and many kinds of number have. One that panics, because a
// value is in no state to be asked, is not asked.
func askEqual(got, want reflect.Value) (equal, asked bool) {
	if g, ok := reflect.TypeAssert[time.Time](got); ok {
		w, ok := reflect.TypeAssert[time.Time](want)
		return ok && g.Equal(w), true
	}
	if got.Kind() == reflect.Pointer || got.Kind() == reflect.Interface {
		return false, false // what it points to is asked; nil need not know how to answer
	}
	method := got.MethodByName("Equal")
	if !method.IsValid() {
		return false, false
	}
	t := method.Type()
	if t.NumIn() != 1 || t.NumOut() != 1 || t.In(0) != want.Type() || t.Out(0).Kind() != reflect.Bool {
		return false, false
	}
	defer func() {
		if recover() != nil {
			equal, asked = false, false
		}
	}()
	return method.Call([]reflect.Value{want})[0].Bool(), true
}
