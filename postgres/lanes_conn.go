package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// defaultPatience is how long an append is waited for whose connection was lost or does not answer, and how long it is made again on
	// another connection, before its outcome is given up as unknown.
	defaultPatience = 10 * time.Second
	// connectTime is how long an attempt to connect takes at most.
	connectTime = 5 * time.Second
)

// laneConn is the connection of a lane.
type laneConn struct {
	pg       *pgconn.PgConn
	prepared map[string]*pgconn.StatementDescription
	patience time.Duration
	flights  int       // so many have gone
	planned  time.Time // when the statements were planned last, or later
	unnamed  bool      // statements are not prepared, for a pooler that would not know them
}

// forLanes makes a session one for lanes. Their statements are planned now and then, and must not be led away from the indexes by the
// statistics of a table that was small at the time. Scans that are ruled out have a price in the planner that makes it compile statements,
// which takes longer than these ever run. The one lock that a batch may still wait for is that of an ID which others are about to write to
// another stream: not for long, and then each append goes alone.
const forLanes = `SET plan_cache_mode = force_generic_plan; SET jit = off;
SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_mergejoin = off; SET enable_hashjoin = off;
SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; SET lock_timeout = '100ms'`

// connect opens a connection for a lane, of which nobody else knows. What the program does to the connections of its pool is done to it
// too, unless it is another database user's way in.
func (l *lanes) connect(ctx context.Context) (*laneConn, error) {
	connecting, cancel := context.WithTimeout(ctx, min(connectTime, l.patience))
	defer cancel()
	c, err := l.connectNow(connecting)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // the time was ours, and is nothing to the caller
		err = &engineError{kind: ErrUnavailable, err: errors.New(err.Error())}
	}
	return c, err
}

func (l *lanes) connectNow(ctx context.Context) (*laneConn, error) {
	config, pool := l.db.direct.Copy(), l.db.pool.Config()
	ours := l.db.config.DirectURL == ""
	if ours && pool.BeforeConnect != nil {
		if err := pool.BeforeConnect(ctx, config); err != nil {
			return nil, fault(err)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fault(err)
	}
	if ours && pool.AfterConnect != nil {
		err = pool.AfterConnect(ctx, conn)
	}
	if err == nil {
		_, err = conn.PgConn().Exec(ctx, forLanes).ReadAll()
	}
	if err != nil {
		return nil, errors.Join(fault(err), conn.Close(ctx))
	}
	mode := config.DefaultQueryExecMode
	return &laneConn{
		pg: conn.PgConn(), prepared: map[string]*pgconn.StatementDescription{}, patience: l.patience,
		unnamed: mode != pgx.QueryExecModeCacheStatement && mode != pgx.QueryExecModeCacheDescribe,
	}, nil
}

// prepare prepares a statement, once.
func (c *laneConn) prepare(ctx context.Context, s *laneStatement) (*pgconn.StatementDescription, error) {
	if d := c.prepared[s.name]; d != nil {
		return d, nil
	}
	name := s.name
	if c.unnamed {
		name = ""
	}
	d, err := c.pg.Prepare(ctx, name, s.sql, nil)
	if err == nil {
		c.prepared[s.name] = d
	}
	return d, err
}

// inBinary says that all arguments, or all columns of a result, are in binary.
var inBinary = []int16{1} //nolint:gochecknoglobals // it does not change

// queue adds a statement to a batch.
func (c *laneConn) queue(ctx context.Context, b *pgconn.Batch, s *laneStatement, arguments [][]byte) error {
	if c.unnamed {
		b.ExecParams(s.sql, arguments, nil, inBinary, inBinary)
		return nil
	}
	d, err := c.prepare(ctx, s)
	if err == nil {
		b.ExecStatement(d, arguments, inBinary, inBinary)
	}
	return err
}

// replanTime is after which time statements are planned again. See [laneConn.replan].
const replanTime = 10 * time.Second

// replan has the statements planned again from time to time, and more often in the beginning: what was best for a table that was empty may
// be slow when it is not, and PostgreSQL learns of that only when the table is analyzed.
func (c *laneConn) replan(ctx context.Context) error {
	c.flights++
	if c.flights&(c.flights-1) != 0 && time.Since(c.planned) < replanTime {
		return nil
	}
	c.planned = time.Now()
	_, err := c.pg.Exec(ctx, "DISCARD PLANS").ReadAll()
	return err
}

// hurry has the connection count as lost when it does not do within a time what follows.
func (c *laneConn) hurry() error { return c.pg.Conn().SetDeadline(time.Now().Add(c.patience)) }

// send sends a batch, and reads the rows of its statements: visit is called with the number of the statement for each.
func (c *laneConn) send(ctx context.Context, b *pgconn.Batch, visit func(statement int, row [][]byte) error) error {
	results := c.pg.ExecBatch(ctx, b)
	var failed error
	for statement := 0; results.NextResult(); statement++ {
		reader := results.ResultReader()
		for reader.NextRow() {
			if failed == nil {
				failed = visit(statement, reader.Values())
			}
		}
		if _, err := reader.Close(); err != nil && failed == nil {
			failed = err
		}
	}
	if err := results.Close(); err != nil && failed == nil {
		failed = err
	}
	return failed
}

// close ends the connection.
func (c *laneConn) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = c.pg.Close(ctx) // there is nothing to be done about it: the server notices
}
