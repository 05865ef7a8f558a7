package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// Reads of 50,000 events, of which each has 256 bytes of data, two tags and metadata, beside a loop over rows that scans the same columns.
// Each operation is one event.
func BenchmarkRead(b *testing.B) {
	url := pgserver.Database(b)
	db := openDB(b, postgres.Config{URL: url})
	const total = 50_000
	fillEvents(b, url, 1, total)
	pool, err := pgxpool.New(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	for _, c := range []struct {
		name   string
		query  es.Query
		events int
		bare   string
	}{
		{"forward", es.Query{}, total, "ORDER BY position"},
		{"stream_of_1000", es.Query{Stream: "order-7"}, 1000, "WHERE stream = 'order-7' ORDER BY version"},
		{"stream_of_20", es.Query{Stream: "order-7", After: 980}, 20, "WHERE stream = 'order-7' AND version > 980 ORDER BY version"},
		{"tag_on_100", es.Query{Tags: []string{"customer:7"}}, 100,
			"WHERE position IN (SELECT position FROM eventsourcing.tags_1 WHERE tag = 'customer:7') ORDER BY position"},
		{"two_of_seven_names", es.Query{Names: []string{"Name1", "Name2"}}, 14286, "WHERE name IN ('Name1', 'Name2') ORDER BY position"},
	} {
		b.Run(c.name+"/bare", func(b *testing.B) {
			perEvent(b, c.events, func() int { return bareScan(b, pool, c.bare) })
		})
		b.Run(c.name+"/store", func(b *testing.B) {
			perEvent(b, c.events, func() int { return countEvents(b, db.Events(), c.query) })
		})
	}
}

// perEvent has a read done so often that b.N events are read.
func perEvent(b *testing.B, events int, read func() int) {
	b.Helper()
	b.ReportAllocs()
	for n := 0; n < b.N; n += events {
		if got := read(); got != events {
			b.Fatalf("%d events, want %d", got, events)
		}
	}
}

func countEvents(tb testing.TB, store es.EventStore, q es.Query) (n int) {
	tb.Helper()
	for _, err := range store.Read(tb.Context(), q) {
		if err != nil {
			tb.Fatal(err)
		}
		n++
	}
	return n
}

// bareScan reads events as a program does that has no toolkit.
func bareScan(tb testing.TB, pool *pgxpool.Pool, which string) (n int) {
	tb.Helper()
	rows, err := pool.Query(context.Background(), "SELECT position, version, recorded, id, stream, name, schema, time, correlation, causation, "+
		"content_type, tags, metadata, data FROM eventsourcing.events_1 "+which)
	if err != nil {
		tb.Fatal(err)
	}
	var position, version, recorded, happened int64
	var id [16]byte
	var stream, name string
	var schema int
	var correlation, causation, contentType, metadata *string
	var tags []string
	var data []byte
	_, err = pgx.ForEachRow(rows, []any{
		&position, &version, &recorded, &id, &stream, &name, &schema, &happened, &correlation, &causation, &contentType, &tags, &metadata, &data,
	}, func() error {
		n++
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
