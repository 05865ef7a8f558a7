package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
)

// takeOut answers the appends that have kept a batch from being done, or all of them.
func (ln *lane) takeOut(ctx context.Context, err error) {
	all := answer{alone: true, waits: true}
	switch {
	case err == nil && len(ln.taken) > 0:
		if ln.takeOutTaken() {
			return
		}
	case err == nil:
	case violatedKey(err) == "id" && ln.appends > 1:
		if ln.takeOutExisting(ctx) {
			return
		}
	case violatedKey(err) != "":
		all.waits = false
	case isRefusal(err) && ln.lost.IsZero(): // the pool may have connections
		all.waits = false
	case errors.Is(fault(err), ErrBusy): // a lock was not to be had in time, or the transaction was undone because of others
	default:
		if failed, ok := errors.AsType[*engineError](fault(err)); ok && failed.kind != nil { // the same will happen to each of them
			all = answer{err: failed}
		}
		ln.hangUp(ctx) // the server may be a replica by now, or the statements out of date: begin anew next time
	}
	ln.settleAll(all)
}

// hangUp closes the connection of the lane, if there is one.
func (ln *lane) hangUp(ctx context.Context) {
	if ln.conn != nil {
		ln.conn.close(ctx)
		ln.conn = nil
	}
}

// takeOutTaken has the appends go alone that need a lock which others have.
func (ln *lane) takeOutTaken() (some bool) {
	for i, f := range ln.batch {
		if ln.open[i] && ln.lanes.needs(&f.claims, ln.taken) {
			ln.settle(i, answer{alone: true, waits: true})
			some = true
		}
	}
	return some
}

// needs tells whether an append needs one of the locks.
func (l *lanes) needs(c *claims, keys map[int64]struct{}) bool {
	has := func(key int64) bool {
		_, ok := keys[key]
		return ok
	}
	return slices.ContainsFunc(c.streams, has) ||
		slices.ContainsFunc(c.exclusive, func(b bucket) bool { return has(l.bucketKey(b)) }) ||
		slices.ContainsFunc(c.shared, func(b bucket) bool { return has(l.bucketKey(b)) })
}

// takeOutExisting has the appends go alone that have an event which is there already.
func (ln *lane) takeOutExisting(ctx context.Context) (some bool) {
	w := &ln.args[0]
	w.reset()
	w.array(oidUUID, len(ln.ids))
	for _, id := range ln.ids {
		w.idElement(id)
	}
	there := map[uuid.UUID]struct{}{}
	var b pgconn.Batch
	err := ln.conn.queue(ctx, &b, &ln.lanes.statements.existing, w.values())
	if err == nil {
		err = ln.conn.send(ctx, &b, func(_ int, row [][]byte) error {
			there[uuid.UUID(row[0])] = struct{}{}
			return nil
		})
	}
	if err != nil {
		return false // so all of them go alone
	}
	for event, id := range ln.ids {
		if _, ok := there[id]; ok && ln.open[ln.owners[event]] {
			ln.settle(int(ln.owners[event]), answer{alone: true})
			some = true
		}
	}
	return some
}
