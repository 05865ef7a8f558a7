package howto_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

func Example_typedMessages() {
	run(typedMessages)
	// Output:
	// item-A1 ItemAdded schema 1: {"sku":"A1","count":3}
	// 3 of A1
	// got 3 items
	// unknown type: "ItemAdded" is registered with schema 1, the message has schema 2
	// kept as it is: ItemLost
	// tags [sku:A1 shelf:7]
	// application/x-csv A1,7
}

type ItemAdded struct {
	SKU   string `json:"sku"`
	Count int    `json:"count"`
}

type ItemRemoved struct {
	SKU string `json:"sku"`
}

func newTypes() *es.Types {
	types := es.NewTypes()
	es.Register[ItemAdded](types, "ItemAdded")
	es.Register[ItemRemoved](types, "ItemRemoved")
	return types
}

func typedMessages(context.Context) error {
	types := newTypes()

	m, err := types.Encode("item-A1", ItemAdded{SKU: "A1", Count: 3})
	if err != nil {
		return err
	}
	fmt.Printf("%s %s schema %d: %s\n", m.Stream, m.Name, m.Schema, m.Data)

	added, err := es.Decode[ItemAdded](types, m)
	if err != nil {
		return err
	}
	fmt.Println(added.Count, "of", added.SKU)

	event, err := types.Decode(m)
	if err != nil {
		return err
	}
	switch e := event.(type) {
	case ItemAdded:
		fmt.Println("got", e.Count, "items")
	case ItemRemoved:
		fmt.Println("lost", e.SKU)
	}

	newer := m.Clone()
	newer.Schema = 2 // from a program that is ahead of this one
	if _, err := types.Decode(newer); errors.Is(err, es.ErrUnknownType) {
		fmt.Println(err)
	}
	if err := unknownMessages(types); err != nil {
		return err
	}
	return tagsAndCodecs()
}

func unknownMessages(types *es.Types) error {
	lost := es.NewMessage("item-A1", "ItemLost", []byte(`{"sku":"A1"}`))
	events, err := types.DecodeAll(nil, lost, es.KeepRaw)
	if err != nil {
		return err
	}
	for _, event := range events {
		switch e := event.Value.(type) {
		case ItemAdded:
			fmt.Println("got", e.Count, "items")
		case *es.Message:
			fmt.Println("kept as it is:", e.Name)
		}
	}
	return nil
}

type ItemMoved struct {
	SKU   string
	Shelf string
}

func (e ItemMoved) EventTags() []string { return []string{"sku:" + e.SKU, "shelf:" + e.Shelf} }

// csv keeps an ItemMoved as a line of text.
type csv struct{}

func (csv) ContentType() string { return "application/x-csv" }

func (csv) Marshal(v any) ([]byte, error) {
	e, ok := v.(ItemMoved)
	if !ok {
		return nil, fmt.Errorf("%T is not an ItemMoved", v)
	}
	return []byte(e.SKU + "," + e.Shelf), nil
}

func (csv) Unmarshal(data []byte, v any) error {
	e, ok := v.(*ItemMoved)
	sku, shelf, found := strings.Cut(string(data), ",")
	if !ok || !found {
		return fmt.Errorf("%q is not a %T", data, v)
	}
	*e = ItemMoved{SKU: sku, Shelf: shelf}
	return nil
}

func tagsAndCodecs() error {
	types := es.NewTypes()
	es.Register[ItemMoved](types, "ItemMoved",
		es.WithCodec(csv{}, es.JSON{}), // JSON is what was written before
		es.WithSample(ItemMoved{SKU: "A1", Shelf: "7"}))
	m, err := types.Encode("item-A1", ItemMoved{SKU: "A1", Shelf: "7"})
	if err != nil {
		return err
	}
	fmt.Println("tags", m.Tags)
	fmt.Printf("%s %s\n", m.ContentType, m.Data)

	before := es.NewMessage("item-A1", "ItemMoved", []byte(`{"SKU":"A1","Shelf":"7"}`))
	_, err = types.Decode(before)
	return err
}
