package examples_test

import (
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// A message knows what it is about and why it is there.
func Example_message() {
	placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{"total":42}`))
	paid := es.NewMessage("payment-3", "PaymentRequested", []byte(`{"amount":42}`))
	placed.Caused(paid)

	fmt.Println(placed.Category(), placed.Name)
	fmt.Println(paid.CausationID == placed.ID.String())
	// Output:
	// order OrderPlaced
	// true
}
