package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Enqueue stores messages, all or none. An ID that waits already, or is a dead letter, is left as it is when the content is the same;
// otherwise the error is a [*es.DuplicateError]. Those who enqueue or append at the same moment share a transaction.
//
// When ctx ends while the messages are on their way, or when the connection is lost and stays so for ten seconds ([ErrUnavailable]), the
// outcome is unknown, and to enqueue them again is the remedy. A lost connection has them enqueued again: those that were, and that
// somebody has completed since, come twice then, with the same IDs.
func (o *Outbox) Enqueue(ctx context.Context, msgs ...*es.Message) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	defer o.db.handle.leave()
	msgs, err := o.prepare(msgs)
	if err != nil || len(msgs) == 0 {
		return err
	}
	_, err = o.db.events.lanes.do(ctx, &es.Append{}, msgs)
	return err
}

// enqueueAlone is Enqueue in a transaction of its own.
func (o *Outbox) enqueueAlone(ctx context.Context, msgs []*es.Message) error {
	rows := newOutboxRows(msgs)
	err := o.db.pipeline(ctx, synced, func(b *pgx.Batch) { b.Queue(o.sql.addAll, rows...) })
	if isDivision(err) { // some of them are there
		err = o.db.transact(ctx, func(tx pgx.Tx) error { return o.enqueueIn(ctx, tx, msgs) })
	}
	if err == nil {
		o.changed(outboxChanged)
	}
	return err
}

// isDivision tells whether a statement has undone itself by a division by zero.
func isDivision(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && server.Code == "22012" // division_by_zero
}

// enqueueIn is Enqueue in a transaction. With an error of a role nothing was written, and the transaction goes on. One that keeps the
// snapshot of its beginning is undone by PostgreSQL, which is [ErrBusy], when another has enqueued the same ID since.
func (o *Outbox) enqueueIn(ctx context.Context, tx pgx.Tx, msgs []*es.Message) error {
	msgs, err := o.prepare(msgs)
	if err != nil {
		return err
	}
	var added []uuid.UUID
	for range tries {
		if len(msgs) == 0 {
			return nil
		}
		ids, err := o.addSome(ctx, tx, msgs)
		if err != nil {
			return err
		}
		added = append(added, ids...)
		if len(ids) == len(msgs) {
			return nil
		}
		msgs = without(msgs, ids)
		if msgs, err = o.missing(ctx, tx, msgs); err != nil {
			return errors.Join(err, o.withdraw(ctx, tx, added))
		}
		// Those that were there, and are gone by now, can be added.
	}
	return &engineError{kind: ErrBusy, err: errors.New("others enqueue and complete the same messages again and again")}
}

// prepare validates messages, and leaves out those that say the same as one before them.
func (o *Outbox) prepare(msgs []*es.Message) ([]*es.Message, error) {
	for _, m := range msgs {
		if err := m.Validate(o.db.config.Limits); err != nil {
			return nil, err
		}
	}
	if len(msgs) < 2 {
		return msgs, nil
	}
	before := make(map[uuid.UUID]*es.Message, len(msgs))
	fresh := make([]*es.Message, 0, len(msgs))
	for _, m := range msgs {
		same := before[m.ID]
		if same == nil {
			before[m.ID] = m
			fresh = append(fresh, m)
			continue
		}
		if !same.SameContent(m) {
			return nil, otherContent(m.ID, same.Stream)
		}
	}
	return fresh, nil
}

// newOutboxRows returns the arguments of the statements that add messages.
func newOutboxRows(msgs []*es.Message) []any {
	order := make([]int32, len(msgs))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return bytes.Compare(msgs[a].ID[:], msgs[b].ID[:]) })
	var rows eventRows
	for i, at := range order {
		rows.add(msgs[at], 0)
		order[i]++ // arrays begin at 1
	}
	return append(rows.arguments()[2:], order) // but for versions and categories
}

// addSome adds those of the messages that are not there, and returns which.
func (o *Outbox) addSome(ctx context.Context, tx pgx.Tx, msgs []*es.Message) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, o.sql.add, newOutboxRows(msgs)...)
	if err != nil {
		return nil, fault(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return ids, fault(err)
}

// without returns the messages but for those with these IDs.
func without(msgs []*es.Message, ids []uuid.UUID) []*es.Message {
	gone := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		gone[id] = true
	}
	return slices.DeleteFunc(slices.Clone(msgs), func(m *es.Message) bool { return gone[m.ID] })
}

// missing returns those of the messages that are not there. Its error is an [*es.DuplicateError] when one that is there says something
// else.
func (o *Outbox) missing(ctx context.Context, tx pgx.Tx, msgs []*es.Message) ([]*es.Message, error) {
	byID := make(map[uuid.UUID]*es.Message, len(msgs))
	ids := make([]uuid.UUID, len(msgs))
	for i, m := range msgs {
		ids[i], byID[m.ID] = m.ID, m
	}
	rows, err := tx.Query(ctx, o.sql.stored, ids)
	if err != nil {
		return nil, fault(err)
	}
	var r messageRow
	var differs error
	_, err = pgx.ForEachRow(rows, r.fields(), func() error {
		stored, err := r.message()
		if err != nil {
			return fmt.Errorf("outbox entry: %w", err)
		}
		if !stored.SameContent(byID[stored.ID]) {
			differs = otherContent(stored.ID, stored.Stream)
		}
		delete(byID, stored.ID)
		r = messageRow{}
		return nil
	})
	if err != nil {
		return nil, fault(err)
	}
	return slices.DeleteFunc(msgs, func(m *es.Message) bool { return byID[m.ID] == nil }), differs
}

// withdraw removes what the transaction has added. A savepoint, which would do it too, costs all who enqueue.
func (o *Outbox) withdraw(ctx context.Context, tx pgx.Tx, added []uuid.UUID) error {
	if len(added) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, o.sql.withdraw, added)
	return fault(err)
}

func otherContent(id uuid.UUID, stream string) error {
	return &es.DuplicateError{ID: id, Stream: stream, Reason: "in the outbox, with other content"}
}
