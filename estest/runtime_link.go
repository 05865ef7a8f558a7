package estest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// link is what stands between a program and its backend and broker. A line cuts it, as kill -9 does, or lets calls fail.
type link struct {
	dead context.Context // it ends with the program that the link is of
	kill context.CancelFunc

	mu   sync.Mutex
	rule func(call string, done bool) error
}

func newLink() *link {
	l := &link{}
	l.dead, l.kill = context.WithCancel(context.Background())
	return l
}

// errSevered is what a dead program gets. Nobody sees it; it ends what would go on trying.
var errSevered = fmt.Errorf("the program was killed: %w", es.ErrClosed)

// errLost is a call that failed because the line wanted it so.
var errLost = errors.New("the connection was lost")

// sever kills the program, as far as anybody outside of it can tell: no call is made any more, and nothing that is under way answers.
func (l *link) sever() { l.kill() }

// obey sets a rule. It is asked before each call, and the call is not made when it returns an error; and again when a call has
// succeeded (done), whose answer is lost when it then returns an error. Calls are named by role and method, as "Outbox.Claim",
// and those of the broker as "Publish", "Receive", "Ack" and so on. It is asked by one goroutine at a time.
func (l *link) obey(rule func(call string, done bool) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rule = rule
}

func (l *link) ask(call string, done bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead.Err() == nil && l.rule != nil {
		if err := l.rule(call, done); err != nil {
			return err
		}
	}
	if l.dead.Err() != nil {
		return errSevered
	}
	return nil
}

// try makes a call.
func (l *link) try(call string, do func() error) error {
	if err := l.ask(call, false); err != nil {
		return err
	}
	err := do()
	if err == nil || errors.As(err, new(*es.BatchError)) {
		if lost := l.ask(call, true); lost != nil {
			return lost
		}
	}
	return err
}

// across makes a call that has a result.
func across[R any](l *link, call string, do func() (R, error)) (R, error) {
	var result R
	err := l.try(call, func() (err error) {
		result, err = do()
		return err
	})
	if err != nil {
		var none R
		return none, err
	}
	return result, nil
}

// linkedBackend is a backend at the other end of a link.
type linkedBackend struct {
	es.Backend

	link *link
}

func (b linkedBackend) Events() es.EventStore { return linkedEvents{b.Backend.Events(), b.link} }
func (b linkedBackend) ReadModels() es.ReadModels {
	return linkedModels{b.Backend.ReadModels(), b.link}
}
func (b linkedBackend) Dedupe() es.Dedupe { return linkedDedupe{b.Backend.Dedupe(), b.link} }
func (b linkedBackend) Leases() es.Leases { return linkedLeases{b.Backend.Leases(), b.link} }

func (b linkedBackend) Outbox() es.Outbox {
	outbox := linkedOutbox{b.Backend.Outbox(), b.link}
	if forwarder, ok := outbox.Outbox.(es.Forwarder); ok {
		return linkedForwarder{outbox, forwarder}
	}
	return outbox
}

type linkedEvents struct {
	es.EventStore

	link *link
}

func (e linkedEvents) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	return across(e.link, "Events.Append", func() (es.Appended, error) { return e.EventStore.Append(ctx, a) })
}

func (e linkedEvents) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	return e.link.each("Events.Append", len(as), func() []es.Outcome { return e.EventStore.AppendEach(ctx, as) })
}

// each makes a call that has an outcome for each of its parts.
func (l *link) each(call string, n int, do func() []es.Outcome) []es.Outcome {
	outcomes, err := across(l, call, func() ([]es.Outcome, error) { return do(), nil })
	if err == nil {
		return outcomes
	}
	outcomes = make([]es.Outcome, n)
	for i := range outcomes {
		outcomes[i].Err = err
	}
	return outcomes
}

func (e linkedEvents) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	return func(yield func(*es.Message, error) bool) {
		if err := e.link.ask("Events.Read", false); err != nil {
			yield(nil, err)
			return
		}
		e.EventStore.Read(ctx, q)(yield)
	}
}

func (e linkedEvents) Head(ctx context.Context) (es.Checkpoint, error) {
	return across(e.link, "Events.Head", func() (es.Checkpoint, error) { return e.EventStore.Head(ctx) })
}

func (e linkedEvents) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	return across(e.link, "Events.Wait", func() (es.Checkpoint, error) { return e.EventStore.Wait(ctx, after) })
}

type linkedOutbox struct {
	es.Outbox

	link *link
}

func (o linkedOutbox) Enqueue(ctx context.Context, msgs ...*es.Message) error {
	return o.link.try("Outbox.Enqueue", func() error { return o.Outbox.Enqueue(ctx, msgs...) })
}

func (o linkedOutbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	return across(o.link, "Outbox.Claim", func() (int, error) { return o.Outbox.Claim(ctx, dst, opts) })
}

func (o linkedOutbox) Complete(ctx context.Context, entries []es.Entry) error {
	return o.link.try("Outbox.Complete", func() error { return o.Outbox.Complete(ctx, entries) })
}

func (o linkedOutbox) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	return o.link.try("Outbox.Fail", func() error { return o.Outbox.Fail(ctx, entries, f) })
}

func (o linkedOutbox) Release(ctx context.Context, entries []es.Entry) error {
	return o.link.try("Outbox.Release", func() error { return o.Outbox.Release(ctx, entries) })
}

func (o linkedOutbox) Extend(ctx context.Context, entries []es.Entry) error {
	return o.link.try("Outbox.Extend", func() error { return o.Outbox.Extend(ctx, entries) })
}

func (o linkedOutbox) Wait(ctx context.Context) error {
	return o.link.try("Outbox.Wait", func() error { return o.Outbox.Wait(ctx) })
}

func (o linkedOutbox) Stats(ctx context.Context) (es.OutboxStats, error) {
	return across(o.link, "Outbox.Stats", func() (es.OutboxStats, error) { return o.Outbox.Stats(ctx) })
}

// linkedForwarder is an outbox that can append in the commit that completes.
type linkedForwarder struct {
	linkedOutbox

	forwarder es.Forwarder
}

func (o linkedForwarder) Forward(ctx context.Context, entries []es.Entry) []es.Outcome {
	return o.link.each("Outbox.Forward", len(entries), func() []es.Outcome { return o.forwarder.Forward(ctx, entries) })
}

type linkedModels struct {
	es.ReadModels

	link *link
}

func (m linkedModels) Load(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
	return across(m.link, "ReadModels.Load", func() ([]es.Document, error) { return m.ReadModels.Load(ctx, model, keys...) })
}

func (m linkedModels) List(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
	return across(m.link, "ReadModels.List", func() ([]es.Document, error) { return m.ReadModels.List(ctx, q) })
}

func (m linkedModels) Commit(ctx context.Context, c es.Commit) error {
	return m.link.try("ReadModels.Commit", func() error { return m.ReadModels.Commit(ctx, c) })
}

func (m linkedModels) Progress(ctx context.Context, projection string) (es.Progress, error) {
	return across(m.link, "ReadModels.Progress", func() (es.Progress, error) { return m.ReadModels.Progress(ctx, projection) })
}

type linkedDedupe struct {
	es.Dedupe

	link *link
}

func (d linkedDedupe) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	return d.link.try("Dedupe.Reserve", func() error { return d.Dedupe.Reserve(ctx, group, rs, lease) })
}

func (d linkedDedupe) Complete(ctx context.Context, group string, rs []es.Reservation) error {
	return d.link.try("Dedupe.Complete", func() error { return d.Dedupe.Complete(ctx, group, rs) })
}

func (d linkedDedupe) Extend(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	return d.link.try("Dedupe.Extend", func() error { return d.Dedupe.Extend(ctx, group, rs, lease) })
}

func (d linkedDedupe) Release(ctx context.Context, group string, rs []es.Reservation) error {
	return d.link.try("Dedupe.Release", func() error { return d.Dedupe.Release(ctx, group, rs) })
}

type linkedLeases struct {
	es.Leases

	link *link
}

func (l linkedLeases) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
	return across(l.link, "Leases.Acquire", func() (es.Lease, error) { return l.Leases.Acquire(ctx, name, owner, ttl) })
}

func (l linkedLeases) Renew(ctx context.Context, lease es.Lease, ttl time.Duration) (es.Lease, error) {
	return across(l.link, "Leases.Renew", func() (es.Lease, error) { return l.Leases.Renew(ctx, lease, ttl) })
}

func (l linkedLeases) Release(ctx context.Context, lease es.Lease) error {
	return l.link.try("Leases.Release", func() error { return l.Leases.Release(ctx, lease) })
}
