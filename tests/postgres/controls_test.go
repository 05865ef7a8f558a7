package postgres_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// feed is a way to read all events, in order, as somebody does who keeps one number.
type feed interface {
	// more returns the positions of some events that are new, in order, and waits a moment when there are none.
	more(ctx context.Context) ([]int64, error)
	close() error
}

// toolkit is the way of this module.
type toolkit struct {
	db *postgres.DB
	at es.Checkpoint
}

func openToolkit(ctx context.Context, url string) (feed, error) {
	db, err := postgres.Open(ctx, postgres.Config{URL: url})
	if err != nil {
		return nil, err
	}
	return &toolkit{db: db}, nil
}

func (f *toolkit) more(ctx context.Context) ([]int64, error) {
	waiting, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	head, err := f.db.Events().Wait(waiting, f.at)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var positions []int64
	for m, err := range f.db.Events().Read(ctx, es.Query{UpTo: head.Position}.Resume(f.at)) {
		if err != nil {
			return nil, err
		}
		positions = append(positions, m.Position)
	}
	f.at = head
	return positions, nil
}

func (f *toolkit) close() error { return f.db.Close() }

// cursor remembers the last position that it has seen, and goes on behind it.
type cursor struct {
	url   string
	conn  *pgx.Conn
	query string
	at    int64
}

// openNaive goes by what it sees.
func openNaive(ctx context.Context, url string) (feed, error) {
	return openCursor(ctx, url, "SELECT position FROM eventsourcing.events_1 WHERE position > $1 ORDER BY position")
}

// openFiltered leaves out what was written by transactions that began after the oldest one that still runs.
func openFiltered(ctx context.Context, url string) (feed, error) {
	return openCursor(ctx, url, `SELECT position FROM eventsourcing.events_1 WHERE position > $1
		AND xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint ORDER BY position`)
}

func openCursor(ctx context.Context, url, query string) (feed, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	return &cursor{url: url, conn: conn, query: query}, nil
}

func (f *cursor) more(ctx context.Context) ([]int64, error) {
	positions, err := column(ctx, f.conn, f.query, f.at)
	if err != nil && f.conn.IsClosed() {
		f.conn, err = anew(ctx, f.url, f.conn)
		return nil, err
	}
	if len(positions) > 0 {
		f.at = positions[len(positions)-1]
	}
	return positions, err
}

func (f *cursor) close() error { return f.conn.Close(context.Background()) }

// anew connects anew instead of a connection, as soon as there is a server. It returns the old one when ctx ends before.
func anew(ctx context.Context, url string, old *pgx.Conn) (*pgx.Conn, error) {
	for ctx.Err() == nil {
		if conn, err := pgx.Connect(ctx, url); err == nil {
			_ = old.Close(ctx) // it is of no use any more
			return conn, nil
		}
		<-time.After(5 * time.Millisecond)
	}
	return old, ctx.Err()
}

// column returns a column of numbers.
func column(ctx context.Context, conn *pgx.Conn, query string, arguments ...any) ([]int64, error) {
	rows, err := conn.Query(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// marked settles positions by the locks of the sequence, as the module does, but for one mistake.
type marked struct {
	url  string
	conn *pgx.Conn
	at   int64

	eager bool // the mistake: what shows up in a gap is handed over at once
	// The other mistake is that marks outlive the connection.

	high    int64
	holders []string // of the mark; nil when there is none
	seen    []int64  // below the mark
}

func openEager(ctx context.Context, url string) (feed, error) {
	return openMarked(ctx, &marked{url: url, eager: true})
}

func openSilent(ctx context.Context, url string) (feed, error) {
	return openMarked(ctx, &marked{url: url})
}

func openMarked(ctx context.Context, f *marked) (feed, error) {
	conn, err := pgx.Connect(ctx, f.url)
	f.conn = conn
	return f, err
}

func (f *marked) close() error { return f.conn.Close(context.Background()) }

func (f *marked) more(ctx context.Context) ([]int64, error) {
	positions, err := f.look(ctx)
	if err == nil {
		return positions, nil
	}
	// Whatever it was: connect anew, and go on as if nothing had happened.
	f.conn, err = anew(ctx, f.url, f.conn)
	return nil, err
}

func (f *marked) look(ctx context.Context) ([]int64, error) {
	const visible = "SELECT position FROM eventsourcing.events_1 WHERE position > $1 ORDER BY position"
	positions, err := column(ctx, f.conn, visible, f.at)
	if err != nil || len(positions) == 0 {
		return nil, err
	}
	if f.holders == nil {
		if last := positions[len(positions)-1]; last-f.at == int64(len(positions)) {
			f.at = last
			return positions, nil
		}
		f.high, f.seen = positions[len(positions)-1], positions
		f.holders, err = f.locks(ctx)
		return nil, err
	}
	now, err := f.locks(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(f.holders, func(h string) bool { return slices.Contains(now, h) }) {
		positions, err := column(ctx, f.conn, visible+" ", f.at)
		if err != nil {
			return nil, err
		}
		f.at, f.holders = f.high, nil
		return slices.DeleteFunc(positions, func(p int64) bool { return p > f.high }), nil
	}
	if !f.eager {
		return nil, nil
	}
	shown := slices.DeleteFunc(positions, func(p int64) bool { return p > f.high || slices.Contains(f.seen, p) })
	if len(shown) > 0 {
		f.at = shown[len(shown)-1]
	}
	return shown, nil
}

// locks returns who has drawn from the sequence and has not ended. It is never nil.
func (f *marked) locks(ctx context.Context) ([]string, error) {
	rows, err := f.conn.Query(ctx, `SELECT virtualtransaction FROM pg_locks WHERE relation = 'eventsourcing.positions_1'::regclass
		AND mode = 'RowExclusiveLock' AND granted`)
	if err != nil {
		return nil, err
	}
	holders, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return append([]string{}, holders...), err
}
