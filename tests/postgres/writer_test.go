package postgres_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// writing is what a process of writers is told by its environment.
type writing struct {
	URL     string `json:"url"`
	Process int    `json:"process"`
	Writers int    `json:"writers"`
	Seed    uint64 `json:"seed"`
}

const writingVariable = "TESTS_POSTGRES_WRITING"

// beWriter writes until nobody wants it any more, when this is a process of writers. It returns at once in any other.
func beWriter() {
	text, ok := os.LookupEnv(writingVariable)
	if !ok {
		return
	}
	var w writing
	err := json.Unmarshal([]byte(text), &w)
	if err == nil {
		err = w.run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "writers %d: %v\n", w.Process, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// startWriters starts a process of writers, which ends when stop is called. It is waited for then.
func startWriters(t *testing.T, w writing) (stop func()) {
	t.Helper()
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])
	command.Env = append(os.Environ(), writingVariable+"="+string(text))
	var stderr strings.Builder
	command.Stderr = &stderr
	in, err := command.StdinPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := errors.Join(in.Close(), command.Wait()); err != nil {
			t.Errorf("writers: %v\n%s", err, &stderr)
		}
	})
}

func (w writing) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // it goes with the process
		_, _ = io.Copy(io.Discard, bufio.NewReader(os.Stdin)) // the input ends when the test does, whatever it died of
		cancel()
	}()
	db, err := postgres.Open(context.Background(), postgres.Config{URL: w.URL})
	for err != nil && lost(err) {
		db, err = postgres.Open(context.Background(), postgres.Config{URL: w.URL})
	}
	if err != nil {
		return err
	}
	errs := make([]error, w.Writers+1)
	var writers sync.WaitGroup
	for i := range w.Writers {
		one := &writer{writing: w, db: db, name: fmt.Sprintf("%d_%d", w.Process, i), random: rand.New(rand.NewPCG(w.Seed, uint64(i)))}
		writers.Go(func() { errs[i] = one.run(ctx) })
	}
	writers.Wait()
	errs[w.Writers] = db.Close()
	return errors.Join(errs...)
}

// writer appends to streams of its own in every way there is, and often does not commit, or late.
type writer struct {
	writing

	db     *postgres.DB
	conn   *pgx.Conn
	name   string
	random *rand.Rand
	events int
}

// The events are of a few names, categories and tags, so that readers may choose.
func (w *writer) nameOfEvent() string { return fmt.Sprintf("Name%d", w.random.IntN(4)) }
func (w *writer) stream() string {
	return fmt.Sprintf("cat%d-%s_%d", w.random.IntN(3), w.name, w.random.IntN(3))
}
func (w *writer) tag() string { return fmt.Sprintf("tag:%d", w.random.IntN(5)) }

// pause waits for what is a moment mostly, and long sometimes.
func (w *writer) pause() {
	longest := 5 * time.Millisecond
	switch w.random.IntN(100) {
	case 0:
		longest = 300 * time.Millisecond
	case 1, 2, 3, 4:
		longest = 40 * time.Millisecond
	}
	<-time.After(time.Duration(w.random.Int64N(int64(longest))))
}

// run writes until the context ends. What fails because a connection was lost is given up, but for what was prepared.
func (w *writer) run(ctx context.Context) error {
	for n := 0; ctx.Err() == nil; n++ {
		err := w.write()
		if err != nil && !lost(err) {
			return fmt.Errorf("writer %s: %w", w.name, err)
		}
		if err != nil || n%50 == 0 {
			if err := w.settle(); err != nil {
				return err
			}
		}
	}
	return w.settle()
}

// lost tells whether an error is that of a connection that was lost, or of a server that is not there at the moment.
func lost(err error) bool {
	return errors.Is(err, postgres.ErrUnavailable) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "conn closed") ||
		strings.Contains(err.Error(), "SQLSTATE 57P") || strings.Contains(err.Error(), "unexpected EOF") ||
		strings.Contains(err.Error(), "connection reset") || strings.Contains(err.Error(), "broken pipe") ||
		strings.Contains(err.Error(), "failed to connect")
}

// settle connects anew if need be, and decides about a transaction that is prepared still.
func (w *writer) settle() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := w.connect(ctx)
		if err == nil {
			err = w.decide(ctx)
		}
		if err == nil || !lost(err) || ctx.Err() != nil {
			return err
		}
		<-time.After(20 * time.Millisecond)
	}
}

func (w *writer) connect(ctx context.Context) (err error) {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	w.conn, err = pgx.Connect(ctx, w.URL)
	return err
}

func (w *writer) decide(ctx context.Context) error {
	var prepared bool
	err := w.conn.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_prepared_xacts WHERE gid = $1", w.name).Scan(&prepared)
	if err != nil || !prepared {
		return err
	}
	return w.exec([]string{"COMMIT PREPARED", "ROLLBACK PREPARED"}[w.random.IntN(2)] + " '" + w.name + "'")
}

func (w *writer) exec(statement string) error {
	_, err := w.conn.Exec(context.Background(), statement)
	return err
}

// write appends in one of the ways.
func (w *writer) write() error {
	if w.conn == nil || w.conn.IsClosed() {
		return w.settle()
	}
	ways := []func() error{w.append, w.append, w.append, w.appendTx, w.inTx, w.byHand, w.byHand, w.byHand, w.savepoint, w.prepare, w.drawOnly}
	return ways[w.random.IntN(len(ways))]()
}

// some makes some events of one stream.
func (w *writer) some() []*es.Message {
	stream := w.stream()
	var events []*es.Message
	for range 1 + w.random.IntN(4) {
		m := es.NewMessage(stream, w.nameOfEvent(), []byte(`{}`))
		m.Tags = []string{w.tag()}
		events = append(events, m)
	}
	return events
}

func (w *writer) append() error {
	events := w.some()
	_, err := w.db.Events().Append(context.Background(), es.AppendTo(events[0].Stream, es.Any, events...))
	return err
}

func (w *writer) appendTx() error {
	events := w.some()
	return w.transaction(func(tx pgx.Tx) error {
		_, err := w.store().AppendTx(context.Background(), tx, es.AppendTo(events[0].Stream, es.Any, events...))
		return err
	})
}

func (w *writer) store() *postgres.EventStore {
	return w.db.Events().(*postgres.EventStore) //nolint:errcheck // it is one
}

func (w *writer) inTx() error {
	events := w.some()
	return w.db.InTx(context.Background(), pgx.TxOptions{}, func(tx *postgres.Tx) error {
		tx.Append(es.AppendTo(events[0].Stream, es.Any, events...))
		w.pause()
		return nil
	})
}

// byHand draws and inserts some events one after the other, with pauses, and has often written elsewhere before.
func (w *writer) byHand() error {
	return w.transaction(func(tx pgx.Tx) error {
		if w.random.IntN(2) == 0 {
			if _, err := tx.Exec(context.Background(), "INSERT INTO elsewhere VALUES (1)"); err != nil {
				return err
			}
			w.pause()
		}
		for range 1 + w.random.IntN(3) {
			if err := w.insert(tx); err != nil {
				return err
			}
			w.pause()
		}
		return nil
	})
}

func (w *writer) savepoint() error {
	return w.transaction(func(tx pgx.Tx) error {
		if err := w.insert(tx); err != nil {
			return err
		}
		inner, err := tx.Begin(context.Background())
		if err != nil {
			return err
		}
		if err := w.insert(inner); err != nil {
			return err
		}
		w.pause()
		if err := inner.Rollback(context.Background()); err != nil {
			return err
		}
		return w.insert(tx)
	})
}

func (w *writer) drawOnly() error {
	return w.transaction(func(tx pgx.Tx) error {
		_, err := tx.Exec(context.Background(), "SELECT nextval('eventsourcing.positions_1') FROM generate_series(1, $1)", 1+w.random.IntN(5))
		return err
	})
}

// transaction does something in a transaction, waits a moment, and commits or not.
func (w *writer) transaction(do func(tx pgx.Tx) error) error {
	ctx := context.Background()
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback(ctx) // the connection may be gone
		return err
	}
	w.pause()
	if w.random.IntN(4) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// prepare prepares a transaction, and decides about it later.
func (w *writer) prepare() error {
	if err := w.exec("BEGIN"); err != nil {
		return err
	}
	if err := w.insert(w.conn); err != nil {
		_ = w.exec("ROLLBACK") // the connection may be gone
		return err
	}
	if err := w.exec("PREPARE TRANSACTION '" + w.name + "'"); err != nil {
		return err
	}
	w.pause()
	return w.decide(context.Background())
}

// insert inserts an event of a stream that has one event.
func (w *writer) insert(tx interface {
	QueryRow(ctx context.Context, query string, arguments ...any) pgx.Row
}) error {
	w.events++
	category, tag := fmt.Sprintf("cat%d", w.random.IntN(3)), w.tag()
	stream := fmt.Sprintf("%s-%s_%d", category, es.NewID(), w.events)
	var position int64
	return tx.QueryRow(context.Background(), `WITH inserted AS (`+insertion+` RETURNING position),
		tagged AS (INSERT INTO eventsourcing.tags_1 (tag, position) SELECT $7, position FROM inserted)
		SELECT position FROM inserted`, 1, es.NewID(), stream, category, w.nameOfEvent(), []string{tag}, tag).Scan(&position)
}
