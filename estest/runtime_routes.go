package estest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeRouteLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("R1/the_name_of_a_route_is_its_group", runtimeRouteName),
		runtimeLine("R1/routes_of_a_topic_each_see_all_of_it", runtimeRoutesOfATopic),
		runtimeLine("R1/keys_are_handled_at_once", runtimeConcurrency),
		runtimeLine("R1/messages_of_a_key_are_handled_one_by_one_in_order", runtimeOneByOne),
		runtimeLine("R1/the_ordering_key_is_the_routes", runtimeKey),
		runtimeLine("R2/middleware_goes_from_the_outside_to_the_inside", runtimeChain),
		runtimeLine("R2/middleware_after_the_start_is_an_error", runtimeLateMiddleware),
	}
}

func runtimeRouteName(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	p.serve(saw.succeeding(), router.Options{Name: "shipping"})
	p.publish(t.messages("a1")...)
	d := saw.await(1)[0]
	if d.Topic != runtimeTopic || d.Group != "shipping" || d.Attempt != 1 {
		t.Fatalf("the delivery is of topic %q, group %q, attempt %d, want %q, %q, 1", d.Topic, d.Group, d.Attempt, runtimeTopic, "shipping")
	}
}

func runtimeRoutesOfATopic(t *runtimeTest) {
	p := t.open()
	r := p.router()
	journals := []*journal{t.journal(), t.journal(), t.journal()}
	for i, saw := range journals {
		p.route(r, saw.succeeding(), router.Options{Name: fmt.Sprint("route ", i)})
	}
	p.run(r)
	p.publish(t.messages("a1", "b1", "a2")...)
	for _, saw := range journals {
		saw.wantInAnyOrder("a1", "a2", "b1")
	}
}

// runtimeConcurrency has handlers wait for each other: all have to run at once.
func runtimeConcurrency(t *runtimeTest) {
	const together = 4
	p := t.open()
	saw := t.journal()
	met := make(chan struct{})
	var running atomic.Int64
	p.serve(saw.withContext(func(ctx context.Context, _ int) error {
		if running.Add(1) == together {
			close(met)
		}
		select {
		case <-met:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}), router.Options{Concurrency: together})
	p.publish(t.messages("a1", "b1", "c1", "d1")...)
	t.wait("as many handlers run at once as there is room for", met)
	saw.wantInAnyOrder("a1", "b1", "c1", "d1")
}

func runtimeOneByOne(t *runtimeTest) {
	const keys, perKey = 4, 10
	p := t.open()
	saw := t.journal()
	var mu sync.Mutex
	running := map[string]bool{}
	p.serve(saw.handler(func(_ context.Context, d *es.Delivery, n int) ([]*es.Message, error) {
		mu.Lock()
		if running[d.Stream] {
			t.Errorf("two messages of %s were handled at once", d.Stream)
		}
		running[d.Stream] = true
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			running[d.Stream] = false
		}()
		if n == 1 && runtimeText(d.Message)[1:] == "05" {
			return nil, es.RetryAfter(time.Millisecond, errBoom) // so that those behind it come together
		}
		return nil, nil
	}), router.Options{Concurrency: keys})
	var msgs []*es.Message
	want := map[string][]string{}
	for i := range perKey {
		for k := range keys {
			key := string(rune('a' + k))
			text := fmt.Sprintf("%s%02d", key, i)
			msgs = append(msgs, t.message(key, text))
			want[key] = append(want[key], text)
			if i == 5 {
				want[key] = append(want[key], text)
			}
		}
	}
	p.publish(msgs...)
	saw.await(len(msgs) + keys)
	for key, texts := range want {
		saw.wantKey(key, texts...)
	}
}

// runtimeKey has a key that two streams share: a message waits for the retry of one of the other stream.
func runtimeKey(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	p.serve(saw.failing("a1", failTimes(1, es.RetryAfter(20*time.Millisecond, errBoom))), router.Options{
		Concurrency: 4,
		Key:         func(m *es.Message) string { return m.Metadata["tenant"] },
	})
	msgs := t.messages("a1", "b1", "c1")
	for _, m := range msgs {
		m.Metadata = map[string]string{"tenant": "one"}
	}
	p.publish(msgs...)
	saw.want("a1", "a1", "b1", "c1")
}

// failTimes fails with err so many times.
func failTimes(times int, err error) func(n int) error {
	return func(n int) error {
		if n <= times {
			return err
		}
		return nil
	}
}

func runtimeChain(t *runtimeTest) {
	p := t.open()
	var mu sync.Mutex
	var order []string
	enter := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, name)
	}
	named := func(name string) es.Middleware {
		return around(func(ctx context.Context, d *es.Delivery, next es.Handler) ([]*es.Message, error) {
			enter(name)
			return next.Handle(ctx, d)
		})
	}
	r := p.router()
	t.ok(r.Use(named("first"), named("second")), "use two")
	done := make(chan struct{})
	p.route(r, es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		enter("handler")
		close(done)
		return nil, nil
	}), router.Options{Middleware: []es.Middleware{named("of the route"), named("of the route, inside")}})
	t.ok(r.Use(named("third")), "use a third")
	p.run(r)
	p.publish(t.messages("a1")...)
	t.wait("the handler is called", done)
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"first", "second", "third", "of the route", "of the route, inside", "handler"}; !slices.Equal(order, want) {
		t.Fatalf("the chain ran as %q, want %q", order, want)
	}
}

func runtimeLateMiddleware(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	r := p.serve(saw.succeeding(), router.Options{})
	err := r.Use(around(func(context.Context, *es.Delivery, es.Handler) ([]*es.Message, error) {
		return nil, errBoom
	}))
	if !errors.Is(err, es.ErrInvalid) {
		t.Fatalf("Use after the start gives %v, want ErrInvalid", err)
	}
	p.publish(t.messages("a1")...)
	saw.want("a1")
}
