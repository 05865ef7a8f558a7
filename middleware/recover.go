package middleware

import (
	"context"
	"runtime"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RecoverConfig is how [Recover] works.
type RecoverConfig struct {
	// StackBytes is how much of the stack is kept, in bytes; 64 KiB by default, which is what a dead letter has room for.
	StackBytes int
}

// Recover makes a panic of the handler an [*es.PanicError] with the stack of where it happened, so that the middleware outside
// of it sees an error like any other. A router without it lives through a panic as well, but its middleware is torn through.
// It belongs innermost. runtime.Goexit is not a panic, and goes through.
func Recover(c RecoverConfig) es.Middleware {
	if c.StackBytes <= 0 {
		c.StackBytes = 64 << 10
	}
	return func(next es.Handler) es.Handler { return &recoverer{next: next, stackBytes: c.StackBytes} }
}

type recoverer struct {
	next       es.Handler
	stackBytes int
}

func (h *recoverer) Handle(ctx context.Context, d *es.Delivery) (outputs []*es.Message, err error) {
	defer func() {
		if value := recover(); value != nil {
			stack := make([]byte, h.stackBytes)
			stack = stack[:runtime.Stack(stack, allGoroutines)]
			outputs, err = nil, &es.PanicError{Value: value, Stack: stack}
		}
	}()
	return h.next.Handle(ctx, d)
}

// allGoroutines: the stack of the one that panicked is enough.
const allGoroutines = false
