package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// BenchmarkAppend appends events one by one, from several goroutines at the same time, on a server with its usual durability; each
// goroutine has streams of its own. Beside it, "bare" inserts the same rows by one statement each, which is committed by itself, on as
// many connections; and "conditional" appends with a condition on both tags of the event.
//
//	go test -run '^$' -bench BenchmarkAppend -benchmem ./postgres
func BenchmarkAppend(b *testing.B) {
	s := pgserver.ForTest(b, pgserver.Config{})
	db := openBench(b, s.URL("postgres"))
	var made atomic.Int64
	for _, appenders := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("appenders=%d", appenders), func(b *testing.B) {
			b.Run("append", func(b *testing.B) {
				appendFrom(b, appenders, func() func() error {
					return func() error {
						m := benchEvent(made.Add(1))
						_, err := db.Events().Append(b.Context(), es.AppendTo(m.Stream, es.Any, m))
						return err
					}
				})
			})
			b.Run("bare", func(b *testing.B) {
				appendFrom(b, appenders, func() func() error { return bareInsert(b, s.URL("postgres"), &made) })
			})
			b.Run("conditional", func(b *testing.B) {
				head, err := db.Events().Head(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				appendFrom(b, appenders, func() func() error {
					return func() error {
						m := benchEvent(made.Add(1))
						a := es.AppendTo(m.Stream, es.Any, m)
						a.Unless = []es.Condition{{Match: []es.Criterion{{Tags: m.Tags}}, After: head.Position}}
						_, err := db.Events().Append(b.Context(), a)
						return err
					}
				})
			})
		})
	}
}

func openBench(b *testing.B, url string) *postgres.DB {
	b.Helper()
	db, err := postgres.Open(b.Context(), postgres.Config{URL: url})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	return db
}

// benchEvent makes the number-th event.
func benchEvent(number int64) *es.Message {
	m := es.NewMessage(fmt.Sprintf("order-%d", number), "ItemAdded", []byte(`{"item":"`+strings.Repeat("x", 240)+`"}`))
	m.Tags = []string{fmt.Sprintf("order:%d", number), fmt.Sprintf("item:%d", number)}
	m.Metadata = map[string]string{"user": "somebody"}
	return m
}

// appendFrom has several goroutines append b.N times in all. Each makes a function that does it once.
func appendFrom(b *testing.B, goroutines int, prepare func() func() error) {
	b.Helper()
	does := make([]func() error, goroutines)
	for i := range does {
		does[i] = prepare()
	}
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for _, do := range does {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// bareInsert returns a function that inserts an event into the tables of the store, on a connection of its own.
func bareInsert(b *testing.B, url string, made *atomic.Int64) func() error {
	b.Helper()
	c, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	return func() error {
		m := benchEvent(made.Add(1))
		_, err := c.Exec(b.Context(), `
			WITH e AS (
			  INSERT INTO eventsourcing.events_1
			    (position, version, id, stream, category, name, schema, time, recorded, content_type, tags, metadata, data)
			  VALUES (nextval('eventsourcing.positions_1'), 1, $1, $2, 'order', $3, 1, $4, $4, NULL, $5, $6, $7)
			  RETURNING position, tags
			)
			INSERT INTO eventsourcing.tags_1 (tag, position) SELECT unnest(tags), position FROM e`,
			m.ID, m.Stream, m.Name, m.Time.UnixMicro(), m.Tags, `{"user":"somebody"}`, m.Data)
		return err
	}
}
