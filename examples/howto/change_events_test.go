package howto_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

func Example_changeEvents() {
	run(changeEvents)
	// Output:
	// 0 howto_test.CustomerJoined {Name:Dana Plan:free}
	// 0 howto_test.CustomerJoined {Name:Kim Plan:free}
	// 0 howto_test.CustomerJoined {Name:Lou Plan:paid}
	// 1 howto_test.PaymentAgreed {Cents:900}
	// 0 howto_test.CustomerLeft {Reason:moved}
	// 0 howto_test.CustomerJoined {Name: Plan:}, erased
	// true
}

// CustomerJoined was CustomerRegistered, with the name in a field called "fullName", and without a plan.
type CustomerJoined struct {
	Name string `json:"name"`
	Plan string `json:"plan"`
}

// PaymentAgreed was a part of CustomerJoined.
type PaymentAgreed struct {
	Cents int `json:"cents"`
}

type CustomerLeft struct {
	Reason string `json:"reason"`
}

func newCustomerTypes() *es.Types {
	types := es.NewTypes()
	es.Register[CustomerJoined](types, "CustomerJoined", es.WithSchema(3))
	es.Register[PaymentAgreed](types, "PaymentAgreed")
	es.Register[CustomerLeft](types, "CustomerLeft")

	es.Upcast(types, "CustomerRegistered", 1, es.RenameEvent("CustomerJoined", 1))
	es.Upcast(types, "CustomerJoined", 1, es.UpcastJSON(2, es.RenameField("fullName", "name"), es.AddField("plan", "free")))
	es.Upcast(types, "CustomerJoined", 2, splitPayment)
	es.Upcast(types, "NewsletterSeen", 1, es.DropEvent)
	return types
}

// splitPayment makes two events of one that said both.
func splitPayment(m *es.Message) ([]*es.Message, error) {
	joined := m.Clone()
	joined.Schema = 3
	if m.Erased() { // its data is gone for good
		return []*es.Message{joined}, nil
	}
	var old struct {
		Name  string `json:"name"`
		Plan  string `json:"plan"`
		Cents int    `json:"cents"`
	}
	if err := json.Unmarshal(m.Data, &old); err != nil {
		return nil, err
	}
	var err error
	if joined.Data, err = json.Marshal(CustomerJoined{Name: old.Name, Plan: old.Plan}); err != nil || old.Cents == 0 {
		return []*es.Message{joined}, err
	}
	agreed := m.Clone()
	agreed.Name, agreed.Schema = "PaymentAgreed", 1
	agreed.Data, err = json.Marshal(PaymentAgreed{Cents: old.Cents})
	return []*es.Message{joined, agreed}, err
}

func changeEvents(context.Context) error {
	types := newCustomerTypes()
	var events []es.Decoded
	for _, m := range storedCustomers() {
		var err error
		events, err = types.DecodeAll(events[:0], m, es.FailUnknown)
		if err != nil {
			return err
		}
		for _, event := range events {
			fmt.Printf("%d %T %+v", event.Index, event.Value, event.Value)
			if event.Message.Erased() {
				fmt.Print(", erased")
			}
			fmt.Println()
		}
	}

	catalogue, err := types.Catalogue()
	if err != nil {
		return err
	}
	fmt.Println(json.Valid(catalogue))
	return registerWhatIsLost()
}

// storedCustomers are events of all the years.
func storedCustomers() []*es.Message {
	stored := func(name string, schema int, data string) *es.Message {
		m := es.NewMessage("customer-1", name, []byte(data))
		m.Schema = schema
		return m
	}
	erased := stored("CustomerJoined", 1, "")
	erased.Metadata = map[string]string{es.MetadataErased: es.NewID().String()}
	return []*es.Message{
		stored("CustomerRegistered", 1, `{"fullName":"Dana"}`),
		stored("CustomerJoined", 1, `{"fullName":"Kim"}`),
		stored("CustomerJoined", 2, `{"name":"Lou","plan":"paid","cents":900}`),
		stored("NewsletterSeen", 1, `{"issue":12}`),
		stored("CustomerLeft", 1, `{"reason":"moved"}`),
		erased,
	}
}

// Price loses what it is when it is written as JSON.
type Price struct {
	cents int
}

func (p Price) String() string { return fmt.Sprintf("%d cents", p.cents) }

type PriceSet struct {
	Price Price `json:"price"`
}

func registerWhatIsLost() (err error) {
	defer func() {
		if recover() == nil {
			err = errors.New("a type that is not kept was registered")
		}
	}()
	es.Register[PriceSet](es.NewTypes(), "PriceSet") // panics: the field PriceSet.Price.cents is not exported, and so is lost
	return nil
}

func TestStoredEvents(t *testing.T) {
	estest.CheckStoredEvents(t, newCustomerTypes(), "testdata/events.golden.json")
}
