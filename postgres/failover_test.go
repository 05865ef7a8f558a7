package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// newProxied makes a program whose store reaches its database by a proxy.
func newProxied(t *testing.T, database string) (*program, *proxy) {
	t.Helper()
	way, url := newProxy(t, database)
	return newProgramAt(t, database, postgres.Config{URL: url}), way
}

// newServer starts a server for one test, and makes a database.
func newServer(t *testing.T, settings map[string]string) (*pgserver.Server, string) {
	t.Helper()
	server := pgserver.ForTest(t, pgserver.Config{NoSync: true, Settings: settings})
	name, err := server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return server, server.URL(name)
}

// commitText is what is in a request that commits a transaction of several requests.
var commitText = []byte("commit\x00")

// A lone append is a request that has the commit in it. When its answer does not come, nobody but the store knows.
func TestAnAppendWhoseConnectionIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	for _, when := range []moment{beforeRequest, beforeAnswer} {
		t.Run(when.String(), func(t *testing.T) {
			t.Parallel()
			p, way := newProxied(t, pgserver.Database(t))
			m := numbered("order-1", 2)
			_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, numbered("order-1", 1)))
			p.must(err)
			sprung := way.cutAt(when, m.ID[:])
			done, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.Exactly(1), m))
			p.must(err)
			<-sprung
			if len(done.Places) != 1 || done.Places[0].Version != 2 {
				t.Errorf("the append has the places %+v", done.Places)
			}
			if got := p.history(); got != "order-1 1, order-1 2" {
				t.Errorf("the events are %s", got)
			}
		})
	}
}

// An append to several streams takes several requests. Whichever of them is lost, it is done once.
func TestAnAppendOfSeveralRequestsWhoseConnectionIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	for _, when := range []moment{beforeRequest, beforeAnswer} {
		for nth := range 3 {
			t.Run(fmt.Sprintf("%v %d", when, nth), func(t *testing.T) {
				t.Parallel()
				p, way := newProxied(t, pgserver.Database(t))
				first, second := numbered("order-1", 1), numbered("order-2", 1)
				sprung := way.set(&trap{needle: []byte("order-2"), pass: nth, when: when, sprung: make(chan struct{})})
				_, err := p.events.Append(p.ctx, es.Append{Streams: []es.StreamAppend{
					{Stream: "order-1", Expect: es.NoStream, Events: []*es.Message{first}},
					{Stream: "order-2", Expect: es.NoStream, Events: []*es.Message{second}},
				}})
				p.must(err)
				if nth == 0 { // there may not be so many
					<-sprung
				}
				if got := p.history(); got != "order-1 1, order-2 1" {
					t.Errorf("the events are %s", got)
				}
			})
		}
	}
}

func TestInTxFindsOutWhatBecameOfItsCommit(t *testing.T) {
	t.Parallel()
	for _, when := range []moment{beforeRequest, beforeAnswer} {
		for what, do := range map[string]func(p *program, tx *postgres.Tx) error{
			"everything": func(p *program, tx *postgres.Tx) error { return everythingInTx(p.ctx, tx, 1) },
			"only its own": func(p *program, tx *postgres.Tx) error {
				_, err := tx.Exec(p.ctx, "INSERT INTO orders (n) VALUES (1)")
				return err
			},
		} {
			t.Run(what+" "+when.String(), func(t *testing.T) {
				t.Parallel()
				p, way := newProxied(t, pgserver.Database(t))
				sprung := way.cutAt(when, commitText)
				err := p.inTx(func(tx *postgres.Tx) error { return do(p, tx) })
				<-sprung
				rows := p.value("SELECT count(*) FROM orders")
				if when == beforeAnswer {
					p.must(err)
					if rows != "1" {
						t.Errorf("there are %s rows", rows)
					}
					return
				}
				if wantError(t, "InTx", err, postgres.ErrUnavailable); rows != "0" {
					t.Errorf("there are %s rows", rows)
				}
				p.must(p.inTx(func(tx *postgres.Tx) error { return do(p, tx) }))
			})
		}
	}
}

// The caller goes away during the commit: he hears that the context has ended and nothing was done, or that all was.
func TestInTxWhoseContextEndsInTheCommitIsAllOrNothing(t *testing.T) {
	t.Parallel()
	for _, when := range []moment{beforeRequest, whenTold} {
		t.Run(when.String(), func(t *testing.T) {
			t.Parallel()
			p, way := newProxied(t, pgserver.Database(t))
			ctx, cancel := context.WithCancel(p.ctx)
			defer cancel()
			hold := make(chan struct{})
			sprung := way.set(&trap{needle: commitText, when: when, sprung: make(chan struct{}), goOn: hold})
			go func() {
				<-sprung
				cancel()
				close(hold)
			}()
			err := p.db.InTx(ctx, pgx.TxOptions{}, func(tx *postgres.Tx) error { return everythingInTx(ctx, tx, 1) })
			if err == nil {
				p.wantCounts("1 1 1 1 1")
				return
			}
			wantError(t, "InTx", err, context.Canceled)
			p.wantCounts("0 0 0 0 0")
		})
	}
}

// While a commit waits for a replica, nothing of it can be seen, and yet it is going to be there. Who looks for it, finds nothing, and
// concludes that nothing was done, does it twice. Who inserts the same ID waits for the truth.
func TestALostCommitThatIsHeldBackIsNotTakenForNothing(t *testing.T) {
	t.Parallel()
	_, url := newServer(t, nil)
	p, way := newProxied(t, url)
	p.must(p.outbox.Enqueue(p.ctx)) // whatever is made when it is used first
	hold := func(replicas string) {
		t.Helper()
		p.exec("ALTER SYSTEM SET synchronous_standby_names = '" + replicas + "'")
		p.exec("SELECT pg_reload_conf()")
		p.until(replicas, "SELECT current_setting('synchronous_standby_names')")
		held := replicas == ""
		for !held { // the process that has commits wait learns of it when it has time
			held = isHeldBack(p, url)
		}
	}
	m := numbered("order-1", 1)
	for name, test := range map[string]struct {
		needle []byte
		call   func() error
		look   string
	}{
		"Append": {m.ID[:], func() error {
			done, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, m))
			if err == nil && done.Places[0].Version != 1 {
				t.Errorf("the event is at %+v", done.Places)
			}
			return err
		}, "SELECT count(*) FROM eventsourcing.events_1 WHERE id = '" + m.ID.String() + "'"},
		"InTx": {commitText, func() error {
			return p.inTx(func(tx *postgres.Tx) error { _, err := tx.Exec(p.ctx, "INSERT INTO orders (n) VALUES (1)"); return err })
		}, "SELECT count(*) FROM orders"},
	} {
		hold("nobody")
		sprung := way.cutAt(whenTold, test.needle)
		outcome := make(chan error, 1)
		go func() { outcome <- test.call() }()
		<-sprung
		p.until("1", "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'")
		way.cut()
		if got := p.value(test.look); got != "0" {
			t.Errorf("%s: the commit is held back, and a look finds %s", name, got)
		}
		select {
		case err := <-outcome:
			t.Fatalf("%s: it has ended, while nobody can know: %v", name, err)
		case <-time.After(200 * time.Millisecond): // as long as it takes to be wrong
		}
		hold("")
		if err := <-outcome; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := p.value(test.look); got != "1" {
			t.Errorf("%s: it is there %s times", name, got)
		}
	}
}

// isHeldBack tells whether a commit waits for a replica now.
func isHeldBack(p *program, url string) bool {
	p.Helper()
	conn, err := pgx.Connect(p.ctx, url)
	p.must(err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = conn.Exec(p.ctx, "SELECT pg_logical_emit_message(true, 'probe', '')") // it fails when it was held back
	}()
	const held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = "
	pid := strconv.Itoa(int(conn.PgConn().PID()))
	for {
		select {
		case <-ended:
			p.must(conn.Close(p.ctx))
			return false
		default:
		}
		if p.value(held+pid) == "1" {
			p.exec("SELECT pg_terminate_backend(" + pid + ")")
			<-ended
			p.until("0", held+pid)
			return true
		}
	}
}

// After a crash the number of a transaction of which nothing had reached the disk is given again. That it was committed then is no news of
// the first one.
func TestANumberThatIsGivenAgainIsNotTakenForTheTransaction(t *testing.T) {
	t.Parallel()
	for what, appends := range map[string]bool{"with an event": true, "without an event": false} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			server, url := newServer(t, map[string]string{
				"wal_writer_delay": "10s", "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off",
			})
			p, way := newProxied(t, url)
			number, hold := "", make(chan struct{})
			sprung := way.set(&trap{needle: commitText, when: beforeRequest, sprung: make(chan struct{}), goOn: hold})
			outcome := make(chan error, 1)
			go func() {
				outcome <- p.inTx(func(tx *postgres.Tx) error {
					if appends {
						tx.Append(es.AppendTo("order-1", es.Any, numbered("order-1", 1)))
					}
					return tx.QueryRow(p.ctx, "INSERT INTO orders (n) VALUES (1) RETURNING pg_current_xact_id()::text").Scan(&number)
				})
			}()
			<-sprung
			p.must(errors.Join(server.Kill(), server.Restart(p.ctx)))
			p.own.Reset()
			again, _ := strconv.Atoi(p.value("SELECT pg_current_xact_id()"))
			for want, _ := strconv.Atoi(number); again < want; {
				again, _ = strconv.Atoi(p.value("SELECT pg_current_xact_id()"))
			}
			if status := p.value("SELECT pg_xact_status($1::text::xid8)", number); status != "committed" {
				t.Fatalf("number %s was not given again: %s, at %d", number, status, again)
			}
			close(hold)
			wantError(t, "InTx", <-outcome, postgres.ErrUnavailable)
			if got := p.value("SELECT count(*) FROM orders"); got != "0" || p.history() != "" {
				t.Errorf("%s rows are there, and the events %q", got, p.history())
			}
			// From then on it can be told again.
			insert := func(n int) error {
				return p.inTx(func(tx *postgres.Tx) error {
					_, err := tx.Exec(p.ctx, "INSERT INTO orders (n) VALUES ($1)", n)
					return err
				})
			}
			p.must(insert(2))
			sprung = way.cutAt(beforeAnswer, commitText)
			p.must(insert(3))
			<-sprung
		})
	}
}

// load is what appenders do who try again, with the same IDs, whenever they do not know, and what they must find at the end.
type load struct {
	*program

	appenders, each int
	acknowledged    atomic.Int64
}

// run appends while there is trouble, and checks what is there at the end: all of it, once. The trouble goes on until half of it is done,
// at the least.
func (l *load) run(trouble func(enough func() bool)) {
	l.Helper()
	l.exec("CREATE TABLE done (n integer PRIMARY KEY)")
	ctx, cancel := context.WithTimeout(l.ctx, 3*time.Minute)
	defer cancel()
	var wait sync.WaitGroup
	for i := range l.appenders {
		wait.Go(func() {
			for n := range l.each {
				if err := l.append(ctx, i, n); err != nil {
					l.Errorf("append %d of appender %d: %v", n, i, err)
					return
				}
				l.acknowledged.Add(1)
			}
		})
	}
	total := int64(l.appenders * l.each)
	trouble(func() bool { return l.acknowledged.Load() > total/2 || l.Failed() || ctx.Err() != nil })
	wait.Wait()
	if !l.Failed() {
		l.check()
	}
}

// append is one of an appender's: to a stream of its own, to one that all share, or in a transaction with a row.
func (l *load) append(ctx context.Context, appender, n int) error {
	own, shared := "own-"+strconv.Itoa(appender), "shared-1"
	m := numbered(own, n)
	call := func() error {
		_, err := l.events.Append(ctx, es.AppendTo(own, es.Exactly(int64(n)), m))
		return err
	}
	switch n % 4 {
	case 1:
		second := numbered(shared, n)
		call = func() error {
			_, err := l.events.Append(ctx, es.Append{Streams: []es.StreamAppend{
				{Stream: own, Expect: es.Exactly(int64(n)), Events: []*es.Message{m}}, {Stream: shared, Events: []*es.Message{second}},
			}})
			return err
		}
	case 3:
		call = func() error {
			return l.db.InTx(ctx, pgx.TxOptions{}, func(tx *postgres.Tx) error {
				tx.Append(es.AppendTo(own, es.Exactly(int64(n)), m))
				_, err := tx.Exec(ctx, "INSERT INTO done (n) VALUES ($1) ON CONFLICT DO NOTHING", appender*l.each+n)
				return err
			})
		}
	}
	for {
		err := call()
		if err == nil || ctx.Err() != nil || !errors.Is(err, postgres.ErrUnavailable) && !errors.Is(err, postgres.ErrBusy) {
			return err
		}
	}
}

func (l *load) check() {
	l.Helper()
	for i := range l.appenders {
		n := 0
		for m, err := range l.events.Read(l.ctx, es.Query{Stream: "own-" + strconv.Itoa(i)}) {
			l.must(err)
			if want := fmt.Sprintf(`{"n":%d}`, n); m.Version != int64(n+1) || string(m.Data) != want {
				l.Errorf("version %d of appender %d is %s; want version %d, %s", m.Version, i, m.Data, n+1, want)
			}
			n++
		}
		if n != l.each {
			l.Errorf("appender %d has %d events, and not %d", i, n, l.each)
		}
	}
	inTx := strconv.Itoa(l.appenders * (l.each / 4))
	if got := l.value("SELECT count(*) FROM done"); got != inTx {
		l.Errorf("there are %s rows, and not %s", got, inTx)
	}
	shared := fmt.Sprintf("%d %[1]d", l.appenders*((l.each+2)/4))
	if got := l.value("SELECT count(*) || ' ' || max(version) FROM eventsourcing.events_1 WHERE stream = 'shared-1'"); got != shared {
		l.Errorf("the shared stream has so many events up to a version: %s, and not %s", got, shared)
	}
	// Those that were cut off may not have ended yet, and hold the head back.
	last, err := strconv.ParseInt(l.value("SELECT max(position) FROM eventsourcing.events_1"), 10, 64)
	l.must(err)
	ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
	defer cancel()
	for head := (es.Checkpoint{}); head.Position < last; {
		head, err = l.events.Wait(ctx, head)
		l.must(err)
	}
}

func TestNothingIsLostOrDoubledWhenConnectionsAreTerminated(t *testing.T) {
	t.Parallel()
	l := &load{program: newProgram(t, postgres.Config{}), appenders: 6, each: 40}
	l.run(func(enough func() bool) {
		for !enough() {
			l.exec("SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = current_database() " +
				"AND application_name <> 'program' ORDER BY random() LIMIT 1) AS one")
			pause(20)
		}
	})
}

func TestNothingIsLostOrDoubledWhenConnectionsAreCut(t *testing.T) {
	t.Parallel()
	p, way := newProxied(t, pgserver.Database(t))
	l := &load{program: p, appenders: 6, each: 40}
	l.run(func(enough func() bool) {
		for !enough() {
			way.cutOne()
			pause(20)
		}
	})
}

func TestNothingIsLostOrDoubledWhenTheServerIsStartedAgain(t *testing.T) {
	t.Parallel()
	server, url := newServer(t, nil)
	l := &load{program: newProgramAt(t, url, postgres.Config{}), appenders: 6, each: 40}
	l.run(func(enough func() bool) {
		for i := 0; !enough(); i++ {
			if i%2 == 0 {
				l.must(server.Kill())
			}
			l.must(server.Restart(l.ctx))
			l.own.Reset()
			before := l.acknowledged.Load()
			for l.acknowledged.Load() < before+10 && !enough() { // it is of use in between
				pause(20)
			}
		}
	})
}

// pause waits for a part of some milliseconds.
func pause(milliseconds int) { <-time.After(rand.N(time.Duration(milliseconds) * time.Millisecond)) }

// Somebody has the stream, for longer than the database lets anybody wait or run.
func TestTimeLimitsOfTheDatabaseAreReportedAndCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"statement_timeout", "lock_timeout"} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, postgres.Config{})
			p.exec("DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET " + limit + " = ''200ms''', current_database()); END$$")
			limited := openDB(t, postgres.Config{URL: p.url}).Events()
			holder := p.begin(pgx.TxOptions{})
			_, err := p.events.AppendTx(p.ctx, holder, es.AppendTo("order-1", es.Any, numbered("order-1", 1)))
			p.must(err)
			next := es.AppendTo("order-1", es.Exactly(1), numbered("order-1", 2))
			_, err = limited.Append(p.ctx, next)
			wantError(t, "an append that has waited for too long", err, postgres.ErrBusy)
			wantError(t, "an edit that has waited for too long", limited.Delete(p.ctx, "order-1", es.SoftDelete), postgres.ErrBusy)
			_, err = limited.Append(p.ctx, es.AppendTo("order-2", es.Any, numbered("order-2", 1)))
			p.must(err)
			p.must(holder.Commit(p.ctx))
			done, err := limited.Append(p.ctx, next)
			p.must(err)
			if done.Existing != 0 || done.Places[0].Version != 2 {
				t.Errorf("the append that was busy is at %+v, %d times", done.Places, done.Existing)
			}
		})
	}
}

// A transaction that does nothing for too long is undone by the server, which ends the connection.
func TestATransactionThatIdlesForTooLongIsUndone(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	ended := "SELECT count(*) FROM pg_stat_activity WHERE pid = $1"
	err := p.inTx(func(tx *postgres.Tx) error {
		tx.Append(es.AppendTo("order-1", es.Any, numbered("order-1", 1)))
		var pid int
		err := tx.QueryRow(p.ctx, "INSERT INTO orders (n) SELECT 1 RETURNING pg_backend_pid()").Scan(&pid)
		if err == nil {
			_, err = tx.Exec(p.ctx, "SET LOCAL idle_in_transaction_session_timeout = 1")
		}
		p.until("0", ended, pid)
		return err
	})
	wantError(t, "InTx", err, postgres.ErrUnavailable)

	tx := p.begin(pgx.TxOptions{})
	var pid int
	p.must(tx.QueryRow(p.ctx, "SELECT pg_backend_pid()").Scan(&pid))
	_, err = p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.Any, numbered("order-1", 1)))
	p.must(err)
	_, err = tx.Exec(p.ctx, "SET LOCAL idle_in_transaction_session_timeout = 1")
	p.must(err)
	p.until("0", ended, pid)
	_, err = p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.Any, numbered("order-1", 2)))
	wantError(t, "AppendTx", err, postgres.ErrUnavailable)
	p.wantCounts("0 0 0 0 0")
}

// The program's own connections take all that there are.
func TestAFullPoolIsWaitedFor(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	p := newProgramAt(t, url, postgres.Config{Pool: pool})
	held, err := pool.Acquire(p.ctx)
	p.must(err)
	both := es.Append{Streams: []es.StreamAppend{
		{Stream: "order-1", Events: []*es.Message{numbered("order-1", 1)}}, {Stream: "order-2", Events: []*es.Message{numbered("order-2", 1)}},
	}}
	for name, call := range map[string]func(ctx context.Context) error{
		"Append": func(ctx context.Context) error { _, err := p.events.Append(ctx, both); return err },
		"InTx": func(ctx context.Context) error {
			return p.db.InTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(*postgres.Tx) error { t.Error("it was called"); return nil })
		},
		"a statement in InTx": func(ctx context.Context) error {
			return p.db.InTx(ctx, pgx.TxOptions{}, func(tx *postgres.Tx) error {
				var one int
				rows, err := tx.Query(ctx, "SELECT 1")
				rows.Close()
				for _, err := range []error{
					err, rows.Err(), tx.QueryRow(ctx, "SELECT 1").Scan(&one), tx.SendBatch(ctx, &pgx.Batch{}).Close(), tx.Project(es.Commit{}),
				} {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%v, want %v", err, context.DeadlineExceeded)
					}
				}
				_, err = tx.Exec(ctx, "SELECT 1")
				return err
			})
		},
		"Truncate": func(ctx context.Context) error { return p.events.Truncate(ctx, "order-1", 2) },
	} {
		ctx, cancel := context.WithTimeout(p.ctx, 50*time.Millisecond)
		wantError(t, name, call(ctx), context.DeadlineExceeded)
		cancel()
	}
	held.Release()
	if got := p.history(); got != "" {
		t.Errorf("the events are %s, after nothing was done", got)
	}
	_, err = p.events.Append(p.ctx, both)
	p.must(err)
	if got := p.history(); got != "order-1 1, order-2 1" {
		t.Errorf("the events are %s", got)
	}
}
