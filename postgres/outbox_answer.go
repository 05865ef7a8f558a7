package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Complete removes entries that are done.
func (o *Outbox) Complete(ctx context.Context, entries []es.Entry) error {
	return o.answer(ctx, entries, synced, o.sql.complete)
}

// Release gives entries back at once; it was not an attempt.
func (o *Outbox) Release(ctx context.Context, entries []es.Entry) error {
	return o.answer(ctx, entries, unsynced, o.sql.release)
}

// Fail gives entries back after a failed attempt. An Err that is nil is [es.ErrInvalid]; a negative Delay counts as none. Of the text of
// a dead letter's error what PostgreSQL cannot hold is replaced.
func (o *Outbox) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	if err := o.alive(ctx); err != nil {
		return err
	}
	if f.Err == nil {
		return es.Invalidf("failure", "has no error; it takes what went wrong")
	}
	var err error
	if f.Dead || es.Permanent(f.Err) {
		reason := strings.ReplaceAll(strings.ToValidUTF8(f.Err.Error(), "\uFFFD"), "\x00", "\uFFFD")
		err = o.answer(ctx, entries, synced, o.sql.bury, reason, f.Park)
	} else {
		err = o.answer(ctx, entries, synced, o.sql.retry, max(f.Delay, 0).Microseconds())
	}
	for i := range entries {
		if es.Of(err, i) == nil {
			o.failures.Add(1)
		}
	}
	return err
}

// Extend starts the lease of the entries anew, and sets their Deadline. The lease is on the stream, so other entries of the stream that
// the claim handed out have the new one too.
func (o *Outbox) Extend(ctx context.Context, entries []es.Entry) error {
	until := make(map[uuid.UUID]int64, len(entries))
	err := o.eachHeld(ctx, entries, unsynced, func(b *pgx.Batch, c *claimedEntries, answered answers) {
		clear(until)
		b.Queue(o.sql.extend, c.ids, c.tokens, c.of).Query(func(rows pgx.Rows) error {
			var k entryKey
			var at int64
			_, err := pgx.ForEachRow(rows, []any{&k.id, &k.token, &at}, func() error {
				until[k.id], answered[k] = at, true
				return nil
			})
			return err
		})
	})
	for i := range entries {
		if es.Of(err, i) == nil {
			entries[i].Deadline = timeAt(until[entries[i].ID])
		}
	}
	return err
}

// answer answers each entry that is still the caller's by a statement, in one round trip. For the others there is an error.
func (o *Outbox) answer(ctx context.Context, entries []es.Entry, how durability, statement string, arguments ...any) error {
	return o.eachHeld(ctx, entries, how, func(b *pgx.Batch, c *claimedEntries, answered answers) {
		b.Queue(statement, append([]any{c.ids, c.tokens, c.of}, arguments...)...).Query(answered.collect)
	})
}

// entryKey is an entry of a claim.
type entryKey struct {
	id    uuid.UUID
	token int64
}

func keyOf(entry es.Entry) entryKey { return entryKey{entry.ID, int64(entry.Token)} } //nolint:gosec // it was one before

// answers are the entries that a statement has answered.
type answers map[entryKey]bool

// collect reads rows of an ID and a token each.
func (a answers) collect(rows pgx.Rows) error {
	var k entryKey
	_, err := pgx.ForEachRow(rows, []any{&k.id, &k.token}, func() error {
		a[k] = true
		return nil
	})
	return err
}

// claimedEntries are entries as their claims gave them.
type claimedEntries struct {
	ids     []uuid.UUID
	tokens  []int64
	of      []string // the stream of each
	streams []string // those, sorted, each once
	errs    []error  // of entries that are none, or twice there
}

func claimed(entries []es.Entry) *claimedEntries {
	c := &claimedEntries{errs: make([]error, len(entries))}
	before := make(answers, len(entries))
	for i, entry := range entries {
		switch {
		case entry.Message == nil:
			c.errs[i] = es.Invalidf("outbox entry", "has no message; pass what Claim gave")
		case before[keyOf(entry)]:
			c.errs[i] = leaseOfEntryLost(entry)
		default:
			k := keyOf(entry)
			before[k] = true
			c.ids, c.tokens = append(c.ids, k.id), append(c.tokens, k.token)
			c.of = append(c.of, entry.Stream)
		}
	}
	c.streams = slices.Clone(c.of)
	slices.Sort(c.streams)
	c.streams = slices.Compact(c.streams)
	return c
}

func leaseOfEntryLost(entry es.Entry) error {
	return fmt.Errorf("outbox entry %s of stream %q: %w", entry.ID, entry.Stream, es.ErrLeaseLost)
}

// eachHeld has a statement answer the entries that are still the caller's. The rows of their streams are locked before, in the order in
// which everybody locks them, and settled afterwards.
func (o *Outbox) eachHeld(ctx context.Context, entries []es.Entry, how durability,
	queue func(b *pgx.Batch, c *claimedEntries, answered answers),
) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	defer o.db.handle.leave()
	if len(entries) == 0 {
		return nil
	}
	c := claimed(entries)
	answered := make(answers, len(entries))
	if len(c.ids) > 0 {
		err := o.db.pipeline(ctx, how, func(b *pgx.Batch) {
			clear(answered)
			b.Queue(o.sql.lock, c.streams)
			queue(b, c, answered)
			b.Queue(o.sql.settle, c.streams)
		})
		if err != nil {
			return err
		}
		o.changed(outboxChanged)
	}
	for i, entry := range entries {
		if c.errs[i] == nil && !answered[keyOf(entry)] {
			c.errs[i] = leaseOfEntryLost(entry)
		}
	}
	return es.BatchErr(c.errs)
}
