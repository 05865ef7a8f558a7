package workloads

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// A server has checkpoints, autovacuum and other work of its own behind what is measured, so the turns are long enough for some of it.
const (
	postgresRounds = 5
	postgresRound  = time.Second
)

// onPostgres are the workloads on a PostgreSQL server of the run's own, with its default durability.
func onPostgres() []measure.Workload {
	m := &models{made: map[modelKey]string{}}
	all := []measure.Workload{
		postgresAppendByOne(m),
		postgresAppend(m, 64, 2.1, "2.4, and twice pgbench"),
		postgresAppend(m, 256, 3, "3.3, and three times pgbench"),
		postgresAppendInTwo(m),
		postgresAppendStored(m, 64, million),
		postgresAppendStored(m, 256, million),
		postgresAppendStored(m, 64, 10*million),
		postgresAppendStored(m, 256, 10*million),
		postgresReadForward(m),
		postgresReadStream(m),
		postgresConditional(m),
		postgresOutboxByOne(m),
		postgresOutboxBy64(m),
		postgresWakeUps(m),
		postgresOutboxToHandler(m),
	}
	for i := range all {
		all[i].Backend = "PostgreSQL"
		all[i].LeastRounds, all[i].LeastRound = postgresRounds, postgresRound
	}
	return all
}

// database is a database of the run's server.
type database struct {
	server *pgserver.Server
	name   string
	drop   func() error
}

// newDatabase is a database that is there. It can be dropped also when ctx has ended.
func newDatabase(ctx context.Context, server *pgserver.Server, name string) database {
	drop := func() error { return server.DropDatabase(context.WithoutCancel(ctx), name) }
	return database{server: server, name: name, drop: drop}
}

func (d database) url() string { return d.server.URL(d.name) }

// connect connects to the database, for what is not measured.
func (d database) connect(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, d.url()) }

// onDatabase is an eventFile that is a database.
type onDatabase struct{ database }

func (d onDatabase) check(_ string, total uint64, shares []share) error {
	ctx := context.Background()
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	err = checkEvents(func(see func(stream string, version int64, data []byte) error) error {
		rows, err := conn.Query(ctx, "SELECT stream, version, data FROM eventsourcing.events_1 ORDER BY position")
		if err != nil {
			return err
		}
		var stream string
		var version int64
		var data []byte
		_, err = pgx.ForEachRow(rows, []any{&stream, &version, &data}, func() error { return see(stream, version, data) })
		return err
	}, total, shares)
	return errors.Join(err, conn.Close(ctx), d.drop())
}
