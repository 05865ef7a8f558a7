package howto_test

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

func Example_typedMessages() {
	run(typedMessages)
	// Output:
	// item-A1 ItemAdded schema 1: {"sku":"A1","count":3}
	// 3 of A1
	// got 3 items
	// unknown type: "ItemAdded" is registered with schema 1, the message has schema 2
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
	return nil
}
