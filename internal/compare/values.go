package compare

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
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

func (d *differ) add(path string, got, want reflect.Value) {
	d.found = append(d.found, Difference{path, textOfPart(got), textOfPart(want)})
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
	case reflect.Slice, reflect.Array:
		d.compareLists(path, got, want)
	default:
		if !sameScalar(got, want) {
			d.add(path, got, want)
		}
	}
}

// addTyped tells two values apart by their types too.
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
	d.found = append(d.found, Difference{path, typed(got), typed(want)})
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
	at := visit{got.Pointer(), want.Pointer(), got.Type()}
	if _, again := d.open[at]; again {
		return // it is compared further up
	}
	d.open[at] = struct{}{}
	compare()
	delete(d.open, at)
}

func (d *differ) compareMaps(path string, got, want reflect.Value) {
	byText := map[string]reflect.Value{}
	for _, m := range []reflect.Value{got, want} {
		for key := range m.Seq() {
			byText[textOfPart(key)] = key
		}
	}
	for _, text := range slices.Sorted(maps.Keys(byText)) {
		at := path + "[" + text + "]"
		g, w := got.MapIndex(byText[text]), want.MapIndex(byText[text])
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

// askEqual asks a type that has a method Equal for itself, as [time.Time] and many kinds of number have.
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
	return method.Call([]reflect.Value{want})[0].Bool(), true
}
