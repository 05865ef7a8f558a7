package estest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
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
//	err := r.Route("order", recorder.Middleware(handler), router.Options{Name: "billing"})
//	...
//	handled := recorder.Await(t, 3)
type Recorder struct {
	handled  noted[Handled]
	answer   atomic.Pointer[es.Handler]
	underWay atomic.Int64
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
	r.underWay.Add(1)
	call := Handled{Delivery: *d}
	if d.Message != nil {
		call.Message = d.Clone()
	}
	call.Raw = bytes.Clone(d.Raw)
	returned := false
	defer func() {
		r.underWay.Add(-1)
		if !returned { // in a panic, which goes on; or in the end of a test
			call.Result = &es.PanicError{Value: "the handler did not return", Stack: debug.Stack()}
			if v := recover(); v != nil {
				call.Result = &es.PanicError{Value: v, Stack: debug.Stack()}
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
		if m != nil { // whoever sends it says so
			m = m.Clone()
		}
		call.Outputs = append(call.Outputs, m)
	}
	return outputs, err
}

// Handled returns the calls so far, in the order in which they ended.
func (r *Recorder) Handled() []Handled { return r.handled.all() }

// Await returns the calls as soon as there are n of them, or more; for an n of 0 that is at once, and says nothing about what is still to
// come. When it takes longer than [Patience], the test fails with those that there are. Inside a bubble of testing/synctest no time is
// lost: it fails as soon as nothing moves any more, and what shall not be handled is looked for in Handled after a synctest.Wait.
func (r *Recorder) Await(t testing.TB, n int) []Handled {
	t.Helper()
	calls, ok := r.handled.await(patient(t), func(calls []Handled) bool { return len(calls) >= n })
	if !ok {
		t.Fatalf("waited in vain for %s\n%s", count(n, "call"), r.describe(calls))
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
		t.Fatalf("waited in vain for %s\n%s", name, r.describe(calls))
	}
	return found
}

// Reset forgets the calls so far. Those that are under way are recorded when they end.
func (r *Recorder) Reset() { r.handled.reset() }

// describe writes calls, the last of many, and how many have not ended.
func (r *Recorder) describe(calls []Handled) string {
	var b strings.Builder
	fmt.Fprintf(&b, "recorded %s\n", count(len(calls), "call"))
	describeLast(&b, len(calls), func(i int) string { return describeCall(calls[i]) })
	if n := int(r.underWay.Load()); n > 0 {
		fmt.Fprintf(&b, "%s under way: a call is recorded when it has ended\n", count(n, "call"))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func describeCall(call Handled) string {
	var b strings.Builder
	if call.Err != nil {
		fmt.Fprintf(&b, "a message that could not be decoded (%s) in topic %s: %s", compare.Clip(call.Err.Error()), call.Topic,
			compare.Clip(compare.Text(call.Raw)))
	} else {
		b.WriteString(describeMessage(call.Message, call.Topic))
	}
	if call.Attempt > 1 {
		fmt.Fprintf(&b, "\n    attempt %d", call.Attempt)
	}
	for _, m := range call.Outputs {
		fmt.Fprintf(&b, "\n    returned %s", describeMessage(m, ""))
	}
	if call.Result != nil {
		fmt.Fprintf(&b, "\n    failed: %s", compare.Clip(call.Result.Error()))
	}
	return b.String()
}

// describeMessage is such as `Placed of stream order-1 in topic orders: {"items":1}`.
func describeMessage(m *es.Message, topic string) string {
	if m == nil {
		return "nil"
	}
	text := m.Name + " of stream " + m.Stream
	if topic != "" {
		text += " in topic " + topic
	}
	if len(m.Data) > 0 {
		text += ": " + compare.Clip(dataText(m.Data))
	}
	return text
}

// dataText writes data as it is when that can be read on one line, as JSON most often.
func dataText(data []byte) string {
	if quoted := compare.Text(data); strings.HasPrefix(quoted, "0x") || strings.Contains(quoted, `\n`) {
		return quoted
	}
	return string(data)
}

// describeLast writes a numbered line for each of n things, and of many for the last.
func describeLast(b *strings.Builder, n int, describe func(i int) string) {
	const most = 20
	first := max(0, n-most)
	if first > 0 {
		fmt.Fprintf(b, "  (%d before)\n", first)
	}
	for i := first; i < n; i++ {
		fmt.Fprintf(b, "  %d %s\n", i+1, describe(i))
	}
}
