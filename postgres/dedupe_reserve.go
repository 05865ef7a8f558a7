package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// reservedRow is what is answered about a message. One that is neither barred nor has a token is another's, who was faster.
type reservedRow struct {
	n            int64 // its place among those that were asked for, from 1
	done, barred bool
	token, until int64
}

// reserve sets the state of reservations, which are at least one, and returns how many are new.
func (d *Dedupe) reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) (taken int, err error) {
	at := byID(rs, func(*es.Reservation) bool { return true })
	ids, first := make([][16]byte, 0, len(at)), make([]int, 0, len(at)) // of those that are there twice the first
	for n, i := range at {
		if n == 0 || rs[i].ID != rs[at[n-1]].ID {
			ids, first = append(ids, rs[i].ID), append(first, i)
		}
	}
	for len(ids) > 0 {
		rows, err := d.ask(ctx, group, ids, lease)
		if err != nil {
			return 0, err
		}
		if len(rows) == 0 { // there is no such group
			if err := d.db.pipeline(ctx, synced, func(b *pgx.Batch) { b.Queue(d.sql.addGroup, group) }); err != nil {
				return 0, err
			}
			continue
		}
		var again [][16]byte
		var againAt []int
		for _, row := range rows {
			r := &rs[first[row.n-1]]
			switch {
			case row.token != 0:
				taken++
				r.State, r.Token, r.Until = es.ReserveNew, uint64(row.token), timeAt(row.until) //nolint:gosec // tokens are above 0
			case !row.barred:
				again, againAt = append(again, r.ID), append(againAt, first[row.n-1])
			case row.done:
				r.State, r.Token, r.Until = es.ReserveDone, 0, time.Time{}
			default:
				r.State, r.Token, r.Until = es.ReserveBusy, 0, timeAt(row.until)
			}
		}
		ids, first = again, againAt
	}
	for n, i := range at[1:] { // at[n] is the one before
		if before := rs[at[n]]; rs[i].ID == before.ID {
			rs[i] = before
			rs[i].Token = 0
			if before.State == es.ReserveNew {
				rs[i].State = es.ReserveBusy
			}
		}
	}
	return taken, nil
}

// ask asks for messages, in the order of their IDs.
func (d *Dedupe) ask(ctx context.Context, group string, ids [][16]byte, lease time.Duration) (answers []reservedRow, err error) {
	err = d.db.pipeline(ctx, synced, func(b *pgx.Batch) {
		answers = make([]reservedRow, 0, len(ids))
		b.Queue(d.sql.reserve, group, ids, leaseMicros(lease)).Query(func(rows pgx.Rows) error {
			var row reservedRow
			_, err := pgx.ForEachRow(rows, []any{&row.n, &row.done, &row.barred, &row.token, &row.until}, func() error {
				answers = append(answers, row)
				return nil
			})
			return err
		})
	})
	return answers, err
}
