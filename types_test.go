package eventsourcing_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

type itemAdded struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

type itemRemoved struct {
	SKU string `json:"sku"`
}

func TestTypesRoundTrip(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded", es.WithSchema(2))
	for _, v := range []any{itemAdded{"A-1", 2}, &itemAdded{"A-1", 2}} {
		m, err := types.Encode("item-1", v)
		if err != nil {
			t.Fatal(err)
		}
		if m.Name != "ItemAdded" || m.Schema != 2 || m.Stream != "item-1" || string(m.Data) != `{"sku":"A-1","quantity":2}` {
			t.Errorf("encoded as %+v", m)
		}
		got, err := es.Decode[itemAdded](types, m)
		if err != nil || got != (itemAdded{"A-1", 2}) {
			t.Errorf("decoded as %+v, %v", got, err)
		}
	}
}

func TestTypesNameWhatTheyDoNotKnow(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded", es.WithSchema(2))
	es.Register[itemRemoved](types, "ItemRemoved")

	m := es.NewMessage("item-1", "ItemLost", []byte(`{}`))
	if _, err := types.Decode(m); !errors.Is(err, es.ErrUnknownType) || !strings.Contains(err.Error(), "ItemLost") {
		t.Errorf("unknown name: %v", err)
	}
	m.Name = "ItemAdded"
	if _, err := types.Decode(m); !errors.Is(err, es.ErrUnknownType) || !strings.Contains(err.Error(), "schema 2") {
		t.Errorf("unknown schema: %v", err)
	}
	m.Schema = 2
	if _, err := es.Decode[itemRemoved](types, m); err == nil || !strings.Contains(err.Error(), "itemRemoved") {
		t.Errorf("another type: %v", err)
	}
	m.Data = []byte(`{"sku":1}`)
	if _, err := types.Decode(m); err == nil || !strings.Contains(err.Error(), "ItemAdded") {
		t.Errorf("other data: %v", err)
	}
	m.Data = []byte(`{} {}`)
	if _, err := types.Decode(m); err == nil {
		t.Error("data behind the value is overlooked")
	}
	var nothing *itemAdded
	for _, v := range []any{nil, 7, nothing} {
		if _, err := types.Encode("item-1", v); !errors.Is(err, es.ErrUnknownType) {
			t.Errorf("encode %T: %v", v, err)
		}
	}
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded")
	if name, err := es.NameOf[itemAdded](types); name != "ItemAdded" || err != nil {
		t.Errorf("got %q, %v", name, err)
	}
	if _, err := es.NameOf[itemRemoved](types); !errors.Is(err, es.ErrUnknownType) || !strings.Contains(err.Error(), "itemRemoved") {
		t.Errorf("a type that is not registered: %v", err)
	}
	if _, err := es.NameOf[*itemAdded](types); !errors.Is(err, es.ErrUnknownType) {
		t.Errorf("a pointer: %v", err)
	}
}

func TestRegisterPanicsOnAMistake(t *testing.T) {
	t.Parallel()
	for name, register := range map[string]func(*es.Types){
		"name taken":  func(types *es.Types) { es.Register[itemRemoved](types, "ItemAdded") },
		"type taken":  func(types *es.Types) { es.Register[itemAdded](types, "Other") },
		"pointer":     func(types *es.Types) { es.Register[*itemRemoved](types, "Other") },
		"empty name":  func(types *es.Types) { es.Register[itemRemoved](types, "") },
		"schema zero": func(types *es.Types) { es.Register[itemRemoved](types, "Other", es.WithSchema(0)) },
		"no codec":    func(types *es.Types) { es.Register[itemRemoved](types, "Other", es.WithCodec(nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			types := es.NewTypes()
			es.Register[itemAdded](types, "ItemAdded")
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "register") {
					t.Errorf("recovered %v", p)
				}
			}()
			register(types)
		})
	}
}

func ExampleRegister() {
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded")

	m, err := types.Encode("item-1", itemAdded{SKU: "A-1", Quantity: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Name, string(m.Data))

	added, err := es.Decode[itemAdded](types, m)
	fmt.Println(added.SKU, added.Quantity, err)
	// Output:
	// ItemAdded {"sku":"A-1","quantity":2}
	// A-1 2 <nil>
}
