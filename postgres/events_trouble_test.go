package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	es "github.com/eventsourcing-go/eventsourcing"
)

// troubled is a storage where transactions that are not the toolkit's do to readers of the global order what is in their power: they draw
// positions and commit late, or roll back, as a whole or to a savepoint, are prepared, or are left open for a while; others never draw
// one, and keep a snapshot or a lock. What they write is hidden, and no event of the test.
type troubled struct {
	*storage[es.EventStore]

	serial bool
}

// Trouble makes trouble until the context ends, and leaves nothing open.
func (s *troubled) Trouble(ctx context.Context, namespace string) error {
	troubles := []trouble{commitLate, commitLate, rollBack, rollBackToSavepoint, prepare, leaveOpen, lookOn}
	if s.serial { // who has a position holds up all others: no more than a little of it
		troubles = []trouble{commitLate, rollBack, lookOn}
	}
	errs := make([]error, len(troubles))
	var all sync.WaitGroup
	for i, trouble := range troubles {
		all.Go(func() { errs[i] = s.repeat(ctx, namespace, i, trouble) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// trouble is one transaction, or a few, on a connection.
type trouble func(m *troublemaker) error

// repeat makes the same trouble again and again, on a connection of its own.
func (s *troubled) repeat(ctx context.Context, namespace string, number int, once trouble) error {
	lasting := context.WithoutCancel(ctx)
	conn, err := pgx.Connect(lasting, s.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(lasting) }() // nothing is open
	m := &troublemaker{Conn: conn, ctx: ctx, lasting: lasting, serial: s.serial, name: fmt.Sprintf("trouble%d", number)}
	err = conn.QueryRow(lasting, "SELECT space FROM eventsourcing.spaces WHERE name = $1", namespace).Scan(&m.space)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := once(m); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		m.pause(5)
	}
	return nil
}

// troublemaker is a connection of a program that has not been told of the toolkit.
type troublemaker struct {
	*pgx.Conn

	ctx, lasting context.Context // until when to go on, and one for what must be finished
	serial       bool
	space        int
	name         string
	written      int
}

// pause waits for a part of some milliseconds, or until it is enough.
func (m *troublemaker) pause(milliseconds int) {
	select {
	case <-time.After(rand.N(time.Duration(milliseconds) * time.Millisecond)):
	case <-m.ctx.Done():
	}
}

func (m *troublemaker) do(statements ...string) error {
	for _, statement := range statements {
		statement = strings.ReplaceAll(strings.ReplaceAll(statement, "@", "eventsourcing."), "#", strconv.Itoa(m.space))
		if _, err := m.Exec(m.lasting, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// event draws a position, waits, and writes an event that is hidden.
func (m *troublemaker) event() error {
	draw := "SELECT nextval('@positions_#')"
	if m.serial {
		draw = "UPDATE @state_# SET head = head + 1 RETURNING head"
	}
	draw = strings.ReplaceAll(strings.ReplaceAll(draw, "@", "eventsourcing."), "#", strconv.Itoa(m.space))
	position := int64(0)
	if err := m.QueryRow(m.lasting, draw).Scan(&position); err != nil {
		return err
	}
	m.pause(3)
	m.written++
	return m.do(fmt.Sprintf("INSERT INTO @events_# (position, version, id, stream, category) VALUES (%d, 1, '%s', '%s-%d', '%[3]s')",
		position, es.NewID(), m.name, m.written))
}

// events is event, a few times.
func (m *troublemaker) events() error {
	for range 1 + rand.IntN(3) {
		if err := m.event(); err != nil {
			return err
		}
	}
	return nil
}

func commitLate(m *troublemaker) error {
	if err := m.do("BEGIN", "SELECT txid_current()"); err != nil { // its number as a transaction is older than its position
		return err
	}
	m.pause(5)
	if err := m.events(); err != nil {
		return err
	}
	m.pause(10)
	return m.do("COMMIT")
}

func rollBack(m *troublemaker) error {
	if err := m.do("BEGIN"); err != nil {
		return err
	}
	if err := m.events(); err != nil {
		return err
	}
	m.pause(5)
	return m.do("ROLLBACK")
}

// rollBackToSavepoint takes back what was written, and writes at the same position all the same, as the sequence allows.
func rollBackToSavepoint(m *troublemaker) error {
	position := int64(0)
	if err := m.do("BEGIN", "SAVEPOINT before"); err != nil {
		return err
	}
	query := fmt.Sprintf("SELECT nextval('eventsourcing.positions_%d')", m.space)
	if err := m.QueryRow(m.lasting, query).Scan(&position); err != nil {
		return err
	}
	if err := m.do("ROLLBACK TO SAVEPOINT before"); err != nil {
		return err
	}
	m.pause(10)
	m.written++
	return m.do(fmt.Sprintf("INSERT INTO @events_# (position, version, id, stream, category) VALUES (%d, 1, '%s', '%s-%d', '%[3]s')",
		position, es.NewID(), m.name, m.written), "COMMIT")
}

// prepare ends a transaction in two steps, where the server allows it.
func prepare(m *troublemaker) error {
	if err := m.do("BEGIN"); err != nil {
		return err
	}
	if err := m.events(); err != nil {
		return err
	}
	name := es.NewID().String()
	if err := m.do("PREPARE TRANSACTION '" + name + "'"); err != nil {
		if refusal, ok := errors.AsType[*pgconn.PgError](err); ok && refusal.Code == "55000" { // max_prepared_transactions is 0
			<-m.ctx.Done()
			return nil
		}
		return err
	}
	m.pause(20)
	return m.do([]string{"COMMIT", "ROLLBACK"}[rand.IntN(2)] + " PREPARED '" + name + "'")
}

// leaveOpen holds all readers up for a while.
func leaveOpen(m *troublemaker) error {
	if err := m.do("BEGIN"); err != nil {
		return err
	}
	if err := m.event(); err != nil {
		return err
	}
	m.pause(200)
	return m.do("COMMIT")
}

// lookOn draws nothing, but has a number as a transaction, a snapshot and a lock on the sequence in another mode, for as long as it can.
func lookOn(m *troublemaker) error {
	if err := m.do("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT txid_current()", "SELECT count(*) FROM @events_#",
		"SELECT last_value FROM @positions_#"); err != nil {
		return err
	}
	<-m.ctx.Done()
	return m.do("ROLLBACK")
}
