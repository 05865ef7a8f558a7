package compare_test

import (
	"go/scanner"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	textscanner "text/scanner"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/compare"
)

type color int

func (c color) String() string { return [...]string{"red", "green"}[c] } // panics for others

type money struct {
	cents    int64
	Currency string
}

type order struct {
	ID     uuid.UUID
	Placed time.Time
	Lines  []line
	Notes  map[string]string
	parent *order
	hue    color
	any    any
	do     func()
}

type line struct {
	Amount money
	Raw    []byte
}

// tolerant is equal to what is near.
type tolerant struct{ v float64 }

func (a tolerant) Equal(b tolerant) bool { return math.Abs(a.v-b.v) < 0.5 }

// generated is shaped like a message of protobuf.
type generated struct {
	state int
	Name  string
}

func (*generated) ProtoReflect() {}

var (
	noon = time.Date(2030, 5, 6, 12, 0, 0, 0, time.UTC)
	id   = uuid.MustParse("018f3a52-0000-7000-8000-000000000001")
)

func loop(hue color) *order {
	o := &order{hue: hue}
	o.parent = o
	return o
}

func TestTextShowsWhatIsInAValue(t *testing.T) {
	t.Parallel()
	var none *order
	var empty map[string]any
	holdsItself := map[string]any{}
	holdsItself["me"] = holdsItself
	for _, tt := range []struct {
		v    any
		want string
	}{
		{nil, "nil"},
		{none, "nil"},
		{empty, "nil"},
		{true, "true"},
		{7, "7"},
		{uint8(7), "7"},
		{1.5, "1.5"},
		{"a\nb", `"a\nb"`},
		{color(1), "green (1)"},
		{color(5), "5"},
		{[2]int{1, 2}, "[1, 2]"},
		{[]byte("text"), `"text"`},
		{[3]byte{'a', 'b', 'c'}, `"abc"`},
		{[]byte{0, 255}, "0x00ff"},
		{struct{ a int }{1}, "{a: 1}"},
		{big.NewInt(12), "&12"},
		{id, id.String()},
		{noon, "2030-05-06T12:00:00Z"},
		{map[string]int{"b": 2, "a": 1}, `{"a": 1, "b": 2}`},
		{holdsItself, `{"me": (itself)}`},
		{loop(1), "&compare_test.order{parent: (itself), hue: green (1)}"},
		{order{do: func() {}}, "compare_test.order{do: func()}"},
		{&generated{state: 1, Name: "x"}, `&compare_test.generated{Name: "x"}`},
		{
			order{Placed: noon, Lines: []line{{Amount: money{cents: 5}, Raw: []byte("x")}}, any: money{cents: 1}},
			`compare_test.order{Placed: 2030-05-06T12:00:00Z, Lines: [{Amount: {cents: 5}, Raw: "x"}], any: compare_test.money{cents: 1}}`,
		},
	} {
		if got := compare.Text(tt.v); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestValuesFindsEveryDifferenceAndNoOther(t *testing.T) {
	t.Parallel()
	fn := func() {}
	there := time.FixedZone("there", 3600)
	for name, tt := range map[string]struct {
		got, want any
		ignored   []string
		differs   []string
	}{
		"the same":            {got: order{ID: id, do: fn}, want: order{ID: id, do: fn}},
		"nil and empty":       {got: order{Lines: []line{}, Notes: map[string]string{}}, want: order{}},
		"one instant":         {got: order{Placed: noon.In(there)}, want: order{Placed: noon}},
		"a method Equal":      {got: []tolerant{{1}}, want: []tolerant{{1.2}}},
		"not a number":        {got: math.NaN(), want: math.NaN()},
		"loops":               {got: loop(1), want: loop(1)},
		"state of protobuf":   {got: &generated{state: 1}, want: &generated{}},
		"both nil":            {},
		"an ignored field":    {got: order{ID: id, hue: 1}, want: order{}, ignored: []string{"ID", "order.hue"}},
		"ignored of another":  {got: money{cents: 1}, want: money{}, ignored: []string{"order.cents"}, differs: []string{"cents: got 1, want 0"}},
		"unexported":          {got: money{cents: 1}, want: money{}, differs: []string{"cents: got 1, want 0"}},
		"times":               {got: noon, want: noon.Add(1), differs: []string{"got 2030-05-06T12:00:00Z, want 2030-05-06T12:00:00.000000001Z"}},
		"a method Equal, far": {got: tolerant{1}, want: tolerant{2}, differs: []string{"got {v: 1}, want {v: 2}"}},
		"types":               {got: 1, want: "1", differs: []string{`got int(1), want string("1")`}},
		"types of structs":    {got: money{}, want: line{}, differs: []string{"got compare_test.money{}, want compare_test.line{}"}},
		"nil":                 {got: nil, want: money{}, differs: []string{"got nil, want compare_test.money{}"}},
		"nil pointer":         {got: order{parent: &order{}}, want: order{}, differs: []string{"parent: got &{}, want nil"}},
		"behind a pointer":    {got: loop(1), want: loop(0), differs: []string{"hue: got green (1), want red (0)"}},
		"functions":           {got: order{do: fn}, want: order{}, differs: []string{"do: got func(), want nil"}},
		"in an interface":     {got: order{any: 1}, want: order{any: int8(1)}, differs: []string{"any: got int(1), want int8(1)"}},
		"bytes":               {got: line{Raw: []byte("a")}, want: line{Raw: []byte{1}}, differs: []string{`Raw: got "a", want 0x01`}},
		"lists": {
			got:  order{Lines: []line{{Amount: money{cents: 1}}, {}}},
			want: order{Lines: []line{{Amount: money{cents: 2}}}},
			differs: []string{
				"Lines[0].Amount.cents: got 1, want 2",
				"Lines[1]: got {}, want nothing",
			},
		},
		"maps": {
			got:  map[string]money{"a": {cents: 1}, "b": {}},
			want: map[string]money{"a": {}, "c": {}},
			differs: []string{
				`["a"].cents: got 1, want 0`,
				`["b"]: got {}, want nothing`,
				`["c"]: got nothing, want {}`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, d := range compare.Values(tt.got, tt.want, tt.ignored) {
				got = append(got, d.String())
			}
			if strings.Join(got, "\n") != strings.Join(tt.differs, "\n") {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(tt.differs, "\n\t"))
			}
		})
	}
}

// secret is written as stars.
type secret string

func (secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// touchy is equal to nothing that it can be asked about.
type touchy struct{ v *int }

func (a touchy) Equal(b touchy) bool { return *a.v == *b.v }

// unequal is never equal.
type unequal struct{ V int }

func (unequal) Equal(unequal) bool { return false }

func namesake() any {
	type money struct{}
	return money{}
}

// TestValuesFindsWhatIsHidden has pairs that a comparison of texts, or a careless one, would take for the same.
func TestValuesFindsWhatIsHidden(t *testing.T) {
	t.Parallel()
	one := 1
	itself, other := []any{nil, 1}, []any{nil, 2}
	itself[0], other[0] = itself, other
	for name, tt := range map[string]struct {
		got, want any
		differs   string
	}{
		"keys of one text":           {map[any]int{1: 1, int64(1): 2}, map[any]int{1: 1}, `[int64(1)]: got 2, want nothing`},
		"keys of one text, missing":  {map[any]int{1: 1}, map[any]int{1: 1, int8(1): 0}, `[int8(1)]: got nothing, want 0`},
		"keys that are secret":       {map[secret]int{"a": 1, "b": 2}, map[secret]int{"a": 1, "b": 3}, `[compare_test.secret(***)]: got 2, want 3`},
		"a secret":                   {[]secret{"a"}, []secret{"b"}, `[0]: got "a", want "b"`},
		"a method Equal that panics": {touchy{}, touchy{&one}, `v: got nil, want &1`},
		"a method Equal that says no": {
			unequal{1}, unequal{1},
			`got {V: 1}, want {V: 1}, which is not the same, though it looks so`,
		},
		"a list in itself": {itself, other, `[1]: got 1, want 2`},
		"a part of a list": {[][]int{{1, 2, 3}}, [][]int{{1, 2}}, `[0][2]: got 3, want nothing`},
		"packages of one name": {
			(*scanner.Scanner)(nil), (*textscanner.Scanner)(nil),
			`got *scanner.Scanner(nil) of go/scanner, want *scanner.Scanner(nil) of text/scanner`,
		},
		"types of one name": {money{}, namesake(), `got compare_test.money{}, want compare_test.money{} of another type with that name`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			differs := compare.Values(tt.got, tt.want, nil)
			if len(differs) != 1 || differs[0].String() != tt.differs {
				t.Errorf("got\n\t%v\nwant\n\t%s", differs, tt.differs)
			}
			for _, v := range []any{tt.got, tt.want} {
				if name != "a method Equal that says no" && len(compare.Values(v, v, nil)) > 0 {
					t.Errorf("%s is not the same as itself", compare.Text(v))
				}
			}
		})
	}
	if got := compare.Text(itself); got != "[(itself), 1]" {
		t.Errorf("got %s", got)
	}
}

func TestRawLeavesNothingOut(t *testing.T) {
	t.Parallel()
	there := time.FixedZone("there", 3600)
	for _, tt := range []struct {
		v    any
		want string
	}{
		{map[string]secret{"a": "b"}, `{"a": "b"}`},
		{color(1), "1"},
		{noon.In(there), "2030-05-06T12:00:00Z"},
		{order{Placed: time.Time{}.In(there), hue: 1}, "compare_test.order{Placed: 0001-01-01T00:00:00Z, hue: 1}"},
	} {
		if got := compare.Raw(tt.v); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// TestAlignTakesLongLists holds that lists which are nearly the same do not take the square of their length, and are not written in full.
func TestAlignTakesLongLists(t *testing.T) {
	t.Parallel()
	long := make([]any, 50_000)
	for i := range long {
		long[i] = i
	}
	describe := func(got, want []any) string {
		var b strings.Builder
		compare.Align(got, want, nil).Describe(&b, "")
		return b.String()
	}
	if !compare.Align(long, long, nil).Same() {
		t.Error("a long list is not the same as itself")
	}
	without := slices.Delete(slices.Clone(long), 100, 101)
	want := "    1 as wanted   and so are those up to 100\n  101 unexpected  100\n  102 as wanted   and so are those up to 50000\n"
	if got := describe(long, without); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := describe(without, long); !strings.Contains(got, "\n      missing     100\n  101 as wanted   and so are those up to 49999\n") {
		t.Errorf("got\n%s", got)
	}
	slices.Reverse(without)
	if got := describe(without, long); strings.Count(got, "\n") > 150 || !strings.HasSuffix(got, "and more: 49999 in all, want 50000\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestAlignShowsOneElementTooManyAsOne(t *testing.T) {
	t.Parallel()
	got := []any{money{cents: 9}, color(0), color(1), line{}, "end"}
	want := []any{color(0), color(0), line{Amount: money{cents: 1}}, true, "end"}
	lists := compare.Align(got, want, nil)
	if lists.Same() {
		t.Error("the lists are not the same")
	}
	var b strings.Builder
	lists.Describe(&b, "> ")
	const text = `> 1 unexpected  compare_test.money{cents: 9}
> 2 as wanted   red (0)
> 3 differs     green (1)
>               got green (1), want red (0)
> 4 differs     compare_test.line{}
>               Amount.cents: got 0, want 1
>   missing     true
> 5 as wanted   "end"
`
	if b.String() != text {
		t.Errorf("got\n%swant\n%s", b.String(), text)
	}
	if !compare.Align(got, got, nil).Same() || !compare.Align(nil, nil, nil).Same() {
		t.Error("a list is not the same as itself")
	}
}

func TestLongTextsAreCut(t *testing.T) {
	t.Parallel()
	if got := compare.Clip(strings.Repeat("ä", 300)); got != strings.Repeat("ä", 200)+"... (200 bytes more)" {
		t.Errorf("got %s", got)
	}
	many := make([]any, 30)
	for i := range many {
		many[i] = i
	}
	var b strings.Builder
	compare.DescribeList(&b, "", many)
	if lines := strings.Split(b.String(), "\n"); len(lines) != 22 || lines[0] != "(10 before)" || lines[20] != "30 29" {
		t.Errorf("got\n%s", b.String())
	}
	b.Reset()
	compare.Describe(&b, "", compare.Values(many, make([]any, 30), nil))
	if lines := strings.Split(b.String(), "\n"); len(lines) != 14 || lines[12] != "and 18 more" {
		t.Errorf("got\n%s", b.String())
	}
}
