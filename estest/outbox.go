package estest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RunOutbox holds an outbox to what it promises. An outbox that is an [es.Forwarder] is held to that too, when its storage is
// an [OutboxStorage].
func RunOutbox(t *testing.T, h Harness[es.Outbox]) {
	t.Helper()
	run(t, h, OutboxLines())
}

// OutboxLines returns the tests of [RunOutbox].
func OutboxLines() []Line[Harness[es.Outbox]] {
	return slices.Concat(
		outboxEnqueueLines(), outboxClaimLines(), outboxOwnerLines(), outboxLeaseLines(), outboxStaleLines(), outboxFailLines(),
		outboxDeadLines(), outboxReplayLines(), outboxWaitLines(), outboxStatsLines(), outboxCloseLines(), outboxForwardLines(),
		outboxProcessLines(),
	)
}

// OutboxStorage is storage that has an event store beside the outbox. It is optional.
type OutboxStorage interface {
	// OpenForwarder opens an outbox that is an [es.Forwarder], and the event store that it forwards to. Both are closed when
	// the test ends.
	OpenForwarder(t testing.TB, namespace string) (es.Outbox, es.EventStore)
}

// outboxBench is an outbox under test. Its messages have labels such as "a1", the first of stream "a": the label is the name
// of the message, and its first letter the stream.
type outboxBench struct {
	*bench[es.Outbox]
}

func outboxLine(name string, test func(b *outboxBench)) Line[Harness[es.Outbox]] {
	return benchLine(name, func(b *bench[es.Outbox]) { test(&outboxBench{b}) })
}

func labeled(label string) *es.Message {
	return es.NewMessage(label[:1], label, []byte(`"`+label+`"`))
}

// enqueue enqueues messages with these labels in one call, and returns them.
func (b *outboxBench) enqueue(labels ...string) []*es.Message {
	b.Helper()
	msgs := make([]*es.Message, len(labels))
	for i, label := range labels {
		msgs[i] = labeled(label)
	}
	b.ok(b.role.Enqueue(b.ctx, msgs...), "enqueue %v", labels)
	return msgs
}

// claim claims what there is, in as many calls as it takes. A claim with a short lease is made once: the next one might get
// the same entries again.
func (b *outboxBench) claim(o es.Outbox, owner string, lease time.Duration) []es.Entry {
	b.Helper()
	const enough = 64
	var got []es.Entry
	for {
		claimed := b.claimUpTo(o, owner, enough, lease)
		got = append(got, claimed...)
		if len(claimed) == 0 || lease < longLease {
			return got
		}
		if len(got) > 100*enough {
			b.Fatalf("claims go on and on: %d entries so far", len(got))
		}
	}
}

// claimUpTo claims once.
func (b *outboxBench) claimUpTo(o es.Outbox, owner string, most int, lease time.Duration) []es.Entry {
	b.Helper()
	dst := make([]es.Entry, most)
	n, err := o.Claim(b.ctx, dst, es.ClaimOptions{Owner: owner, Lease: lease})
	b.ok(err, "claim by %s", owner)
	if n < 0 || n > most {
		b.Fatalf("claim into %d entries returned %d", most, n)
	}
	for i, e := range dst[:n] {
		if e.Message == nil || e.Attempt < 1 {
			b.Fatalf("claimed entry %d has the message %v and the attempt %d", i, e.Message, e.Attempt)
		}
	}
	return dst[:n]
}

// abandon claims by owner A for a short time, as an owner that dies.
func (b *outboxBench) abandon() {
	b.Helper()
	if got := b.claim(b.role, "A", shortLease); len(got) == 0 {
		b.Fatal("nothing to claim")
	}
}

// take claims by owner A for a long time, and expects these entries.
func (b *outboxBench) take(labels ...string) []es.Entry {
	b.Helper()
	entries := b.claim(b.role, "A", longLease)
	b.has(entries, labels...)
	return b.sorted(entries)
}

// await claims until there are n entries, waiting in between as a processor does.
func (b *outboxBench) await(o es.Outbox, owner string, n int, lease time.Duration) []es.Entry {
	b.Helper()
	var got []es.Entry
	for {
		got = append(got, b.claim(o, owner, lease)...)
		if len(got) >= n {
			return got
		}
		b.ok(o.Wait(b.ctx), "wait for %d entries, having %v", n, labelsOf(got))
		b.ok(b.ctx.Err(), "wait for %d entries, having %v", n, labelsOf(got))
	}
}

// has ends the test unless the entries have these labels, in this order within each stream.
func (b *outboxBench) has(entries []es.Entry, labels ...string) {
	b.Helper()
	got := labelsOf(entries)
	byStream := func(a, b string) int { return strings.Compare(a[:1], b[:1]) }
	want := slices.Clone(labels)
	sorted := slices.Clone(got)
	slices.SortStableFunc(want, byStream)
	slices.SortStableFunc(sorted, byStream)
	if !slices.Equal(sorted, want) {
		b.Fatalf("the entries are %v, want %v, in order within each stream", got, labels)
	}
}

// sorted returns the entries by stream, so that a line can name them by index; within a stream they stay in order.
func (b *outboxBench) sorted(entries []es.Entry) []es.Entry {
	slices.SortStableFunc(entries, func(x, y es.Entry) int { return strings.Compare(x.Stream, y.Stream) })
	return entries
}

// nothing ends the test when an owner can claim something.
func (b *outboxBench) nothing(o es.Outbox, owner, why string) {
	b.Helper()
	if got := b.claim(o, owner, longLease); len(got) > 0 {
		b.Fatalf("%s: %s can claim %v", why, owner, labelsOf(got))
	}
}

// dead returns the dead letters.
func (b *outboxBench) dead(o es.Outbox) []es.DeadEntry {
	b.Helper()
	var got []es.DeadEntry
	for e, err := range o.DeadLetters(b.ctx) {
		b.ok(err, "dead letters")
		if e.Message == nil {
			b.Fatal("a dead letter has no message")
		}
		got = append(got, e)
	}
	return got
}

// isDead ends the test unless these are the dead letters, in this order.
func (b *outboxBench) isDead(o es.Outbox, labels ...string) []es.DeadEntry {
	b.Helper()
	letters := b.dead(o)
	var got []string
	for _, e := range letters {
		got = append(got, e.Name)
	}
	if !slices.Equal(got, labels) {
		b.Fatalf("the dead letters are %v, want %v", got, labels)
	}
	return letters
}

// stats returns the stats of the handle.
func (b *outboxBench) stats(o es.Outbox) es.OutboxStats {
	b.Helper()
	s, err := o.Stats(b.ctx)
	b.ok(err, "stats")
	return s
}

// holds ends the test unless the outbox has so many entries.
func (b *outboxBench) holds(o es.Outbox, depth int) {
	b.Helper()
	if got := b.stats(o).Depth; got != depth {
		b.Fatalf("the outbox has %d entries, want %d", got, depth)
	}
}

func labelsOf(entries []es.Entry) []string {
	labels := make([]string, len(entries))
	for i, e := range entries {
		labels[i] = e.Name
	}
	return labels
}

func idsOf(msgs []*es.Message) []uuid.UUID {
	ids := make([]uuid.UUID, len(msgs))
	for i, m := range msgs {
		ids[i] = m.ID
	}
	return ids
}

// errBoom is a failure like any other: another attempt may help.
var errBoom = errors.New("boom")

// outboxAnswers are the ways to answer entries.
func outboxAnswers() map[string]func(ctx context.Context, o es.Outbox, entries []es.Entry) error {
	return map[string]func(ctx context.Context, o es.Outbox, entries []es.Entry) error{
		"complete": func(ctx context.Context, o es.Outbox, entries []es.Entry) error { return o.Complete(ctx, entries) },
		"fail": func(ctx context.Context, o es.Outbox, entries []es.Entry) error {
			return o.Fail(ctx, entries, es.Failure{Err: errBoom})
		},
		"release": func(ctx context.Context, o es.Outbox, entries []es.Entry) error { return o.Release(ctx, entries) },
		"extend":  func(ctx context.Context, o es.Outbox, entries []es.Entry) error { return o.Extend(ctx, entries) },
	}
}
