package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Probe is how far the log is settled, and what holds it back: readers of the global order go up to the settled head. See [DB.Probe].
type Probe struct {
	// Ordering is how the positions of the namespace are given.
	Ordering Ordering
	// Settled is the settled head.
	Settled int64
	// Last is the last position that was given out, be it to an append that is open or was rolled back.
	Last int64
	// Lag is how many positions have been given out beyond the settled head while there are Holders, and 0 when there are none.
	Lag int64
	// Skipped is how many positions this process has seen given up: their appends have failed or were rolled back.
	Skipped int64
	// Holders are the transactions that have drawn positions and are open, the oldest first: the head waits for those that were open when
	// the first of the positions that are missing was drawn. With [Serial] they are those that hold or wait for the row that gives positions.
	Holders []Holder
}

// Holder is an open transaction that holds the settled head back.
type Holder struct {
	// PID is the process of the server that runs the transaction; pg_terminate_backend ends it. It is 0 for a prepared one.
	PID int32
	// Prepared is the identifier of a transaction that was prepared; COMMIT PREPARED or ROLLBACK PREPARED ends it. It is empty for
	// others.
	Prepared string
	// Age is for how long the transaction has been open, or prepared.
	Age time.Duration
	// State is what the session does: "active", or "idle in transaction" when it waits for its program.
	State string
	// Query is the last statement, and Application the name that the program has given itself. A user who may not see them, for not being
	// a member of pg_read_all_stats, gets a remark of the server's or nothing.
	Query, Application string
}

// String says in a line or two whether the head is stuck, and why.
func (p Probe) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the head is settled at %d of %d", p.Settled, p.Last)
	if p.Lag == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, ", %d behind", p.Lag)
	for _, h := range p.Holders {
		b.WriteString("; ")
		b.WriteString(h.String())
	}
	return b.String()
}

// String says who it is.
func (h Holder) String() string {
	age := h.Age.Round(time.Millisecond)
	if h.Prepared != "" {
		return fmt.Sprintf("prepared transaction %q holds it since %v", h.Prepared, age)
	}
	return fmt.Sprintf("process %d (%s, %s) holds it since %v with %q", h.PID, h.Application, h.State, age, h.Query)
}

// Probe answers why readers of the global order do not get on: it looks up to where the log is settled, and which open transactions it
// waits for. It takes no more than a few statements, but is not for every request.
//
// Errors: [ErrUnavailable]; [ErrReadOnly] on a replica; [es.ErrClosed]; that of ctx.
func (db *DB) Probe(ctx context.Context) (Probe, error) {
	if err := db.handle.begin(ctx); err != nil {
		return Probe{}, err
	}
	defer db.handle.leave()
	p := Probe{Ordering: Fence}
	table := "@positions_#"
	if db.serial {
		p.Ordering, table = Serial, "@state_#" // whoever has its row has locked it in the same mode
	}
	var err error
	if p.Holders, err = db.holders(ctx, db.sql(table)); err != nil {
		return Probe{}, err
	}
	if p.Settled, err = db.events.tail.settled(ctx); err != nil {
		return Probe{}, err
	}
	if err := db.pool.QueryRow(ctx, db.events.given()).Scan(&p.Last); err != nil {
		return Probe{}, fault(err)
	}
	if len(p.Holders) > 0 { // otherwise what was given out beyond was given up, or is settled by now
		p.Lag = max(0, p.Last-p.Settled)
	}
	p.Skipped = db.events.tail.givenUp()
	return p, nil
}

// holders returns the transactions that hold a table or sequence to write to it.
func (db *DB) holders(ctx context.Context, table string) ([]Holder, error) {
	rows, err := db.pool.Query(ctx, `
		WITH held AS (SELECT virtualtransaction, max(pid) AS pid FROM pg_locks
		  WHERE locktype = 'relation' AND relation = '`+table+`'::regclass AND mode = 'RowExclusiveLock' AND granted
		    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  GROUP BY virtualtransaction)
		SELECT coalesce(held.pid, 0), coalesce(p.gid, ''),
		  coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared)) * 1000000, 0)::bigint,
		  coalesce(a.state, ''), coalesce(a.query, ''), coalesce(a.application_name, '')
		FROM held
		LEFT JOIN pg_stat_activity a ON a.pid = held.pid
		LEFT JOIN LATERAL (SELECT prepared.gid, prepared.prepared FROM pg_prepared_xacts prepared JOIN pg_locks own
		    ON own.locktype = 'transactionid' AND own.transactionid = prepared.transaction
		  WHERE held.pid IS NULL AND own.virtualtransaction = held.virtualtransaction LIMIT 1) p ON true
		ORDER BY 3 DESC`)
	if err != nil {
		return nil, fault(err)
	}
	holders, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Holder, err error) {
		micros := int64(0)
		err = row.Scan(&h.PID, &h.Prepared, &micros, &h.State, &h.Query, &h.Application)
		h.Age = time.Duration(micros) * time.Microsecond
		return h, err
	})
	if refusal, refused := errors.AsType[*pgconn.PgError](err); refused && db.serial && kindOf(refusal) == nil {
		return nil, nil // an engine without these views
	}
	return holders, fault(err)
}
