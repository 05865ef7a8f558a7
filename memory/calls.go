package memory

import "context"

// begin begins a call that has a context: one that has ended already does nothing. It must be followed by leave unless it
// fails.
func (h *handle) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.enter()
}
