package projection_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
	"github.com/eventsourcing-go/eventsourcing/projection"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// onTables is a database with a table that events are counted in.
type onTables struct {
	backend es.Backend
	target  projection.Target
	exec    func(ctx context.Context, query string) error
	counts  func(ctx context.Context) (map[string]int, error)
	count   func(ctx context.Context, b *projection.Batch, table, stream string) error
}

const (
	clearTable = "DROP TABLE IF EXISTS counts_aside; CREATE TABLE counts_aside (stream TEXT PRIMARY KEY, n BIGINT NOT NULL)"
	swapTables = "DROP TABLE counts; ALTER TABLE counts_aside RENAME TO counts"
	addOne     = "INSERT INTO %s AS c (stream, n) VALUES ('%s', 1) ON CONFLICT (stream) DO UPDATE SET n = c.n + 1"
)

func onSQLite(t *testing.T) onTables {
	t.Helper()
	db, err := sqlite.Open(sqlite.Config{Path: filepath.Join(t.TempDir(), "events.db")})
	if err != nil {
		t.Fatal(err)
	}
	script := func(tx *sqlite.Tx, script string) error {
		for statement := range strings.SplitSeq(script, "; ") {
			if err := tx.Exec(statement); err != nil {
				return err
			}
		}
		return nil
	}
	return onTables{
		backend: db,
		target: projection.Tables(projection.TablesConfig[*sqlite.Tx]{
			Run:   db.Update,
			Clear: func(_ context.Context, tx *sqlite.Tx) error { return script(tx, clearTable) },
			Swap:  func(_ context.Context, tx *sqlite.Tx) error { return script(tx, swapTables) },
		}),
		exec: func(ctx context.Context, query string) error {
			return db.Update(ctx, func(tx *sqlite.Tx) error { return tx.Exec(query) })
		},
		counts: func(ctx context.Context) (map[string]int, error) {
			counts := map[string]int{}
			return counts, db.View(ctx, func(v *sqlite.View) error {
				return v.Query(func(row sqlite.Row) error {
					counts[row.Text(0)] = int(row.Int64(1))
					return nil
				}, "SELECT stream, n FROM counts")
			})
		},
		count: func(_ context.Context, b *projection.Batch, table, stream string) error {
			return projection.TxOf[*sqlite.Tx](b).Exec(fmt.Sprintf(addOne, table, stream))
		},
	}
}

func onPostgreSQL(t *testing.T) onTables {
	t.Helper()
	url := pgserver.Database(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, do func(*postgres.Tx) error) error { return db.InTx(ctx, pgx.TxOptions{}, do) }
	script := func(ctx context.Context, tx *postgres.Tx, script string) error {
		for statement := range strings.SplitSeq(script, "; ") {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	}
	return onTables{
		backend: db,
		target: projection.Tables(projection.TablesConfig[*postgres.Tx]{
			Run:   run,
			Clear: func(ctx context.Context, tx *postgres.Tx) error { return script(ctx, tx, clearTable) },
			Swap:  func(ctx context.Context, tx *postgres.Tx) error { return script(ctx, tx, swapTables) },
		}),
		exec: func(ctx context.Context, query string) error {
			return run(ctx, func(tx *postgres.Tx) error { return script(ctx, tx, query) })
		},
		counts: func(ctx context.Context) (map[string]int, error) {
			counts := map[string]int{}
			return counts, run(ctx, func(tx *postgres.Tx) error {
				rows, err := tx.Query(ctx, "SELECT stream, n FROM counts")
				if err != nil {
					return err
				}
				var stream string
				var n int
				_, err = pgx.ForEachRow(rows, []any{&stream, &n}, func() error { counts[stream] = n; return nil })
				return err
			})
		},
		count: func(ctx context.Context, b *projection.Batch, table, stream string) error {
			_, err := projection.TxOf[*postgres.Tx](b).Exec(ctx, fmt.Sprintf(addOne, table, stream))
			return err
		},
	}
}

var errThirteen = errors.New("thirteen")

// TestEachEventHasItsEffectOnTablesOnce runs two copies beside each other, which are stopped and started again, skips events after they have
// written something, and rebuilds.
func TestEachEventHasItsEffectOnTablesOnce(t *testing.T) {
	t.Parallel()
	for backend, open := range map[string]func(t *testing.T) onTables{"SQLite": onSQLite, "PostgreSQL": onPostgreSQL} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			d := open(t)
			t.Cleanup(func() { _ = d.backend.Close() })
			if err := d.exec(t.Context(), "CREATE TABLE counts (stream TEXT PRIMARY KEY, n BIGINT NOT NULL)"); err != nil {
				t.Fatal(err)
			}
			s := newSource(d.backend.Events(), rand.New(rand.NewPCG(1, 2)))
			counting := func(t *testing.T) *projection.Projection {
				t.Helper()
				p, err := projection.New(projection.Config{
					Name: name, Types: newTypes(), Events: d.backend.Events(), Models: d.backend.ReadModels(), Target: d.target,
					OnError: projection.Skip, BatchSize: 50,
				}, projection.On(func(ctx context.Context, b *projection.Batch, e Ticked, m *es.Message) error {
					table := "counts"
					if b.Aside() {
						table = "counts_aside"
					}
					if err := d.count(ctx, b, table, m.Stream); err != nil || e.N != 13 {
						return err
					}
					return errThirteen
				}))
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			ended := make(chan struct{})
			var lives sync.WaitGroup
			for range 2 {
				lives.Go(func() {
					for range 2 {
						p := counting(t)
						if err := p.Start(t.Context()); err != nil {
							t.Error(err)
						}
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						if err := errors.Join(p.WaitFor(ctx, s.at()), p.Stop(ctx)); err != nil {
							t.Error(err)
						}
						cancel()
					}
				})
			}
			go func() { lives.Wait(); close(ended) }()
			feed(t, s, ended)

			want := func(when string) {
				t.Helper()
				counts, err := d.counts(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for i, n := range s.appended {
					if n >= 13 {
						n-- // that one is skipped
					}
					if counts[streamName(i)] != n {
						t.Errorf("%s: %s has %d, want %d", when, streamName(i), counts[streamName(i)], n)
					}
				}
			}
			finish(t, s, counting(t))
			want("at first")
			if err := d.exec(t.Context(), "UPDATE counts SET n = 0"); err != nil {
				t.Fatal(err)
			}
			report, err := counting(t).Rebuild(t.Context(), projection.RebuildOptions{})
			if err != nil || !report.Switched || int(report.Events) != s.total() {
				t.Errorf("%+v of %d, %v", report, s.total(), err)
			}
			want("rebuilt")
			if err := s.append(t.Context()); err != nil {
				t.Fatal(err)
			}
			finish(t, s, counting(t))
			want("afterwards")
		})
	}
}

// at is the last position.
func (s *source) at() es.Checkpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}
