package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// line is the connection past the pool. Its statements are transactions of their own, each of which sees what is committed when it
// begins.
type line struct {
	db        *DB
	conn      *pgx.Conn
	server    server // the one it is connected to; with Serial it is not asked for
	listening bool
	deaf      bool  // it cannot listen
	mute      bool  // it cannot notify
	heard     topic // by notifications, since it was looked at
}

// server is which one answers, in which of its lives: numbers of transactions are another one's after a restart, and its sequences may
// be another one's after a failover, even where something in between keeps the connection.
type server struct {
	Started  time.Time
	Timeline string
}

// serverColumns are those of a server. No privilege is needed for them.
const serverColumns = "pg_postmaster_start_time(), " +
	"CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END"

// errReplica is for readers of the global order.
var errReplica = fmt.Errorf("%w: it is a replica, where events appear in another order, and does not know which appends are open; "+
	"read from the primary", ErrReadOnly)

// dial connects to the database past the pool. What the program does to the connections of its pool is done to it too, unless it is another
// way in.
func (db *DB) dial(ctx context.Context, listener func(*pgconn.PgConn, *pgconn.Notification)) (*pgx.Conn, error) {
	c, pool := db.direct.Copy(), db.pool.Config()
	c.OnNotification = listener
	ours := db.config.DirectURL == ""
	if ours && pool.BeforeConnect != nil { // such as for a new password
		if err := pool.BeforeConnect(ctx, c); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil || !ours || pool.AfterConnect == nil {
		return conn, err
	}
	if err := pool.AfterConnect(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// openLine connects, and tells the tail that the connection is another one.
func (db *DB) openLine(ctx context.Context) (*line, error) {
	l := &line{db: db}
	var err error
	if l.conn, err = db.dial(ctx, l.hear); err != nil {
		return nil, err
	}
	if err := l.greet(ctx); err != nil {
		l.close(ctx)
		return nil, err
	}
	return l, nil
}

// byIndexOnly has the planner use the key of the events: a plan that was made while there were few, which reads them all, is used when
// there are many. Scans that are ruled out have a price in the planner that makes it compile statements, which takes longer than these
// ever run.
const byIndexOnly = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off"

// greet finds out who is there.
func (l *line) greet(ctx context.Context) error {
	columns, from := serverColumns, "FROM @positions_#"
	last := "CASE WHEN is_called THEN last_value ELSE 0 END"
	if l.db.serial {
		columns, from, last = "now(), ''", "FROM @state_#", "head"
	}
	var position int64
	var process uint32
	err := l.conn.QueryRow(ctx, l.db.sql("SELECT pg_backend_pid(), "+last+", "+columns+" "+from)).
		Scan(&process, &position, &l.server.Started, &l.server.Timeline)
	if err != nil {
		return err
	}
	if l.server.Timeline == "" && !l.db.serial {
		return errReplica
	}
	// A pooler tells of a process of its own making: it may give each statement to another one, and listening needs one for good.
	l.deaf = process != l.conn.PgConn().PID()
	if l.deaf {
		l.db.config.Logger.Debug("postgres: there is a pooler, past which notifications do not come; who waits looks time and again")
	} else if err := l.exec(ctx, byIndexOnly); err != nil && l.conn.IsClosed() { // an engine may not know it, and not need it
		return err
	}
	l.db.events.tail.reconnected(position)
	return nil
}

// channel is where notifications of the namespace go.
func (db *DB) channel() string { return fmt.Sprintf("es_%s_%d", db.names.schema, db.names.space) }

// listenerKey is that of the advisory lock that those have together who listen. Who has something to tell learns by it whether somebody
// does.
func (db *DB) listenerKey() int64 {
	return lockKey("listeners", db.names.schema, strconv.Itoa(int(db.names.space)))
}

// listen has notifications come. An engine that has none is not asked again.
func (l *line) listen(ctx context.Context) error {
	query := fmt.Sprintf(`LISTEN "%s"; SELECT pg_advisory_lock_shared(%d)`, l.db.channel(), l.db.listenerKey())
	if err := l.exec(ctx, query); err != nil {
		l.deaf = true
		l.db.config.Logger.Debug("postgres: notifications do not come; who waits looks time and again", "error", err)
		return err
	}
	l.listening = true
	return nil
}

func (l *line) unlisten(ctx context.Context) error {
	l.listening = false
	return l.exec(ctx, fmt.Sprintf(`UNLISTEN "%s"; SELECT pg_advisory_unlock_shared(%d)`, l.db.channel(), l.db.listenerKey()))
}

// exec runs several statements, which have no results, in one round trip and one transaction.
func (l *line) exec(ctx context.Context, script string) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_, err := l.conn.PgConn().Exec(ctx, script).ReadAll()
	return err
}

// notify notifies those who listen elsewhere, and tells whether there are any: this session could have the lock alone otherwise, which
// its own share of it does not prevent. It needs no disk: a notification that is lost was a hint.
func (l *line) notify(ctx context.Context, changed topic) (heeded bool, err error) {
	err = l.conn.QueryRow(ctx, `SELECT CASE WHEN pg_try_advisory_xact_lock($1) THEN false
		ELSE set_config('synchronous_commit', 'off', true) = 'off' AND pg_notify($2, $3) IS NOT NULL END`,
		l.db.listenerKey(), l.db.channel(), strconv.Itoa(int(changed))).Scan(&heeded)
	if err != nil {
		l.mute = true
		l.db.config.Logger.Debug("postgres: other processes cannot be notified; they look time and again", "error", err)
	}
	return heeded, err
}

// await waits for a notification until the context ends. An error means that the connection was lost.
func (l *line) await(ctx context.Context) error {
	err := l.conn.PgConn().WaitForNotification(ctx)
	if err != nil && (ctx.Err() == nil || l.conn.IsClosed()) {
		return err
	}
	return nil
}

// hear takes in a notification, which comes while the connection is read from.
func (l *line) hear(c *pgconn.PgConn, n *pgconn.Notification) {
	if n.PID == c.PID() {
		return // its own
	}
	changed, err := strconv.ParseUint(n.Payload, 10, 8)
	if err != nil {
		changed = uint64(everything) // somebody's who knows more topics
	}
	l.heard |= topic(changed) & everything
}

// close closes the connection. It does not wait for a server that does not answer.
func (l *line) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := l.conn.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		l.db.config.Logger.Debug("postgres: closing a connection", "error", err)
	}
}
