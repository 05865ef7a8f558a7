package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// waiting returns the IDs in the outbox.
func (b *appendBench) waiting() map[uuid.UUID]bool {
	b.Helper()
	rows, err := b.other.Query(b.ctx, "SELECT id FROM eventsourcing.outbox_1")
	b.must(err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	b.must(err)
	waiting := map[uuid.UUID]bool{}
	for _, id := range ids {
		waiting[id] = true
	}
	return waiting
}

// sendInTx appends and enqueues in an InTx that does nothing else.
func sendInTx(ctx context.Context, db *postgres.DB, a es.Append, entries ...*es.Message) (es.Appended, error) {
	var outcome *es.Outcome
	err := db.InTx(ctx, pgx.TxOptions{}, func(tx *postgres.Tx) error {
		outcome = tx.Append(a)
		return tx.Enqueue(entries...)
	})
	if (err == nil) != (outcome.Err == nil) {
		err = errors.Join(err, fmt.Errorf("the outcome of the append is %w", outcome.Err))
	}
	return outcome.Appended, err
}

// TestEntriesAreThereWithTheirEventsAndWithNoOthers has many at once append with an entry, of whom some do not get through, for each of the
// reasons that there are.
func TestEntriesAreThereWithTheirEventsAndWithNoOthers(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	dbs := []*postgres.DB{openDB(t, postgres.Config{URL: b.url}), openDB(t, postgres.Config{URL: b.url})}
	taken, same := event("other-1", "Waits"), event("other-1", "Waits")
	b.must(dbs[0].Outbox().Enqueue(b.ctx, taken, same))
	other := taken.Clone()
	other.Data = []byte(`{"other":true}`)

	type attempt struct {
		stream string
		expect es.Expectation
		entry  *es.Message
		want   error
	}
	const callers, rounds = 32, 24
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for round := range rounds {
				a := attempt{stream: fmt.Sprintf("order-%d", caller), expect: es.Any, entry: event("mail-1", "Sent")}
				switch (caller + round) % 6 {
				case 0:
					a.expect, a.want = es.Exactly(1000), es.ErrConflict
				case 1:
					a.entry, a.want = other, es.ErrDuplicate
				case 2:
					a.entry = same
				case 3:
					a.stream = "order-all"
				}
				appended := events(a.stream, 1+round%2, a.expect)
				done, err := sendInTx(b.ctx, dbs[round%2], appended, a.entry)
				if !errors.Is(err, a.want) || (err == nil) != (a.want == nil) {
					t.Errorf("caller %d, round %d: %v, want %v", caller, round, err, a.want)
				}
				for _, m := range appended.Streams[0].Events {
					b.wantTogether(m.ID, a.entry.ID, err == nil, a.entry == other || a.entry == same)
				}
				if err == nil && (len(done.Places) != len(appended.Streams[0].Events) || done.Position == 0) {
					t.Errorf("caller %d, round %d: %+v", caller, round, done)
				}
			}
		})
	}
	all.Wait()
}

// wantTogether looks, on a connection of its own, whether an event is there as it should be, and its entry with it.
func (b *appendBench) wantTogether(id, entry uuid.UUID, want, before bool) {
	b.Helper()
	c, err := pgx.Connect(b.ctx, b.url)
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = c.Close(b.ctx) }()
	var stored, waits bool
	err = c.QueryRow(b.ctx, "SELECT EXISTS (SELECT FROM eventsourcing.events_1 WHERE id = $1), "+
		"EXISTS (SELECT FROM eventsourcing.outbox_1 WHERE id = $2)", id, entry).Scan(&stored, &waits)
	if err != nil {
		b.Error(err)
	}
	if stored != want || waits != (want || before) {
		b.Errorf("the event is there: %t, its entry: %t; want %t", stored, waits, want)
	}
}

// TestEntriesDoNotWaitForAppendsInTheirBatch has a stream that somebody keeps for himself.
func TestEntriesDoNotWaitForAppendsInTheirBatch(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	tx := b.held(events("held-1", 1, es.Any))
	db := openDB(t, postgres.Config{URL: b.url, Lanes: 1})
	store, _ := db.Events().(*postgres.EventStore)
	late := b.send(b.ctx, store, events("held-1", 1, es.Any))
	b.untilWaiting(1)

	entry := event("mail-1", "Sent")
	lateToo := make(chan error, 1)
	go func() {
		_, err := sendInTx(b.ctx, db, events("held-1", 1, es.Any), entry)
		lateToo <- err
	}()
	var entries []*es.Message
	var all sync.WaitGroup
	for range 64 {
		m := event("mail-2", "Sent")
		entries = append(entries, m)
		all.Go(func() { b.must(db.Outbox().Enqueue(b.ctx, m)) })
	}
	all.Wait()
	waiting := b.waiting()
	for _, m := range entries {
		if !waiting[m.ID] {
			t.Errorf("entry %s was acknowledged and is not there", m.ID)
		}
	}
	if waiting[entry.ID] {
		t.Error("an entry is there before the event that it belongs to")
	}
	b.must(tx.Commit(b.ctx))
	if err := errors.Join((<-late).err, <-lateToo); err != nil || !b.waiting()[entry.ID] {
		t.Errorf("when the stream is free: %v", err)
	}
	b.wantVersions("held-1", 1, 2, 3)
}

// TestTheSameEntriesAtOnce has many enqueue the same messages, in any order, and each of them alone or with others.
func TestTheSameEntriesAtOnce(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	dbs := []*postgres.DB{openDB(t, postgres.Config{URL: b.url}), openDB(t, postgres.Config{URL: b.url})}
	messages := make([]*es.Message, 12)
	for i := range messages {
		messages[i] = event("mail-1", "Sent")
	}
	var all sync.WaitGroup
	for caller := range 32 {
		all.Go(func() {
			for round := range 8 {
				from, n := (caller*7+round)%len(messages), 1+round%4
				some := make([]*es.Message, 0, n)
				for i := range n {
					some = append(some, messages[(from+i*5)%len(messages)])
				}
				if err := dbs[caller%2].Outbox().Enqueue(b.ctx, some...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := len(b.waiting()); n != len(messages) {
		t.Errorf("there are %d entries, want %d", n, len(messages))
	}
}
