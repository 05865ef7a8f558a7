package estest_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

// golden checks the types made by register against a file, and returns what the check said.
func golden(t *testing.T, path string, register func(*es.Types), options ...estest.StoredEventsOption) *standIn {
	t.Helper()
	types := es.NewTypes()
	register(types)
	return try(t, estest.Line[struct{}]{Run: func(t testing.TB, _ struct{}) {
		estest.CheckStoredEvents(t, types, path, options...)
	}}, struct{}{})
}

// record returns a file with the events of the types made by register.
func record(t *testing.T, register func(*es.Types)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "testdata", "events.golden.json")
	t.Setenv(estest.UpdateVariable, "1")
	if s := golden(t, path, register); s.Failed() {
		t.Fatalf("cannot be recorded: %s", s.log())
	}
	t.Setenv(estest.UpdateVariable, "")
	if s := golden(t, path, register); s.Failed() || s.log() != "" {
		t.Fatalf("what was just recorded does not pass: %s", s.log())
	}
	return path
}

// as registers a type, also one with a field that another hides, which Register would not take.
func as[T any](name string, options ...es.TypeOption) func(*es.Types) {
	return func(types *es.Types) { es.Register[T](types, name, append(options, es.WithoutRoundTrip())...) }
}

// gobCodec stands for any codec whose data is not JSON.
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

type (
	sku    struct{ SKU string }
	skuToo struct{ SKU, Shade string }
	skuNot struct{ Article string }
)

// Not parallel: the environment says whether the file is updated.
func TestStoredEventsFailWhenAChangeBreaksThem(t *testing.T) {
	path := record(t, as[storedOrder]("OrderPlaced", es.WithSchema(2)))
	v2 := es.WithSchema(2)
	for name, test := range map[string]struct {
		register func(*es.Types)
		want     string
	}{
		"field renamed": {as[struct {
			Article string       `json:"article"`
			Count   int64        `json:"count"`
			Price   float64      `json:"price"`
			Paid    bool         `json:"paid"`
			At      time.Time    `json:"at"`
			Lines   []storedLine `json:"lines"`
			Gift    *storedLine  `json:"gift"`
			Labels  map[string]string
			Tree    storedTree `json:"tree"`
		}]("OrderPlaced", v2), `sku was "text 2" and is lost`},
		"field removed":        {as[unpaid]("OrderPlaced", v2), "paid was true and is lost"},
		"field not exported":   {as[notExported]("OrderPlaced", v2), "count was -9"},
		"field of a list":      {as[otherLines]("OrderPlaced", v2), `lines[0].text was "text 9" and is lost`},
		"field behind pointer": {as[otherGift]("OrderPlaced", v2), `gift.text was`},
		"field of a tree":      {as[otherTree]("OrderPlaced", v2), `tree.next.name was`},
		"map to struct":        {as[otherLabels]("OrderPlaced", v2), `Labels.text 1 was`},
		"number to text":       {as[typed[string, float64, bool, time.Time]]("OrderPlaced", v2), "cannot be decoded any more"},
		"text to number":       {as[textless]("OrderPlaced", v2), "cannot be decoded any more"},
		"text to bytes":        {as[texts[[]byte]]("OrderPlaced", v2), "cannot be decoded any more"},
		"text to time":         {as[texts[time.Time]]("OrderPlaced", v2), "cannot be decoded any more"},
		"narrower number":      {as[typed[int32, float64, bool, time.Time]]("OrderPlaced", v2), "cannot be decoded any more"},
		"without sign":         {as[typed[uint64, float64, bool, time.Time]]("OrderPlaced", v2), "cannot be decoded any more"},
		"whole to floating":    {as[typed[float64, float64, bool, time.Time]]("OrderPlaced", v2), "count was -9"},
		"floating to whole":    {as[typed[int64, int64, bool, time.Time]]("OrderPlaced", v2), "cannot be decoded any more"},
		"less precise":         {as[typed[int64, float32, bool, time.Time]]("OrderPlaced", v2), "price was 4.123456789 and comes back as 4.1234"},
		"bool to number":       {as[typed[int64, float64, int, time.Time]]("OrderPlaced", v2), "cannot be decoded any more"},
		"name gone":            {func(*es.Types) {}, "not registered any more"},
		"other name":           {as[storedOrder]("OrderMade", v2), "not registered any more"},
		"schema lowered":       {as[storedOrder]("OrderPlaced"), "Schemas only go up"},
		"schema raised without upcaster": {
			as[storedOrder]("OrderPlaced", es.WithSchema(3)), "there is no upcaster from schema 2",
		},
		"upcaster to what is not registered": {func(types *es.Types) {
			es.Upcast(types, "OrderPlaced", 2, es.RenameEvent("OrderMade", 1))
		}, `"OrderMade" (schema 1) of it, which is not registered`},
		"upcaster that fails": {func(types *es.Types) {
			es.Register[storedOrder](types, "OrderPlaced", es.WithSchema(3))
			es.Upcast(types, "OrderPlaced", 2, es.UpcastJSON(3, es.RenameField("sku", "paid")))
		}, "cannot be decoded any more"},
		"upcaster that makes what does not fit": {func(types *es.Types) {
			es.Register[storedOrder](types, "OrderPlaced", es.WithSchema(3))
			es.Upcast(types, "OrderPlaced", 2, es.UpcastJSON(3, es.RemoveField("sku"), es.AddField("sku", 7)))
		}, "cannot be decoded any more"},
		"upcaster that changes what is stored": {func(types *es.Types) {
			es.Upcast(types, "OrderPlaced", 2, func(m *es.Message) ([]*es.Message, error) {
				m.Data[0] = ' '
				return nil, nil
			})
		}, "changes the stored message"},
		"upcaster that is never the same": {func(types *es.Types) {
			es.Register[storedLine](types, "Line", es.WithSchema(2))
			n := 0
			es.Upcast(types, "OrderPlaced", 2, func(m *es.Message) ([]*es.Message, error) {
				n++
				next := m.Clone()
				next.Name, next.Data = "Line", fmt.Appendf(nil, `{"text":"%d"}`, n)
				return []*es.Message{next}, nil
			})
		}, "something else each time"},
		"codec replaced": {as[storedOrder]("OrderPlaced", v2, es.WithCodec(gobCodec{})), "cannot be decoded any more"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, update := range []string{"", "1"} { // an update does not make it good
				t.Setenv(estest.UpdateVariable, update)
				aside := filepath.Join(t.TempDir(), "events.golden.json")
				was := readFile(t, path)
				if err := os.WriteFile(aside, was, 0o600); err != nil {
					t.Fatal(err)
				}
				s := golden(t, aside, test.register)
				if !s.Failed() || !strings.Contains(s.log(), "OrderPlaced (schema 2)") || !strings.Contains(s.log(), test.want) {
					t.Errorf("with update %q: failed %t, with %s; want %q", update, s.Failed(), s.log(), test.want)
				}
				if !bytes.Equal(readFile(t, aside), was) {
					t.Error("the file was changed")
				}
			}
		})
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestStoredEventsPassACompatibleChange(t *testing.T) {
	path := record(t, as[storedOrder]("OrderPlaced", es.WithSchema(2)))
	for name, register := range map[string]func(*es.Types){
		"none":                  as[storedOrder]("OrderPlaced", es.WithSchema(2)),
		"Go names":              as[renamedInGo]("OrderPlaced", es.WithSchema(2)),
		"time to text":          as[typed[int64, float64, bool, string]]("OrderPlaced", es.WithSchema(2)),
		"fields added, widened": as[compatible]("OrderPlaced", es.WithSchema(2)),
		"codec replaced, the former kept": as[storedOrder]("OrderPlaced", es.WithSchema(2), es.WithCodec(gobCodec{}, es.JSON{}),
			es.WithSample(storedOrder{SKU: "A"})),
		"dropped": func(types *es.Types) { es.Upcast(types, "OrderPlaced", 2, es.DropEvent) },
	} {
		t.Run(name, func(t *testing.T) {
			if s := golden(t, path, register); s.Failed() {
				t.Error(s.log())
			}
		})
	}
	t.Run("a new field is logged, or wanted", func(t *testing.T) {
		register := as[compatible]("OrderPlaced", es.WithSchema(2))
		s := golden(t, path, register)
		if s.Failed() || !strings.Contains(s.log(), "more_lines[].text, shade") {
			t.Errorf("failed %t, with %s", s.Failed(), s.log())
		}
		s = golden(t, path, register, estest.WantAllFields())
		if !s.Failed() || !strings.Contains(s.log(), "more_lines[].text, shade") {
			t.Errorf("failed %t, with %s", s.Failed(), s.log())
		}
	})
}

func TestStoredEventsKeepWhatWasEverRecorded(t *testing.T) {
	type v1 struct {
		Article string `json:"article"`
	}
	type v2 struct {
		SKU string `json:"sku"`
	}
	type v2Later struct {
		SKU   string `json:"sku"`
		Shade string `json:"shade,omitempty"`
	}
	path := record(t, as[v1]("Placed"))
	upcast := es.UpcastJSON(2, es.RenameField("article", "sku"))
	second := func(types *es.Types) {
		es.Register[v2](types, "Placed", es.WithSchema(2))
		es.Upcast(types, "Placed", 1, upcast)
	}
	if s := golden(t, path, second); !s.Failed() || !strings.Contains(s.log(), "Placed (schema 2) is not in") ||
		!strings.Contains(s.log(), estest.UpdateVariable) {
		t.Errorf("a schema that is not recorded: failed %t, with %s", s.Failed(), s.log())
	}
	update := func(register func(*es.Types)) {
		t.Helper()
		was := readFile(t, path)
		t.Setenv(estest.UpdateVariable, "true")
		for range 2 { // the second time changes nothing
			if s := golden(t, path, register); s.Failed() {
				t.Error(s.log())
			}
		}
		t.Setenv(estest.UpdateVariable, "")
		if s := golden(t, path, register, estest.WantAllFields()); s.Failed() {
			t.Error(s.log())
		}
		var before, after struct {
			Events []json.RawMessage `json:"events"`
		}
		if err := json.Unmarshal(was, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(readFile(t, path), &after); err != nil {
			t.Fatal(err)
		}
		if len(after.Events) != len(before.Events)+1 {
			t.Errorf("there were %d events, now %d", len(before.Events), len(after.Events))
		}
		for i, e := range before.Events {
			if !bytes.Equal(e, after.Events[i]) {
				t.Errorf("event %d was %s, now %s", i, e, after.Events[i])
			}
		}
	}
	update(second)
	update(func(types *es.Types) {
		es.Register[v2Later](types, "Placed", es.WithSchema(2))
		es.Upcast(types, "Placed", 1, upcast)
	})
	if s := golden(t, path, second); !s.Failed() || !strings.Contains(s.log(), `shade was "text 3" and is lost`) {
		t.Errorf("a field that was added, recorded and removed: failed %t, with %s", s.Failed(), s.log())
	}
}

func TestStoredEventsOfOtherCodecs(t *testing.T) {
	coded := es.WithCodec(gobCodec{})
	path := record(t, as[sku]("Placed", coded))
	if s := golden(t, path, as[skuToo]("Placed", coded)); s.Failed() || !strings.Contains(s.log(), "Shade") {
		t.Errorf("a field added: failed %t, with %s", s.Failed(), s.log())
	}
	if s := golden(t, path, as[skuNot]("Placed", coded)); !s.Failed() {
		t.Errorf("a field renamed: %s", s.log())
	}
	both := record(t, as[skuToo]("Placed", coded))
	if s := golden(t, both, as[sku]("Placed", coded)); !s.Failed() || !strings.Contains(s.log(), `Shade was "text 3" and is lost`) {
		t.Errorf("a field removed: failed %t, with %s", s.Failed(), s.log())
	}
}

func TestStoredEventsSayWhatIsWrongWithTheFile(t *testing.T) {
	for name, test := range map[string]struct{ content, want string }{
		"no JSON":       {`{`, "EOF"},
		"other fields":  {`{"events":[{"nome":"A"}]}`, "nome"},
		"no name":       {`{"events":[{"schema":1,"contentType":"a","data":{}}]}`, "damaged"},
		"broken base64": {`{"events":[{"name":"Placed","schema":1,"contentType":"a","base64":"?"}]}`, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.golden.json")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if s := golden(t, path, as[sku]("Placed")); !s.Failed() || !strings.Contains(s.log(), test.want) {
				t.Errorf("failed %t, with %s", s.Failed(), s.log())
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "events.golden.json")
		if s := golden(t, path, as[sku]("Placed")); !s.Failed() || !strings.Contains(s.log(), "is not in "+path) {
			t.Errorf("failed %t, with %s", s.Failed(), s.log())
		}
	})
	t.Run("cannot be written", func(t *testing.T) {
		t.Setenv(estest.UpdateVariable, "1")
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if s := golden(t, filepath.Join(file, "events.golden.json"), as[sku]("Placed")); !s.Failed() {
			t.Errorf("it passes: %s", s.log())
		}
	})
	t.Run("variable", func(t *testing.T) {
		t.Setenv(estest.UpdateVariable, "please")
		if s := golden(t, "unused", as[sku]("Placed")); !s.Failed() || !strings.Contains(s.log(), "please") {
			t.Errorf("failed %t, with %s", s.Failed(), s.log())
		}
	})
	t.Run("no sample", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "events.golden.json")
		register := as[struct{ F func() }]("Placed")
		if s := golden(t, path, register); !s.Failed() || !strings.Contains(s.log(), "WithSample") {
			t.Errorf("failed %t, with %s", s.Failed(), s.log())
		}
	})
}

// TestStoredEventsOfNothingFail holds that a check which has nothing to look after does not pass.
func TestStoredEventsOfNothingFail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.golden.json")
	mustReport(t, "no type is registered and "+path+" has no event: there is nothing to look after", func(t testing.TB) {
		estest.CheckStoredEvents(t, es.NewTypes(), path)
	})
	mustReport(t, "estest.CheckStoredEvents has no types; give it those that the program stores events with", func(t testing.TB) {
		estest.CheckStoredEvents(t, nil, path)
	})
}
