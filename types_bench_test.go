package eventsourcing_test

import (
	"encoding/json"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// sink keeps the compiler from leaving out what is measured.
type sink struct{ value any }

// BenchmarkDecodeAll: an aggregate is loaded, and a projection fed, by one call for each event. "bare" is encoding/json with a variable of
// the type, put into an interface; "today" is a message that is not upcast, which is to cost no allocation more than that.
func BenchmarkDecodeAll(b *testing.B) {
	types, today, older := benchTypes(b)
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		var s sink
		for b.Loop() {
			var v itemAdded
			if err := json.Unmarshal(today.Data, &v); err != nil {
				b.Fatal(err)
			}
			s.value = v
		}
		if s.value != (itemAdded{"A-1", 2}) {
			b.Fatal("another value", s.value)
		}
	})
	decode := func(m *es.Message) func(b *testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			var all []es.Decoded
			for b.Loop() {
				var err error
				if all, err = types.DecodeAll(all[:0], m, es.FailUnknown); err != nil || len(all) != 1 {
					b.Fatal(all, err)
				}
			}
			if all[0].Value != (itemAdded{"A-1", 2}) {
				b.Fatal("another value", all[0].Value)
			}
		}
	}
	b.Run("today", decode(today))
	b.Run("upcast", decode(older))
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			var all []es.Decoded
			for pb.Next() {
				var err error
				if all, err = types.DecodeAll(all[:0], today, es.FailUnknown); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// BenchmarkEncode: each event that is appended is encoded once. "bare" is encoding/json and [es.NewMessage].
func BenchmarkEncode(b *testing.B) {
	types, _, _ := benchTypes(b)
	var v any = itemAdded{"A-1", 2}
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		var s sink
		for b.Loop() {
			data, err := json.Marshal(v)
			if err != nil {
				b.Fatal(err)
			}
			s.value = es.NewMessage("item-1", "ItemAdded", data)
		}
		if s.value == nil {
			b.Fatal("no message")
		}
	})
	b.Run("types", func(b *testing.B) {
		b.ReportAllocs()
		var s sink
		for b.Loop() {
			m, err := types.Encode("item-1", v)
			if err != nil {
				b.Fatal(err)
			}
			s.value = m
		}
		if s.value == nil {
			b.Fatal("no message")
		}
	})
}

// benchTypes returns types, and the same event as it is stored today and as it was stored under an older schema.
func benchTypes(tb testing.TB) (types *es.Types, today, older *es.Message) {
	tb.Helper()
	types = es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded", es.WithSchema(2))
	es.Register[itemRemoved](types, "ItemRemoved")
	es.Upcast(types, "ItemAdded", 1, es.UpcastJSON(2, es.RenameField("count", "quantity")))
	today = es.NewMessage("item-1", "ItemAdded", []byte(`{"sku":"A-1","quantity":2}`))
	today.Schema = 2
	older = es.NewMessage("item-1", "ItemAdded", []byte(`{"sku":"A-1","count":2}`))
	return types, today, older
}
