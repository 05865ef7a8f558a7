package workloads

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
)

// bareInsertion is one statement that appends an event to the toolkit's own tables, see postgres/schema/1/events.sql.
const bareInsertion = `INSERT INTO eventsourcing.events_1 (position, version, id, stream, category, name, schema, time, recorded,
		correlation, causation, tags, metadata, data)
	VALUES (nextval('eventsourcing.positions_1'), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING position`

// bareDatabase is a database with the toolkit's tables, and a connection for each of those who append.
type bareDatabase struct {
	onDatabase

	pool *pgxpool.Pool
}

func openBareDatabase(ctx context.Context, d database, connections int) (*bareDatabase, error) {
	c, err := pgxpool.ParseConfig(d.url())
	if err != nil {
		return nil, err
	}
	c.MinConns, c.MaxConns = int32(connections), int32(connections) //nolint:gosec // a few hundred
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	return &bareDatabase{onDatabase: onDatabase{d}, pool: pool}, nil
}

// append appends an event by one statement, which is a transaction of its own.
func (d *bareDatabase) append(ctx context.Context, a es.Append) (es.Place, error) {
	to := a.Streams[0]
	m := to.Events[0]
	place := es.Place{Version: max(int64(to.Expect), 0) + 1}
	values := bareValues(m, place.Version, time.Now().UnixMicro())
	return place, d.pool.QueryRow(ctx, bareInsertion, values...).Scan(&place.Position)
}

func (d *bareDatabase) close() (string, error) {
	d.pool.Close()
	return d.name, nil
}

// scannedEvent is what a bare loop keeps of a row.
type scannedEvent struct {
	position, version, time, recorded int64
	id                                [16]byte
	stream, name                      string
	schema                            int32
	correlation, causation, kind      *string
	tags                              []string
	metadata                          *string
	data                              []byte
}

const bareSelection = `SELECT position, version, recorded, id, stream, name, schema, time, correlation, causation, content_type, tags,
	metadata, data FROM eventsourcing.events_1 WHERE `

// read reads the first events, of a stream or of all, in one query.
func (d *bareDatabase) read(ctx context.Context, stream string, limit int, see func(data []byte) error) error {
	query, arguments := bareSelection+"position > 0 ORDER BY position LIMIT $1", []any{limit}
	if stream != "" {
		query, arguments = bareSelection+"stream = $2 ORDER BY version LIMIT $1", []any{limit, stream}
	}
	rows, err := d.pool.Query(ctx, query, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e := new(scannedEvent)
		err := rows.Scan(&e.position, &e.version, &e.recorded, &e.id, &e.stream, &e.name, &e.schema, &e.time, &e.correlation, &e.causation,
			&e.kind, &e.tags, &e.metadata, &e.data)
		if err == nil {
			err = see(e.data)
		}
		if err != nil {
			return err
		}
	}
	return rows.Err()
}

// copyOut reads the first events by COPY, in the binary format, and looks only for the numbers in what comes.
func (d *bareDatabase) copyOut(ctx context.Context, _ string, limit int, see func(data []byte) error) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	query := fmt.Sprintf("COPY (%sposition > 0 ORDER BY position LIMIT %d) TO STDOUT (FORMAT binary)", bareSelection, limit)
	seen := &copiedRows{see: see}
	_, err = conn.Conn().PgConn().CopyTo(ctx, seen, query)
	return errors.Join(err, seen.left())
}

var _ pgx.CopyFromSource = (*copying)(nil)
