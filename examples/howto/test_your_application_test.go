package howto_test

import (
	"errors"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

type (
	CupFilled  struct{ Ml int }
	CupEmptied struct{ Ml int }
)

type Cup struct{ Ml int }

var errSpilled = errors.New("it would spill")

func evolveCup(c Cup, event any) Cup {
	switch e := event.(type) {
	case CupFilled:
		c.Ml += e.Ml
	case CupEmptied:
		c.Ml -= e.Ml
	}
	return c
}

func fill(ml int) func(c Cup) ([]any, error) {
	return func(c Cup) ([]any, error) {
		if c.Ml+ml > 250 {
			return nil, errSpilled
		}
		return []any{CupFilled{ml}}, nil
	}
}

func TestFillingACup(t *testing.T) {
	t.Parallel()
	estest.Given(t, evolveCup).
		When(fill(200)).
		Then(CupFilled{200})

	estest.Given(t, evolveCup).
		After(CupFilled{200}, CupEmptied{50}).
		When(fill(101)).
		ThenError(errSpilled)

	estest.Given(t, evolveCup).
		After(CupFilled{200}, CupEmptied{50}).
		ThenState(Cup{Ml: 150})
}

func TestWhoIsTold(t *testing.T) {
	t.Parallel()
	var recorder estest.Recorder
	d := &es.Delivery{Message: es.NewMessage("cup-1", "CupFilled", []byte(`{"Ml":200}`)), Topic: "cup"}
	if _, err := recorder.Handle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	handled := recorder.Await(t, 1) // waits for it, and not longer
	if handled[0].Name != "CupFilled" {
		t.Errorf("handled %s", handled[0].Name)
	}
}
