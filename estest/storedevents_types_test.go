package estest_test

import (
	"encoding/json"
	"time"
)

// The event that the tests change, as it was when it was stored.
type storedOrder struct {
	SKU    string       `json:"sku"`
	Count  int64        `json:"count"`
	Price  float64      `json:"price"`
	Paid   bool         `json:"paid"`
	At     time.Time    `json:"at"`
	Lines  []storedLine `json:"lines"`
	Gift   *storedLine  `json:"gift"`
	Labels map[string]string
	Tree   storedTree `json:"tree"`
}

type storedLine struct {
	Text string `json:"text"`
}

type storedTree struct {
	Name string      `json:"name"`
	Next *storedTree `json:"next"`
}

// What the event becomes.
type (
	typed[Count, Price, Paid, At any] struct {
		SKU    string       `json:"sku"`
		Count  Count        `json:"count"`
		Price  Price        `json:"price"`
		Paid   Paid         `json:"paid"`
		At     At           `json:"at"`
		Lines  []storedLine `json:"lines"`
		Gift   *storedLine  `json:"gift"`
		Labels map[string]string
		Tree   storedTree `json:"tree"`
	}
	texts[Text any] struct {
		storedOrder

		SKU Text `json:"sku"`
	}
	textless = texts[int]
	unpaid   struct {
		SKU    string       `json:"sku"`
		Count  int64        `json:"count"`
		Price  float64      `json:"price"`
		At     time.Time    `json:"at"`
		Lines  []storedLine `json:"lines"`
		Gift   *storedLine  `json:"gift"`
		Labels map[string]string
		Tree   storedTree `json:"tree"`
	}
	notExported struct {
		storedOrder

		Count struct{ count int64 } `json:"-"`
		Hides hides                 `json:"count"`
	}
	otherLines struct {
		storedOrder

		Lines []struct{ Words string } `json:"lines"`
	}
	otherGift struct {
		storedOrder

		Gift *struct{} `json:"gift"`
	}
	otherTree struct {
		storedOrder

		Tree struct {
			Name string    `json:"name"`
			Next *struct{} `json:"next"`
		} `json:"tree"`
	}
	otherLabels struct {
		storedOrder

		Labels struct{ Known string }
	}
	compatible struct {
		storedOrder

		Count  json.Number       `json:"count,omitempty"`      // holds all that it held
		Paid   *bool             `json:"paid"`                 // can be nothing as well
		Tree   storedTreeOmitted `json:"tree"`                 // leaves out what is empty
		Labels map[string]any    `json:"Labels,omitempty"`     // anything
		Shade  string            `json:"shade"`                // new
		More   []storedLine      `json:"more_lines,omitempty"` // new
	}
	storedTreeOmitted struct {
		Name string             `json:"name,omitempty"`
		Next *storedTreeOmitted `json:"next,omitempty"`
	}
)

// hides takes any number, and forgets it.
type hides struct{}

func (*hides) UnmarshalJSON([]byte) error { return nil }

// renamedInGo is storedOrder under another name, with other names in it: what is stored stays the same.
type renamedInGo struct {
	Article string            `json:"sku"`
	Number  int64             `json:"count"`
	Cost    float64           `json:"price"`
	IsPaid  bool              `json:"paid"`
	When    time.Time         `json:"at"`
	Rows    []storedLine      `json:"lines"`
	Present *storedLine       `json:"gift"`
	Words   map[string]string `json:"Labels"`
	Plant   storedTree        `json:"tree"`
}
