package processor_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// errDown is an error that another attempt can help.
var errDown = errors.New("down")

// bench is what a processor works between. Every test runs in a synctest bubble: time passes when everybody waits, and
// synctest.Wait returns when there is nothing left to do.
type bench struct {
	*testing.T

	backend   *memory.Backend
	outbox    *outbox
	events    *events
	publisher *publisher
	config    processor.Config
}

// inBubble runs a test between fakes that do what the backend in memory does until they are told otherwise.
func inBubble(t *testing.T, test func(b *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(newBench(t)) })
}

func newBench(t *testing.T) *bench {
	t.Helper()
	backend := memory.New()
	b := &bench{
		T: t, backend: backend,
		outbox:    &outbox{Outbox: backend.Outbox()},
		events:    &events{EventStore: backend.Events()},
		publisher: &publisher{},
	}
	b.config = processor.Config{Outbox: b.outbox, Events: b.events, Publisher: b.publisher, Retry: processor.Retry{Attempts: 3}}
	return b
}

// start starts a processor that is stopped when the test ends.
func (b *bench) start(c processor.Config) *processor.AtLeastOnce {
	b.Helper()
	p, err := processor.NewAtLeastOnce(c)
	b.ok(err)
	b.ok(p.Start(b.Context()))
	b.Cleanup(func() { b.ok(p.Stop(context.Background())) })
	return p
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// enqueue enqueues a message for each label, such as "order-7/paid": the stream, and the name.
func (b *bench) enqueue(labels ...string) []*es.Message {
	b.Helper()
	msgs := make([]*es.Message, len(labels))
	for i, label := range labels {
		msgs[i] = message(label)
	}
	b.ok(b.outbox.Enqueue(b.Context(), msgs...))
	return msgs
}

func message(label string) *es.Message {
	stream, name, _ := strings.Cut(label, "/")
	return es.NewMessage(stream, name, []byte(`"`+label+`"`))
}

func label(m *es.Message) string { return m.Stream + "/" + m.Name }

// stored returns the labels of what is stored, dead letters left out.
func (b *bench) stored() []string {
	b.Helper()
	labels := []string{}
	for m, err := range b.backend.Events().Read(context.Background(), es.Query{}) {
		b.ok(err)
		if m.Name != es.DeadLetterName {
			labels = append(labels, label(m))
		}
	}
	return labels
}

// dead returns the payloads of the dead stream.
func (b *bench) dead() []es.DeadLetterRecord {
	b.Helper()
	records := []es.DeadLetterRecord{}
	for m, err := range b.backend.Events().Read(context.Background(), es.Query{Stream: "dead"}) {
		b.ok(err)
		var record es.DeadLetterRecord
		b.ok(es.JSON{}.Unmarshal(m.Data, &record))
		records = append(records, record)
	}
	return records
}

func (b *bench) stats() es.OutboxStats {
	b.Helper()
	stats, err := b.backend.Outbox().Stats(context.Background())
	b.ok(err)
	return stats
}

func (b *bench) same(what string, got, want []string) {
	b.Helper()
	if !slices.Equal(got, want) {
		b.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// outbox is an outbox whose calls can be replaced. It is no es.Forwarder.
type outbox struct {
	es.Outbox

	claim                     func(context.Context, []es.Entry, es.ClaimOptions) (int, error)
	complete, release, extend func(context.Context, []es.Entry) error
	fail                      func(context.Context, []es.Entry, es.Failure) error
	wait                      func(context.Context) error
}

func (o *outbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	if o.claim != nil {
		return o.claim(ctx, dst, opts)
	}
	return o.Outbox.Claim(ctx, dst, opts)
}

func (o *outbox) Complete(ctx context.Context, entries []es.Entry) error {
	if o.complete != nil {
		return o.complete(ctx, entries)
	}
	return o.Outbox.Complete(ctx, entries)
}

func (o *outbox) Release(ctx context.Context, entries []es.Entry) error {
	if o.release != nil {
		return o.release(ctx, entries)
	}
	return o.Outbox.Release(ctx, entries)
}

func (o *outbox) Extend(ctx context.Context, entries []es.Entry) error {
	if o.extend != nil {
		return o.extend(ctx, entries)
	}
	return o.Outbox.Extend(ctx, entries)
}

func (o *outbox) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	if o.fail != nil {
		return o.fail(ctx, entries, f)
	}
	return o.Outbox.Fail(ctx, entries, f)
}

func (o *outbox) Wait(ctx context.Context) error {
	if o.wait != nil {
		return o.wait(ctx)
	}
	return o.Outbox.Wait(ctx)
}

// events is an event store whose calls can be replaced.
type events struct {
	es.EventStore

	append     func(context.Context, es.Append) (es.Appended, error)
	appendEach func(context.Context, []es.Append) []es.Outcome
	read       func(context.Context, es.Query) iter.Seq2[*es.Message, error]
}

func (e *events) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	if e.append != nil {
		return e.append(ctx, a)
	}
	return e.EventStore.Append(ctx, a)
}

func (e *events) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	if e.appendEach != nil {
		return e.appendEach(ctx, as)
	}
	return e.EventStore.AppendEach(ctx, as)
}

func (e *events) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	if e.read != nil {
		return e.read(ctx, q)
	}
	return e.EventStore.Read(ctx, q)
}

// failStream lets the appends to one stream fail while cause gives an error, and counts them.
func (e *events) failStream(stream string, cause func(times int) error) {
	times := 0
	e.appendEach = func(ctx context.Context, as []es.Append) []es.Outcome {
		outcomes := make([]es.Outcome, len(as))
		for i, a := range as {
			if a.Streams[0].Stream == stream {
				times++
				if err := cause(times); err != nil {
					outcomes[i].Err = err
					continue
				}
			}
			outcomes[i].Appended, outcomes[i].Err = e.EventStore.Append(ctx, a)
		}
		return outcomes
	}
}

// publisher is a publisher that keeps what it is given and fails what it is told to, in the way that es.Publisher asks for.
type publisher struct {
	mu    sync.Mutex
	taken []es.Publication
	times []time.Time
	calls int
	// before is called with each call; its error is that of the whole call.
	before func(ctx context.Context, pubs []es.Publication) error
	// fail gives the error for one message.
	fail func(m *es.Message) error
}

func (p *publisher) Publish(ctx context.Context, pubs ...es.Publication) error {
	if p.before != nil {
		if err := p.before(ctx, pubs); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	type key struct{ topic, stream string }
	failed := map[key]error{}
	errs := make([]error, len(pubs))
	for i, pub := range pubs {
		k := key{pub.Topic, pub.Message.Stream}
		if p.fail != nil && failed[k] == nil {
			failed[k] = p.fail(pub.Message)
		}
		if errs[i] = failed[k]; errs[i] == nil {
			p.taken = append(p.taken, es.Publication{Topic: pub.Topic, Message: pub.Message.Clone()})
			p.times = append(p.times, time.Now())
		}
	}
	return es.BatchErr(errs)
}

// published returns "label" for each message that was taken, in order.
func (p *publisher) published() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	labels := []string{}
	for _, pub := range p.taken {
		labels = append(labels, label(pub.Message))
	}
	return labels
}

// of keeps the labels of one stream.
func of(stream string, labels []string) []string {
	return slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return !strings.HasPrefix(l, stream+"/") })
}

// numbered returns labels of n messages for a stream.
func numbered(stream string, n int) []string {
	labels := make([]string, n)
	for i := range labels {
		labels[i] = fmt.Sprintf("%s/%d", stream, i+1)
	}
	return labels
}
