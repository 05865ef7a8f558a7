//go:build !race

package middleware

import (
	"context"
	"testing"
)

// TestNoAllocation: the race detector lets a sync.Pool forget, so this is measured without it.
func TestNoAllocation(t *testing.T) {
	for _, c := range cases(t) {
		h, d, ctx := c.wrap(returning(nil)), delivery(1), context.Background()
		if allocs := testing.AllocsPerRun(1000, func() { _, _ = h.Handle(ctx, d) }); allocs != 0 {
			t.Errorf("%s: %v allocations a message", c.name, allocs)
		}
	}
}
