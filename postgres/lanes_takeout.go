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
	case isDivision(err) && ln.takeOutWaiting(ctx):
		return
	case violatedKey(err) != "", isDivision(err):
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
	there := ln.which(ctx, &ln.lanes.statements.existing, ln.ids)
	for event, id := range ln.ids {
		if _, ok := there[id]; ok && ln.open[ln.owners[event]] {
			ln.settle(int(ln.owners[event]), answer{alone: true})
			some = true
		}
	}
	return some
}

// takeOutWaiting has those go alone that have an entry which is in the outbox already.
func (ln *lane) takeOutWaiting(ctx context.Context) (some bool) {
	if ln.appends < 2 {
		return false
	}
	ids := make([]uuid.UUID, len(ln.entries))
	for i, e := range ln.entries {
		ids[i] = e.message.ID
	}
	there := ln.which(ctx, &ln.lanes.statements.waiting, ids)
	for i, id := range ids {
		_, ok := there[id]
		if twice := i > 0 && ids[i-1] == id; (ok || twice) && ln.open[ln.entries[i].owner] {
			ln.settle(ln.entries[i].owner, answer{alone: true})
			some = true
		}
	}
	return some
}

// which returns those of some IDs that a statement finds; none when it cannot be asked.
func (ln *lane) which(ctx context.Context, s *laneStatement, ids []uuid.UUID) map[uuid.UUID]struct{} {
	w := &ln.args[0]
	w.reset()
	w.array(oidUUID, len(ids))
	for _, id := range ids {
		w.idElement(id)
	}
	found := map[uuid.UUID]struct{}{}
	var b pgconn.Batch
	err := ln.conn.queue(ctx, &b, s, w.values())
	if err == nil {
		err = ln.conn.send(ctx, &b, func(_ int, row [][]byte) error {
			found[uuid.UUID(row[0])] = struct{}{}
			return nil
		})
	}
	if err != nil {
		return nil // so all of them go alone
	}
	return found
}
