package estest

import (
	"context"
	"slices"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// journal notes the calls of handlers, in the order in which they begin.
type journal struct {
	*runtimeTest

	mu      sync.Mutex
	calls   []es.Delivery
	changed chan struct{} // closed, and made anew, with each call
}

func (t *runtimeTest) journal() *journal {
	return &journal{runtimeTest: t, changed: make(chan struct{})}
}

// note notes a call and returns how many there were of its message, this one included.
func (j *journal) note(d *es.Delivery) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, *d)
	close(j.changed)
	j.changed = make(chan struct{})
	n := 0
	for _, other := range j.calls {
		if other.ID == d.ID && other.Group == d.Group {
			n++
		}
	}
	return n
}

// handler notes its calls, and does what it is told: d is the n-th time that its group is called for the message.
func (j *journal) handler(do func(ctx context.Context, d *es.Delivery, n int) ([]*es.Message, error)) es.Handler {
	return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) { return do(ctx, d, j.note(d)) })
}

// succeeding is a handler that notes its calls and nothing else.
func (j *journal) succeeding() es.Handler {
	return j.handler(func(context.Context, *es.Delivery, int) ([]*es.Message, error) { return nil, nil })
}

// failing is a handler that fails for messages of a text, as long as fail returns an error.
func (j *journal) failing(text string, fail func(n int) error) es.Handler {
	return j.handler(func(_ context.Context, d *es.Delivery, n int) ([]*es.Message, error) {
		if runtimeText(d.Message) == text {
			return nil, fail(n)
		}
		return nil, nil
	})
}

// invoicing is a handler that returns one output for each message.
func (j *journal) invoicing() es.Handler {
	return j.handler(func(_ context.Context, d *es.Delivery, _ int) ([]*es.Message, error) {
		return []*es.Message{j.output(runtimeText(d.Message))}, nil
	})
}

func (j *journal) seen() []es.Delivery {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.calls)
}

func (j *journal) texts() []string { return pubsubTexts(j.seen()) }

// await waits until it has n calls, and returns all that there are.
func (j *journal) await(n int) []es.Delivery {
	j.Helper()
	for {
		j.mu.Lock()
		calls, changed := slices.Clone(j.calls), j.changed
		j.mu.Unlock()
		if len(calls) >= n {
			return calls
		}
		select {
		case <-changed:
		case <-j.ctx.Done():
			j.Fatalf("waited in vain for %d calls, there were %v", n, j.texts())
		}
	}
}

// awaitCall waits for the n-th call of a message.
func (j *journal) awaitCall(text string, n int) es.Delivery {
	j.Helper()
	for total := 1; ; total++ {
		calls := j.await(total)
		calls = slices.DeleteFunc(calls, func(d es.Delivery) bool { return pubsubText(d) != text })
		if len(calls) >= n {
			return calls[n-1]
		}
	}
}

// want fails unless the calls were, or will be, those of the texts in that order, and no others by then.
func (j *journal) want(texts ...string) {
	j.Helper()
	j.await(len(texts))
	if got := j.texts(); !slices.Equal(got, texts) {
		j.Fatalf("the calls were of %v, want %v", got, texts)
	}
}

// wantInAnyOrder is want for messages of several keys.
func (j *journal) wantInAnyOrder(texts ...string) {
	j.Helper()
	j.await(len(texts))
	got := j.texts()
	slices.Sort(got)
	slices.Sort(texts)
	if !slices.Equal(got, texts) {
		j.Fatalf("the calls were of %v, want %v in any order", got, texts)
	}
}

// ofKey returns the texts of the calls that begin with a letter, in order.
func (j *journal) ofKey(key string) []string {
	return slices.DeleteFunc(j.texts(), func(text string) bool { return text[:1] != key })
}

// wantKey fails unless the calls of a key were those of the texts in that order.
func (j *journal) wantKey(key string, texts ...string) {
	j.Helper()
	if got := j.ofKey(key); !slices.Equal(got, texts) {
		j.Fatalf("the calls of key %s were of %v, want %v", key, got, texts)
	}
}

// retry is the retry middleware with a bound of attempts and no delay to speak of.
func (t *runtimeTest) retry(attempts int) es.Middleware {
	return t.parts.Retry(middleware.RetryConfig{Attempts: attempts, Backoff: quickBackoff()})
}

// around makes middleware of a function that is called around the rest of the chain.
func around(do func(ctx context.Context, d *es.Delivery, next es.Handler) ([]*es.Message, error)) es.Middleware {
	return func(next es.Handler) es.Handler {
		return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) { return do(ctx, d, next) })
	}
}

// withContext is a handler that has its context, and fails when do does.
func (j *journal) withContext(do func(ctx context.Context, n int) error) es.Handler {
	return j.handler(func(ctx context.Context, _ *es.Delivery, n int) ([]*es.Message, error) { return nil, do(ctx, n) })
}

// gate is where somebody waits until the line lets everybody through.
type gate struct {
	reached, opened chan struct{}
	reach, open     func()
}

func newGate() *gate {
	g := &gate{reached: make(chan struct{}), opened: make(chan struct{})}
	g.reach = sync.OnceFunc(func() { close(g.reached) })
	g.open = sync.OnceFunc(func() { close(g.opened) })
	return g
}

// pass waits until the gate is open. The error is that of ctx.
func (g *gate) pass(ctx context.Context) error {
	g.reach()
	select {
	case <-g.opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
