package estest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// The topic that most routes of the suite have, the one that their outputs go to, and where what fails for good goes.
const (
	runtimeTopic  = "orders"
	runtimeOutput = "invoices"
	runtimeDead   = "dead"
)

// runtimeTest is one line at work: a test, and a storage for the programs of the line.
type runtimeTest struct {
	testing.TB

	h       Harness[es.Backend]
	parts   Parts
	ctx     context.Context // it ends with the patience of the test
	storage Storage[es.Backend]
}

// ok ends the test unless err is nil.
func (t *runtimeTest) ok(err error, what string, args ...any) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// needsHandles skips the line where programs cannot be on one storage at once.
func (t *runtimeTest) needsHandles() {
	t.Helper()
	if !t.h.Handles() {
		t.Skip("needs Handles")
	}
}

// shortLease is a lease that a line waits for the end of: longer than a slow machine stands still, where there is time.
func (t *runtimeTest) shortLease() time.Duration {
	const hasty, slow = 150 * time.Millisecond, 900 * time.Millisecond
	if patience(t.TB) > 10*slow {
		return slow
	}
	return hasty
}

// until waits for something that nobody signals.
func (t *runtimeTest) until(what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-t.ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// wait waits for a signal.
func (t *runtimeTest) wait(what string, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-t.ctx.Done():
		t.Fatalf("waited in vain until %s", what)
	}
}

// message makes a message of stream "orders-<key>" whose data is text.
func (t *runtimeTest) message(key, text string) *es.Message {
	return es.NewMessage(runtimeTopic+"-"+key, "Noted", fmt.Appendf(nil, "%q", text))
}

// messages makes a message for each text, in the stream that its first letter names: "a1" is in "orders-a".
func (t *runtimeTest) messages(texts ...string) []*es.Message {
	msgs := make([]*es.Message, len(texts))
	for i, text := range texts {
		msgs[i] = t.message(text[:1], text)
	}
	return msgs
}

// output makes a message as a handler returns it: to stream "invoices-<first letter>".
func (t *runtimeTest) output(text string) *es.Message {
	return es.NewMessage(runtimeOutput+"-"+text[:1], "Billed", fmt.Appendf(nil, "%q", text))
}

func runtimeText(m *es.Message) string { return strings.Trim(string(m.Data), `"`) }

// quickBackoff is the backoff of everything in the suite, so that nobody waits for long.
func quickBackoff() middleware.Backoff {
	return middleware.Backoff{Base: time.Millisecond, Max: 5 * time.Millisecond}
}

// program is a program on the backend: a handle of its own, a broker, and the components that a line makes of them.
type program struct {
	*runtimeTest

	handle  es.Backend   // as the storage gave it
	backend es.Backend   // the same behind the link, as the program knows it
	outside es.Publisher // the broker, not behind the link
	broker  Broker
	link    *link
	lease   time.Duration // of everything that the program owns; 0: as long as by default
	emit    router.Emitter
}

// open opens a program that is not to lose a lease.
func (t *runtimeTest) open() *program {
	t.Helper()
	return t.openFor(0)
}

// openMortal opens a program whose leases are short, because it is to die.
func (t *runtimeTest) openMortal() *program {
	t.Helper()
	t.needsHandles()
	return t.openFor(t.shortLease())
}

func (t *runtimeTest) openFor(lease time.Duration) *program {
	t.Helper()
	if t.storage == nil {
		t.storage = t.h.New(t.TB)
	}
	p := &program{runtimeTest: t, handle: t.storage.Open(t.TB, Namespace), link: newLink(), lease: lease}
	for role, missing := range map[string]bool{
		"Events": p.handle.Events() == nil, "Outbox": p.handle.Outbox() == nil, "ReadModels": p.handle.ReadModels() == nil,
		"Dedupe": p.handle.Dedupe() == nil, "Leases": p.handle.Leases() == nil,
	} {
		if missing {
			t.Fatalf("the backend has no %s; the runtime suite takes a whole one", role)
		}
	}
	p.backend = linkedBackend{p.handle, p.link}
	p.broker = t.parts.Broker(t.TB, p.backend, lease)
	t.Cleanup(func() {
		p.link.kill() // what has not ended by now is not to hold up the test
		_ = p.broker.Close()
	})
	p.outside, p.broker.PubSub = p.broker.PubSub, linkedPubSub{p.broker.PubSub, p.link}
	p.emit = t.parts.Emit(p.backend.Outbox())
	return p
}

// crash kills the program, as kill -9 does.
func (p *program) crash() {
	p.Helper()
	p.link.sever()
	p.storage.Crash(p.TB, p.handle)
}

// die kills the program from within a handler, and does not come back: what a dead program would still do is for nobody to see.
func (p *program) die(ctx context.Context, died chan<- struct{}) error {
	p.link.sever()
	close(died)
	<-ctx.Done()
	return ctx.Err()
}

// run starts a component, and stops it when the test ends.
func (p *program) run(c es.Component) {
	p.Helper()
	p.ok(c.Start(p.ctx), "start %s", c.Name())
	p.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Stop(ctx) // it is broken off, or was stopped before
	})
}

// stop stops a component in order.
func (p *program) stop(c es.Component) {
	p.Helper()
	p.ok(c.Stop(p.ctx), "stop %s", c.Name())
}

// stopNow stops a component without patience.
func (p *program) stopNow(c es.Component) {
	p.Helper()
	ctx, cancel := context.WithCancel(p.ctx)
	cancel()
	if err := c.Stop(ctx); !errors.Is(err, context.Canceled) {
		p.Fatalf("Stop of %s with something under way and no patience: the error is %v, want that of the context", c.Name(), err)
	}
}

// beginStop begins to stop a router, and returns when it does not begin with anything new any more.
func (p *program) beginStop(r Router) <-chan error {
	p.Helper()
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop(p.ctx) }()
	p.until("the router is being stopped", func() bool { return r.Stats()[0].State == router.Stopped })
	return stopped
}

// router makes a router of the program.
func (p *program) router(edit ...func(c *router.Config)) Router {
	p.Helper()
	c := router.Config{
		Subscriber: p.broker, Emit: p.emit, DeadStream: runtimeDead, Backoff: quickBackoff(), Grace: patience(p.TB),
	}
	for _, f := range edit {
		f(&c)
	}
	r, err := p.parts.Router(c)
	p.ok(err, "make a router")
	return r
}

// route adds a route; its topic is [runtimeTopic] and its name "g", unless o has one.
func (p *program) route(r Router, h es.Handler, o router.Options) {
	p.Helper()
	p.routeTo(r, runtimeTopic, h, o)
}

func (p *program) routeTo(r Router, topic string, h es.Handler, o router.Options) {
	p.Helper()
	if o.Name == "" {
		o.Name = "g"
	}
	if o.Lease == 0 {
		o.Lease = p.lease
	}
	p.ok(r.Route(topic, h, o), "add a route of topic %q", topic)
}

// serve runs a router with one route.
func (p *program) serve(h es.Handler, o router.Options) Router {
	p.Helper()
	r := p.router()
	p.route(r, h, o)
	p.run(r)
	return r
}

// publish publishes messages to the topics of their categories, as somebody else does: the program may die of them meanwhile.
func (p *program) publish(msgs ...*es.Message) {
	p.Helper()
	if !p.broker.Log {
		p.ok(p.outside.Publish(p.ctx, es.ToCategory(msgs...)...), "publish %d messages", len(msgs))
		return
	}
	for _, m := range msgs {
		_, err := p.handle.Events().Append(p.ctx, es.AppendTo(m.Stream, es.Any, m))
		p.ok(err, "append a message")
	}
}

// enqueue puts messages into the outbox.
func (p *program) enqueue(msgs ...*es.Message) {
	p.Helper()
	p.ok(p.handle.Outbox().Enqueue(p.ctx, msgs...), "enqueue %d messages", len(msgs))
}

// processing returns how the processors of the program work, with what the broker needs from them. They look for entries when they
// are told, and by themselves only when the test is over.
func (p *program) processing() processor.Config {
	c := processor.Config{
		Outbox: p.backend.Outbox(), Events: p.backend.Events(), DeadStream: runtimeDead, PollInterval: time.Hour, Lease: p.lease,
		Retry: processor.Retry{Backoff: quickBackoff()},
	}
	if !p.broker.Log {
		c.Publisher = p.broker
	}
	if p.lease > 0 { // who waits for the end of a lease is woken by it, or looks
		c.PollInterval = p.lease
	}
	return c
}

// process runs an at-least-once processor that brings what is in the outbox to the store and the broker.
func (p *program) process(edit ...func(c *processor.Config)) Processor {
	p.Helper()
	return p.processBy(p.parts.AtLeastOnce, edit...)
}

func (p *program) processBy(maker func(processor.Config) (Processor, error), edit ...func(c *processor.Config)) Processor {
	p.Helper()
	c := p.processing()
	for _, f := range edit {
		f(&c)
	}
	proc, err := maker(c)
	p.ok(err, "make a processor")
	p.run(proc)
	return proc
}

// deadLetters opens the dead letters of the program.
func (p *program) deadLetters() DeadLetters {
	p.Helper()
	d, err := p.parts.DeadLetters(deadletter.Config{Events: p.backend.Events(), Outbox: p.backend.Outbox(), Stream: runtimeDead})
	p.ok(err, "open the dead letters")
	return d
}

// awaitEvents waits until the store has so many events that match, and returns them all.
func (p *program) awaitEvents(q es.Query, n int) []*es.Message {
	p.Helper()
	events := p.handle.Events()
	for {
		head, err := events.Head(p.ctx)
		p.ok(err, "head of the store")
		if found := p.events(q); len(found) >= n {
			return found
		}
		if _, err := events.Wait(p.ctx, head); err != nil {
			p.Fatalf("waited in vain for %d events of %+v, there are %d: %v", n, q, len(p.events(q)), err)
		}
	}
}

// events returns the events that match.
func (p *program) events(q es.Query) []*es.Message {
	p.Helper()
	var found []*es.Message
	for m, err := range p.handle.Events().Read(context.WithoutCancel(p.ctx), q) {
		p.ok(err, "read %+v", q)
		found = append(found, m)
	}
	return found
}

// awaitLetters waits until there are so many dead letters in the dead stream, and returns their messages and records.
func (p *program) awaitLetters(n int) ([]*es.Message, []es.DeadLetterRecord) {
	p.Helper()
	msgs := p.awaitEvents(es.Query{Stream: runtimeDead, Names: []string{es.DeadLetterName}}, n)
	var records []es.DeadLetterRecord
	for record, err := range es.ReadDeadLetters(p.ctx, p.handle.Events(), runtimeDead) {
		p.ok(err, "read the dead letters")
		records = append(records, record)
	}
	return msgs, records[:len(msgs)]
}

// wantLetters fails unless the dead letters are those of messages with these texts, in that order.
func (p *program) wantLetters(texts ...string) {
	p.Helper()
	_, records := p.awaitLetters(len(texts))
	got := make([]string, len(records))
	for i, r := range records {
		got[i] = runtimeText(r.Original.Message())
	}
	if fmt.Sprint(got) != fmt.Sprint(texts) {
		p.Fatalf("the dead letters are those of %v, want %v", got, texts)
	}
}

// outboxStats tells what is in the outbox.
func (p *program) outboxStats() es.OutboxStats {
	p.Helper()
	stats, err := p.handle.Outbox().Stats(p.ctx)
	p.ok(err, "statistics of the outbox")
	return stats
}

// awaitEmptyOutbox waits until everything in the outbox is done.
func (p *program) awaitEmptyOutbox() {
	p.Helper()
	p.until("the outbox is empty", func() bool { return p.outboxStats().Depth == 0 })
}

// failEnqueues lets the next n calls that enqueue fail, before anything is enqueued.
func (p *program) failEnqueues(n int) {
	p.link.obey(func(call string, done bool) error {
		if call == "Outbox.Enqueue" && !done && n > 0 {
			n--
			return errLost
		}
		return nil
	})
}
