//go:build !race

package router

import "testing"

// TestNoAllocationPerMessage: what is allocated for a route, its batches and their contexts is spread over many messages.
func TestNoAllocationPerMessage(t *testing.T) {
	for name, chain := range chains() {
		for _, workers := range []int{1, 4} {
			const total = 512 * DefaultBatch
			allocs := testing.AllocsPerRun(3, func() { tread(t, total, workers, 64, chain) })
			if perMessage := allocs / total; perMessage > 0.03 {
				t.Errorf("%s with %d workers: %.3f allocations a message", name, workers, perMessage)
			}
		}
	}
}
