package postgres_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// fillEvents writes events with one statement, as quickly as it goes, and leaves the statistics as they were: 50 streams, 7 names, one
// tag that all have and another one on a hundred of 50,000. Nothing else writes meanwhile.
func fillEvents(tb testing.TB, url string, namespace, events int) {
	tb.Helper()
	script := `
INSERT INTO eventsourcing.events_# (position, version, id, stream, category, name, schema, time, recorded, correlation, causation, tags,
  metadata, data)
SELECT nextval('eventsourcing.positions_#'), 1 + i / 50, gen_random_uuid(), 'order-' || i % 50, 'order', 'Name' || i % 7, 1,
  1700000000000000 + i, 1700000000000005 + i, md5(i::text), md5('by ' || i), ARRAY['tenant:1', 'customer:' || i % 500],
  '{"tenant":"tenant-1"}', convert_to(repeat('x', 256), 'UTF8')
FROM generate_series(0, EVENTS - 1) AS i;
INSERT INTO eventsourcing.tags_# (tag, position) SELECT unnest(tags), position FROM eventsourcing.events_#`
	c, err := pgx.Connect(tb.Context(), url)
	if err == nil {
		_, err = c.Exec(tb.Context(), strings.NewReplacer("#", strconv.Itoa(namespace), "EVENTS", strconv.Itoa(events)).Replace(script))
		err = errors.Join(err, c.Close(tb.Context()))
	}
	if err != nil {
		tb.Fatal(err)
	}
}
