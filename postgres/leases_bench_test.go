package postgres_test

import (
	"testing"
	"time"
)

// BenchmarkLeases renews a lease, checks it, and asks in vain for one that another holds.
func BenchmarkLeases(b *testing.B) {
	test := newLeaseTest(b)
	l := test.acquire("A", time.Hour)
	for _, call := range []struct {
		name string
		do   func() error
	}{
		{"renew", func() error { _, err := test.leases.Renew(b.Context(), l, time.Hour); return err }},
		{"check", func() error { return test.leases.Check(b.Context(), l) }},
		{"acquire-held", func() error {
			if _, err := test.leases.Acquire(b.Context(), "n", "B", time.Hour); err == nil {
				b.Error("it was not held")
			}
			return nil
		}},
	} {
		b.Run(call.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				test.ok(call.do())
			}
		})
	}
}
