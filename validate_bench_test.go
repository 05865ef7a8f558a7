package eventsourcing_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// BenchmarkValidate: every message is checked by whoever takes it.
func BenchmarkValidate(b *testing.B) {
	m := es.NewMessage("order-0191e6f0", "OrderPlaced", make([]byte, 256))
	m.CorrelationID, m.CausationID = es.NewID().String(), es.NewID().String()
	limits := es.Limits{}.WithDefaults()
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Validate(limits); err != nil {
			b.Fatal(err)
		}
	}
}
