package estest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// call is an order to make a call of a role.
type call struct {
	Name string          `json:"name"`
	Args json.RawMessage `json:"args"`
}

// The arguments of calls that have several.
type (
	claimArgs struct {
		Most    int             `json:"most"`
		Options es.ClaimOptions `json:"options"`
	}
	failArgs struct {
		Entries []es.Entry    `json:"entries"`
		Err     string        `json:"err"`
		Delay   time.Duration `json:"delay"`
		Dead    bool          `json:"dead"`
		Park    bool          `json:"park"`
	}
	reserveArgs struct {
		Group        string           `json:"group"`
		Reservations []es.Reservation `json:"reservations"`
		Lease        time.Duration    `json:"lease"`
	}
	acquireArgs struct {
		Name  string        `json:"name"`
		Owner string        `json:"owner"`
		TTL   time.Duration `json:"ttl"`
	}
	nothing struct{}
)

// callable makes a call of a child's backend.
type callable func(ctx context.Context, b es.Backend, args json.RawMessage) (any, error)

// calls are the calls that a child can be ordered to make. [calling] makes them from the test's side.
func calls() map[string]callable {
	return map[string]callable{
		"append": answering(func(ctx context.Context, b es.Backend, a es.Append) (es.Appended, error) {
			return b.Events().Append(ctx, a)
		}),
		"claim": answering(func(ctx context.Context, b es.Backend, a claimArgs) ([]es.Entry, error) {
			dst := make([]es.Entry, a.Most)
			n, err := b.Outbox().Claim(ctx, dst, a.Options)
			return dst[:n], err
		}),
		"complete": answering(func(ctx context.Context, b es.Backend, entries []es.Entry) (nothing, error) {
			return nothing{}, b.Outbox().Complete(ctx, entries)
		}),
		"fail": answering(func(ctx context.Context, b es.Backend, a failArgs) (nothing, error) {
			f := es.Failure{Err: errors.New(a.Err), Delay: a.Delay, Dead: a.Dead, Park: a.Park}
			return nothing{}, b.Outbox().Fail(ctx, a.Entries, f)
		}),
		"release": answering(func(ctx context.Context, b es.Backend, entries []es.Entry) (nothing, error) {
			return nothing{}, b.Outbox().Release(ctx, entries)
		}),
		"wait": answering(func(ctx context.Context, b es.Backend, _ nothing) (nothing, error) {
			return nothing{}, b.Outbox().Wait(ctx)
		}),
		"reserve": answering(func(ctx context.Context, b es.Backend, a reserveArgs) ([]es.Reservation, error) {
			err := b.Dedupe().Reserve(ctx, a.Group, a.Reservations, a.Lease)
			return a.Reservations, err
		}),
		"done": answering(func(ctx context.Context, b es.Backend, a reserveArgs) (nothing, error) {
			return nothing{}, b.Dedupe().Complete(ctx, a.Group, a.Reservations)
		}),
		"acquire": answering(func(ctx context.Context, b es.Backend, a acquireArgs) (es.Lease, error) {
			return b.Leases().Acquire(ctx, a.Name, a.Owner, a.TTL)
		}),
		"check": answering(func(ctx context.Context, b es.Backend, l es.Lease) (nothing, error) {
			return nothing{}, b.Leases().Check(ctx, l)
		}),
		"end": answering(func(ctx context.Context, b es.Backend, l es.Lease) (nothing, error) {
			return nothing{}, b.Leases().Release(ctx, l)
		}),
	}
}

func answering[In, Out any](do func(ctx context.Context, b es.Backend, in In) (Out, error)) callable {
	return func(ctx context.Context, b es.Backend, args json.RawMessage) (any, error) {
		var in In
		if err := json.Unmarshal(args, &in); err != nil {
			return nil, fmt.Errorf("read the arguments: %w", err)
		}
		return do(ctx, b, in)
	}
}

// makeCalls is a job: it makes the calls that are ordered.
func makeCalls(w *worker) error {
	for {
		var c call
		if err := w.order(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		do, ok := calls()[c.Name]
		if !ok {
			return fmt.Errorf("there is no call %q", c.Name)
		}
		result, failed := do(w.ctx, w.backend, c.Args)
		text, err := json.Marshal(result)
		if err != nil {
			return fmt.Errorf("tell the result of %q: %w", c.Name, err)
		}
		if err := w.replies.Encode(reply{Tells: text, Err: abroad(failed)}); err != nil {
			return err
		}
	}
}

// calling has a child make a call. A child makes one at a time; when ctx ends first the child is of no more use.
func calling[Out any](ctx context.Context, c *child, name string, args any) (Out, error) {
	var out Out
	text, err := json.Marshal(args)
	if err != nil {
		return out, err
	}
	if err := c.order(call{name, text}); err != nil {
		return out, err
	}
	err = c.hear(ctx, &out)
	return out, err
}

// foreignError is the error of a call in another process.
type foreignError struct {
	Text string   `json:"text"`
	Of   []string `json:"of,omitempty"` // the names of what it is, of foreignKinds
}

// foreignKinds are what lines ask of errors from other processes.
func foreignKinds() map[string]error {
	return map[string]error{
		"conflict": es.ErrConflict, "lease lost": es.ErrLeaseLost, "lease held": es.ErrLeaseHeld, "closed": es.ErrClosed,
	}
}

func abroad(err error) *foreignError {
	if err == nil {
		return nil
	}
	f := &foreignError{Text: err.Error()}
	for name, kind := range foreignKinds() {
		if errors.Is(err, kind) {
			f.Of = append(f.Of, name)
		}
	}
	return f
}

func (e *foreignError) Error() string { return "in another process: " + e.Text }

// Is finds what the error was in its own process.
func (e *foreignError) Is(target error) bool {
	for _, name := range e.Of {
		if foreignKinds()[name] == target {
			return true
		}
	}
	return false
}
