package eventsourcing_test

import (
	"encoding/json"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

type orderPlaced struct {
	Order string `json:"order"`
}

func ExampleUpcast() {
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded", es.WithSchema(2))
	es.Upcast(types, "ItemAdded", 1, es.UpcastJSON(2, es.RenameField("count", "quantity")))

	old := es.NewMessage("item-1", "ItemAdded", []byte(`{"sku":"A-1","count":2}`))
	added, err := es.Decode[itemAdded](types, old)
	fmt.Println(added.SKU, added.Quantity, err)
	// Output:
	// A-1 2 <nil>
}

// One event of the past may be several of today.
func ExampleTypes_DecodeAll() {
	types := es.NewTypes()
	es.Register[orderPlaced](types, "OrderPlaced", es.WithSchema(2))
	es.Register[itemAdded](types, "ItemAdded")
	es.Upcast(types, "OrderPlaced", 1, func(m *es.Message) ([]*es.Message, error) {
		var old struct {
			Order string      `json:"order"`
			Items []itemAdded `json:"items"`
		}
		if err := json.Unmarshal(m.Data, &old); err != nil {
			return nil, err
		}
		placed, err := withData(m, "OrderPlaced", 2, orderPlaced{old.Order})
		today := []*es.Message{placed}
		for _, item := range old.Items {
			if err == nil {
				var added *es.Message
				added, err = withData(m, "ItemAdded", 1, item)
				today = append(today, added)
			}
		}
		return today, err
	})

	old := es.NewMessage("order-1", "OrderPlaced", []byte(`{"order":"1","items":[{"sku":"A","quantity":2},{"sku":"B","quantity":1}]}`))
	all, err := types.DecodeAll(nil, old, es.FailUnknown)
	for _, event := range all {
		fmt.Printf("%d %+v\n", event.Index, event.Value)
	}
	fmt.Println(err)
	// Output:
	// 0 {Order:1}
	// 1 {SKU:A Quantity:2}
	// 2 {SKU:B Quantity:1}
	// <nil>
}

// withData returns a clone that says something else.
func withData(m *es.Message, name string, schema int, v any) (*es.Message, error) {
	next := m.Clone()
	next.Name, next.Schema = name, schema
	var err error
	next.Data, err = json.Marshal(v)
	return next, err
}
