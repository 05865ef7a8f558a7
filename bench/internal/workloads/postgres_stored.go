package workloads

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// models are the databases that are copied, of one server. They are made once in a run.
type models struct {
	mu   sync.Mutex
	made map[modelKey]string
}

// modelKey is a server and what is stored.
type modelKey struct {
	server          *pgserver.Server
	events, streams int
	tagged          bool
}

// copied makes a database that has events, and the toolkit's tables.
func (m *models) copied(ctx context.Context, s measure.Stage, plan storing) (database, error) {
	server, err := s.Postgres()
	if err != nil {
		return database{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := modelKey{server, plan.events, plan.streams, plan.tags != nil}
	model, made := m.made[key]
	if !made {
		name, err := server.CreateDatabase(ctx)
		if err != nil {
			return database{}, err
		}
		d := newDatabase(ctx, server, name)
		if err := d.fill(ctx, plan); err != nil {
			return database{}, errors.Join(fmt.Errorf("store %d events: %w", plan.events, err), d.drop())
		}
		model, m.made[key] = d.name, d.name
	}
	copied, err := server.CopyDatabase(ctx, model)
	return newDatabase(ctx, server, copied), err
}

// The indexes of the events are made when the events are there, which takes a fraction of the time.
const (
	withoutIndexes = `ALTER TABLE eventsourcing.events_1 DROP CONSTRAINT events_1_pkey, DROP CONSTRAINT events_1_version,
			DROP CONSTRAINT events_1_id;
		DROP INDEX eventsourcing.events_1_category, eventsourcing.events_1_name;`
	withIndexes = `SET maintenance_work_mem = '1GB';
		ALTER TABLE eventsourcing.events_1 ADD PRIMARY KEY (position), ADD CONSTRAINT events_1_version UNIQUE (stream, version),
			ADD CONSTRAINT events_1_id UNIQUE (id);
		CREATE INDEX events_1_category ON eventsourcing.events_1 (category, position);
		CREATE INDEX events_1_name ON eventsourcing.events_1 (name, position);
		SELECT setval('eventsourcing.positions_1', greatest((SELECT max(position) FROM eventsourcing.events_1), 1));`
)

// fill makes the toolkit's tables, and stores events in them.
func (d database) fill(ctx context.Context, plan storing) error {
	db, err := postgres.Open(ctx, postgres.Config{URL: d.url()})
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	copyAll := func() error {
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{"eventsourcing", "events_1"}, eventColumns(), newCopying(plan)); err != nil {
			return err
		}
		if plan.tags == nil {
			return nil
		}
		_, err := conn.Exec(ctx, "INSERT INTO eventsourcing.tags_1 SELECT unnest(tags), position FROM eventsourcing.events_1")
		return err
	}
	exec := func(statements string) func() error {
		return func() error {
			_, err := conn.PgConn().Exec(ctx, statements).ReadAll()
			return err
		}
	}
	steps := []func() error{exec(withoutIndexes), copyAll, exec(withIndexes), exec("VACUUM (ANALYZE)"), exec("CHECKPOINT")}
	for _, step := range steps {
		if err = step(); err != nil {
			break
		}
	}
	return errors.Join(err, conn.Close(ctx))
}

func eventColumns() []string {
	return []string{
		"position", "version", "id", "stream", "category", "name", "schema", "time", "recorded", "correlation", "causation", "tags", "metadata",
		"data",
	}
}

// copying is what is stored, as COPY takes it.
type copying struct {
	plan storing
	next int
	m    *es.Message
}

func newCopying(plan storing) *copying { return &copying{plan: plan, m: newEvent()} }

// Next implements [pgx.CopyFromSource].
func (c *copying) Next() bool {
	if c.next == c.plan.events {
		return false
	}
	c.plan.set(c.m, c.next)
	c.next++
	return true
}

// Values implements [pgx.CopyFromSource].
func (c *copying) Values() ([]any, error) {
	version := int64((c.next-1)/c.plan.streams) + 1
	return append([]any{int64(c.next)}, bareValues(c.m, version, c.plan.began.UnixMicro())...), nil
}

// Err implements [pgx.CopyFromSource].
func (c *copying) Err() error { return nil }

// bareValues are the values of the columns of an event but its position.
func bareValues(m *es.Message, version, recorded int64) []any {
	var tags []string
	if len(m.Tags) > 0 {
		tags = m.Tags
	}
	return []any{
		version, m.ID, m.Stream, es.Category(m.Stream), m.Name, int32(m.Schema), m.Time.UnixMicro(), recorded, //nolint:gosec // it is 1
		m.CorrelationID, m.CausationID, tags, `{"` + tenantKey + `":"` + m.Metadata[tenantKey] + `"}`, m.Data,
	}
}
