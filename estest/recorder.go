package estest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/internal/compare"
)

// Recorder records what handlers are given and what comes of it: as a handler of its own, or around another one as a middleware. The
// zero value is ready, and any number of goroutines may use it at once. It must not be copied.
//
//	var recorder estest.Recorder
//	route := router.Route{Topic: "order", Handler: &recorder}
//	...
//	handled := recorder.Await(t, 3)
type Recorder struct {
	handled noted[Handled]
	answer  atomic.Pointer[es.Handler]
}

// Handled is one call of a handler. Its messages are copies.
type Handled struct {
	es.Delivery

	// Outputs are the messages that the handler has returned.
	Outputs []*es.Message
	// Result is the error that it has returned, and an [*es.PanicError] when it has panicked.
	Result error
}

// Handle records a delivery. It returns no message and no error, unless [Recorder.Answer] says otherwise.
func (r *Recorder) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	if answer := r.answer.Load(); answer != nil {
		return r.record(ctx, *answer, d)
	}
	return r.record(ctx, es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, nil }), d)
}

// Answer sets what Handle does besides recording; nil for nothing.
func (r *Recorder) Answer(answer func(ctx context.Context, d *es.Delivery) ([]*es.Message, error)) {
	if answer == nil {
		r.answer.Store(nil)
		return
	}
	var h es.Handler = es.HandlerFunc(answer)
	r.answer.Store(&h)
}

// Middleware records what the next handler is given and what it returns. It is an [es.Middleware].
func (r *Recorder) Middleware(next es.Handler) es.Handler {
	return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) { return r.record(ctx, next, d) })
}

// record calls a handler and records the call when it has ended, in a panic too.
func (r *Recorder) record(ctx context.Context, h es.Handler, d *es.Delivery) (outputs []*es.Message, err error) {
	call := Handled{Delivery: *d}
	if d.Message != nil {
		call.Message = d.Clone()
	}
	returned := false
	defer func() {
		if !returned { // in a panic, which goes on; or in the end of a test
			call.Result = &es.PanicError{Value: "the handler did not return"}
			if v := recover(); v != nil {
				call.Result = &es.PanicError{Value: v}
				r.handled.add(call)
				panic(v)
			}
		}
		r.handled.add(call)
	}()
	outputs, err = h.Handle(ctx, d)
	returned = true
	call.Result = err
	for _, m := range outputs {
		call.Outputs = append(call.Outputs, m.Clone())
	}
	return outputs, err
}

// Handled returns the calls so far, in the order in which they ended.
func (r *Recorder) Handled() []Handled { return r.handled.all() }

// Await returns the calls as soon as there are n of them, or more. When that takes longer than [Patience], the test fails with those that
// there are. Inside a bubble of testing/synctest no time is lost: it fails as soon as nothing moves any more.
func (r *Recorder) Await(t testing.TB, n int) []Handled {
	t.Helper()
	calls, ok := r.handled.await(patient(t), func(calls []Handled) bool { return len(calls) >= n })
	if !ok {
		t.Fatalf("waited in vain for %s to be handled\n%s", count(n, "message"), describeCalls(calls))
	}
	return calls
}

// AwaitThat returns the first call that a function accepts, as soon as there is one. The name is what the report calls it when there is
// none, as in "a dead letter". See Await for how long it waits.
func (r *Recorder) AwaitThat(t testing.TB, name string, accepts func(Handled) bool) Handled {
	t.Helper()
	var found Handled
	calls, ok := r.handled.await(patient(t), func(calls []Handled) bool {
		for _, call := range calls {
			if accepts(call) {
				found = call
				return true
			}
		}
		return false
	})
	if !ok {
		t.Fatalf("waited in vain for %s\n%s", name, describeCalls(calls))
	}
	return found
}

// Reset forgets the calls so far. Those that are under way are recorded when they end.
func (r *Recorder) Reset() { r.handled.reset() }

// describeCalls writes calls, the last of many.
func describeCalls(calls []Handled) string {
	var b strings.Builder
	fmt.Fprintf(&b, "recorded %s\n", count(len(calls), "call"))
	const most = 20
	first := max(0, len(calls)-most)
	if first > 0 {
		fmt.Fprintf(&b, "  (%d before)\n", first)
	}
	for i, call := range calls[first:] {
		name, stream := "a message that could not be decoded", ""
		if call.Message != nil {
			name, stream = call.Name, call.Stream
		}
		fmt.Fprintf(&b, "  %d %s of %s", first+i+1, name, stream)
		if call.Attempt > 1 {
			fmt.Fprintf(&b, ", attempt %d", call.Attempt)
		}
		if len(call.Outputs) > 0 {
			fmt.Fprintf(&b, ", %s returned", count(len(call.Outputs), "message"))
		}
		if call.Result != nil {
			fmt.Fprintf(&b, ", failed: %s", compare.Clip(call.Result.Error()))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
