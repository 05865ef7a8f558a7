package eventsourcing_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// everything has a field of each kind that JSON can hold.
type everything struct {
	embedded

	Bool     bool              `json:"bool"`
	Int      int               `json:"int"`
	Int8     int8              `json:"int8"`
	Uint64   uint64            `json:"uint64"`
	Float32  float32           `json:"float32"`
	Float64  float64           `json:"float64,omitempty"`
	String   string            `json:"string"`
	Quoted   int               `json:"quoted,string"`
	Bytes    []byte            `json:"bytes"`
	Array    [2]int            `json:"array"`
	Slice    []line            `json:"slice"`
	Map      map[string]line   `json:"map"`
	ByID     map[uuid.UUID]int `json:"by_id"`
	Pointer  *line             `json:"pointer"`
	Optional *int              `json:"optional,omitempty"`
	Time     time.Time         `json:"time"`
	ID       uuid.UUID         `json:"id"`
	Raw      json.RawMessage   `json:"raw"`
	Number   json.Number       `json:"number"`
	Any      any               `json:"any"`
	Tree     *tree             `json:"tree"`
	Nameless struct{ X int }   `json:"nameless"`
	Price    price             `json:"price"`
	Large    *big.Int          `json:"large"`
	Untagged string
	Left     func() `json:"-"`
}

type embedded struct {
	Inner string `json:"inner"`
}

type line struct {
	SKU string `json:"sku"`
	By  string `json:"by,omitempty"`
}

// tree has trees in it.
type tree struct {
	Name     string  `json:"name"`
	Left     *tree   `json:"left"`
	Children []tree  `json:"children"`
	Others   []*tree `json:"others,omitempty"`
}

// price says itself what it is in JSON.
type price struct{ cents int64 }

func (p price) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%d.%02d", p.cents/100, p.cents%100), nil
}
func (p *price) UnmarshalText(text []byte) error { return scan(string(text), &p.cents) }

func scan(text string, cents *int64) error {
	var whole, rest int64
	_, err := fmt.Sscanf(text, "%d.%d", &whole, &rest)
	*cents = whole*100 + rest
	return err
}

// shade takes three words only, and not the empty one.
type shade string

func (c *shade) UnmarshalText(text []byte) error {
	if !slices.Contains([]string{"red", "green", "blue"}, string(text)) {
		return fmt.Errorf("%q is no shade", text)
	}
	*c = shade(text)
	return nil
}

type painted struct {
	Shade shade `json:"shade"`
}

// shout is written in capitals when there is a pointer to it.
type shout struct{ Text string }

func (s *shout) MarshalJSON() ([]byte, error) { return json.Marshal(strings.ToUpper(s.Text)) }

type shouted struct {
	Said shout `json:"said"`
}

type (
	hidden     struct{ Sku, count string }
	hiddenDeep struct{ Lines []map[string]hidden }
	leftOut    struct {
		SKU   string
		Cache []byte `json:"-"`
	}
	twice struct {
		here
		there
	}
	here      struct{ X string }
	there     struct{ X string }
	channel   struct{ C chan int }
	someone   struct{ Who fmt.Stringer }
	byFunc    struct{ F func() }
	lossy     struct{ Value lossyText }
	lossyText struct{ Text string }
)

func (lossyText) MarshalText() ([]byte, error) { return []byte("nothing"), nil }

func (l *lossyText) UnmarshalText([]byte) error { l.Text = "something"; return nil }

func TestRegisterFindsWhatDoesNotComeBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		register func(*es.Types)
		want     string // "" when it is fine
	}{
		"everything":          {func(types *es.Types) { es.Register[everything](types, "E") }, ""},
		"tree":                {func(types *es.Types) { es.Register[tree](types, "E") }, ""},
		"no struct":           {func(types *es.Types) { es.Register[shadeless](types, "E") }, ""},
		"map":                 {func(types *es.Types) { es.Register[map[string][]int](types, "E") }, ""},
		"left out on purpose": {func(types *es.Types) { es.Register[leftOut](types, "E") }, ""},
		"interface":           {func(types *es.Types) { es.Register[someone](types, "E") }, ""}, // only null can be in it
		"not exported":        {func(types *es.Types) { es.Register[hidden](types, "E") }, "hidden.count"},
		"not exported, deep":  {func(types *es.Types) { es.Register[hiddenDeep](types, "E") }, "hiddenDeep.Lines.count"},
		"name taken twice":    {func(types *es.Types) { es.Register[twice](types, "E") }, "twice.here.X"},
		"channel":             {func(types *es.Types) { es.Register[channel](types, "E") }, "cannot be encoded"},
		"function":            {func(types *es.Types) { es.Register[byFunc](types, "E") }, "cannot be encoded"},
		"lossy text":          {func(types *es.Types) { es.Register[lossy](types, "E") }, "lossy.Value.Text"},
		"pointer receiver":    {func(types *es.Types) { es.Register[shouted](types, "E", es.WithSample(shouted{shout{"A"}})) }, "value receiver"},
		"picky":               {func(types *es.Types) { es.Register[painted](types, "E") }, "WithSample"},
		"picky, with sample":  {func(types *es.Types) { es.Register[painted](types, "E", es.WithSample(painted{"red"})) }, ""},
		"sample of another type": {
			func(types *es.Types) { es.Register[painted](types, "E", es.WithSample(&painted{"red"})) }, "is a *eventsourcing_test.painted",
		},
		"sample that is lost": {
			func(types *es.Types) { es.Register[hidden](types, "E", es.WithSample(hidden{"A", ""})) }, "hidden.count",
		},
		"sample in an interface": {
			func(types *es.Types) { es.Register[someone](types, "E", es.WithSample(someone{time.Second})) }, "cannot be decoded",
		},
		"not tried": {func(types *es.Types) { es.Register[hidden](types, "E", es.WithoutRoundTrip()) }, ""},
		"other codec, not tried": {
			func(types *es.Types) { es.Register[hidden](types, "E", es.WithCodec(gobCodec{})) }, "",
		},
		"other codec, with sample": {
			func(types *es.Types) {
				es.Register[hidden](types, "E", es.WithCodec(gobCodec{}), es.WithSample(hidden{"A", "B"}))
			}, "hidden.count",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				p := recover()
				if test.want == "" && p != nil || test.want != "" && (p == nil || !strings.Contains(fmt.Sprint(p), test.want)) {
					t.Errorf("recovered %v, want %q", p, test.want)
				}
			}()
			test.register(es.NewTypes())
		})
	}
}

type shadeless []string

func TestSamplesHaveSomethingInEveryField(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[everything](types, "Everything")
	es.Register[hidden](types, "Hidden", es.WithoutRoundTrip())
	es.Register[painted](types, "Painted", es.WithSample(painted{"red"}), es.WithSchema(4))
	es.Register[itemAdded](types, "Coded", es.WithCodec(gobCodec{}))
	samples, err := types.Samples()
	if err != nil || len(samples) != 4 {
		t.Fatal(samples, err)
	}
	again, err := types.Samples()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"Coded", "Everything", "Hidden", "Painted"} {
		if m := samples[i]; m.Name != name || !bytes.Equal(m.Data, again[i].Data) {
			t.Errorf("sample %d is %s, %s, want %s, the same each time: %s", i, m.Name, m.Data, name, again[i].Data)
		}
	}
	if m := samples[3]; m.Schema != 4 || string(m.Data) != `{"shade":"red"}` {
		t.Errorf("the sample that was given is %d, %s", m.Schema, m.Data)
	}
	v, err := es.Decode[everything](types, samples[1])
	if err != nil {
		t.Fatal(err)
	}
	value := reflect.ValueOf(v)
	for i := range value.NumField() {
		field := value.Type().Field(i)
		if itself := field.Name == "Price" || field.Name == "Left"; value.Field(i).IsZero() != itself {
			t.Errorf("the sample has %v in %s", value.Field(i), field.Name)
		}
	}
	if within := v.Tree.Left; within == nil || within.Name == "" || within.Left != nil || within.Children != nil || within.Others != nil {
		t.Errorf("a tree is to have one of each in it, and these none: %s", samples[1].Data)
	}
}

func TestSamplesSayWhatTheyCannotMake(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[channel](types, "Channel", es.WithoutRoundTrip())
	es.Register[itemAdded](types, "ItemAdded")
	samples, err := types.Samples()
	if err == nil || !strings.Contains(err.Error(), "channel") || !strings.Contains(err.Error(), "WithSample") {
		t.Errorf("error %v", err)
	}
	if len(samples) != 1 || samples[0].Name != "ItemAdded" {
		t.Errorf("samples of the others are %v", samples)
	}
}

// gobCodec stands for any other codec.
type gobCodec struct{}

func (gobCodec) ContentType() string { return "application/x-gob" }

func (gobCodec) Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func (gobCodec) Unmarshal(data []byte, v any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(v)
}

// generated stands for a message that protobuf has generated: a pointer that writes itself, with notes that are not exported.
type generated struct {
	noted bool
	SKU   string
}

func (g *generated) wire() []byte { g.noted = true; return []byte("sku=" + g.SKU) }

type wireCodec struct{}

func (wireCodec) ContentType() string { return "application/x-wire" }

func (wireCodec) Marshal(v any) ([]byte, error) {
	g, ok := v.(*generated)
	if !ok {
		return nil, fmt.Errorf("%T is no message of this codec", v)
	}
	return g.wire(), nil
}

func (wireCodec) Unmarshal(data []byte, v any) error {
	g, ok := v.(*generated)
	sku, found := strings.CutPrefix(string(data), "sku=")
	if !ok || !found {
		return fmt.Errorf("%s does not fit %T", data, v)
	}
	g.SKU = sku
	return nil
}

func TestTypesHaveCodecsOfTheirOwn(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded", es.WithCodec(gobCodec{}, es.JSON{}))
	es.Register[*generated](types, "Generated", es.WithCodec(wireCodec{}), es.WithSample(&generated{SKU: "A-1"}))
	es.Register[itemRemoved](types, "ItemRemoved")

	m, err := types.Encode("item-1", itemAdded{"A-1", 2})
	if err != nil || m.ContentType != "application/x-gob" {
		t.Fatalf("encoded as %+v, %v", m, err)
	}
	if v, err := types.Decode(m); err != nil || v != (itemAdded{"A-1", 2}) {
		t.Errorf("decoded as %+v, %v", v, err)
	}
	if v, err := types.Decode(stored("ItemAdded", 1, `{"sku":"A-1","quantity":2}`)); err != nil || v != (itemAdded{"A-1", 2}) {
		t.Errorf("what an older codec wrote is decoded as %+v, %v", v, err)
	}
	if v, err := types.Decode(stored("ItemRemoved", 1, `{"sku":"A-1"}`)); err != nil || v != (itemRemoved{"A-1"}) {
		t.Errorf("another type is decoded as %+v, %v", v, err)
	}

	one := &generated{SKU: "A-1"}
	for _, v := range []any{one, &one} {
		m, err = types.Encode("item-1", one)
		if err != nil || string(m.Data) != "sku=A-1" {
			t.Fatalf("%T is encoded as %+v, %v", v, m, err)
		}
	}
	if back, err := es.Decode[*generated](types, m); err != nil || back.SKU != "A-1" {
		t.Errorf("decoded as %+v, %v", back, err)
	}
	if back, err := es.Decode[*generated](types, erased("Generated", 1)); err != nil || back == nil || back.SKU != "" {
		t.Errorf("erased, it is decoded as %+v, %v", back, err)
	}
	var nothing *generated
	for _, v := range []any{nothing, *one} {
		if _, err := types.Encode("item-1", v); !errors.Is(err, es.ErrUnknownType) {
			t.Errorf("encode %T: %v", v, err)
		}
	}
}

func TestRegisterTakesPointersOnlyWhereValuesCannotBe(t *testing.T) {
	t.Parallel()
	for name, register := range map[string]func(*es.Types){
		"JSON":                 func(types *es.Types) { es.Register[*generated](types, "E") },
		"pointer to no struct": func(types *es.Types) { es.Register[*int](types, "E", es.WithCodec(gobCodec{})) },
		"interface":            func(types *es.Types) { es.Register[fmt.Stringer](types, "E", es.WithCodec(gobCodec{})) },
		"nil former codec":     func(types *es.Types) { es.Register[itemAdded](types, "E", es.WithCodec(gobCodec{}, nil)) },
		"nil sample": func(types *es.Types) {
			es.Register[*generated](types, "E", es.WithCodec(wireCodec{}), es.WithSample((*generated)(nil)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "invalid") {
					t.Errorf("recovered %v", p)
				}
			}()
			register(es.NewTypes())
		})
	}
}

type seatTaken struct {
	Course, Student string
}

func (s seatTaken) EventTags() []string {
	return []string{"course:" + s.Course, "student:" + s.Student}
}

type seatLeft struct{ Course string }

func (s *seatLeft) EventTags() []string { return []string{"course:" + s.Course} }

func TestEncodeSetsTheTagsOfTheEvent(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[seatTaken](types, "SeatTaken")
	es.Register[itemAdded](types, "ItemAdded")
	event := seatTaken{"go-101", "dana"}
	pointer := &event
	for _, v := range []any{event, pointer, &pointer} {
		m, err := types.Encode("course-1", v)
		if err != nil || !slices.Equal(m.Tags, []string{"course:go-101", "student:dana"}) {
			t.Errorf("%T is encoded with the tags %q, %v", v, m.Tags, err)
		}
	}
	if m, err := types.Encode("item-1", itemAdded{}); err != nil || len(m.Tags) != 0 {
		t.Errorf("an event without tags is encoded with %q, %v", m.Tags, err)
	}
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "value receiver") {
			t.Errorf("tags that a value would not have: recovered %v", p)
		}
	}()
	es.Register[seatLeft](types, "SeatLeft")
}

func ExampleTagged() {
	types := es.NewTypes()
	es.Register[seatTaken](types, "SeatTaken") // it has the method EventTags

	m, err := types.Encode("course-go-101", seatTaken{Course: "go-101", Student: "dana"})
	fmt.Println(m.Tags, err)
	// Output:
	// [course:go-101 student:dana] <nil>
}
