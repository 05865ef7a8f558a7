package sqlite

import (
	"errors"
	"fmt"

	lite "zombiezen.com/go/sqlite"
)

// reindexing makes anew what follows from the rest of a file.
type reindexing struct {
	*conn
	config Config
}

func (r *reindexing) run() error {
	if err := r.pragma("PRAGMA wal_autocheckpoint=0"); err != nil {
		return err
	}
	spaces, err := spaceNumbers(r.conn)
	if err != nil {
		return err
	}
	for _, space := range spaces {
		if err := r.clearIndex(spaces, space); err != nil {
			return fmt.Errorf("clear the index of namespace %d: %w", space, err)
		}
		if err := r.sortOutbox(spaces, space); err != nil {
			return fmt.Errorf("sort the outbox of namespace %d: %w", space, err)
		}
	}
	if err := r.dropStrayPages(spaces); err != nil {
		return fmt.Errorf("write the file anew: %w", err)
	}
	for _, space := range spaces {
		if err := r.build(space); err != nil {
			return fmt.Errorf("index namespace %d: %w", space, err)
		}
		if err := inTransaction(r.conn, func() error { return r.recount(space) }); err != nil {
			return fmt.Errorf("count what is in namespace %d: %w", space, err)
		}
	}
	return r.bringIn()
}

// bringIn brings the log into the file, so that it does not get long.
func (r *reindexing) bringIn() error {
	_, err := r.checkpointed("PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// clearIndex takes all runs away. Where the pages of their tables are damaged, new tables take their place, and the pages are nobody's
// then.
func (r *reindexing) clearIndex(spaces []int64, space int64) error {
	err := inTransaction(r.conn, func() error {
		return r.statements(space, "DELETE FROM es_runs_$", "DELETE FROM es_blocks_$", "UPDATE es_state_$ SET runs = runs + 1")
	})
	if errors.Is(err, ErrCorrupt) {
		err = r.replace(spaces, nothingElse, spaced("es_runs_$", space), spaced("es_blocks_$", space))
	}
	return err
}

// sortOutbox puts all entries of the outbox anew in the order of their streams, in a table that is new when the old one is damaged. It is
// one transaction, so that nobody ever finds a part of them.
func (r *reindexing) sortOutbox(spaces []int64, space int64) error {
	sorted := func() error {
		return r.statements(space,
			"INSERT OR IGNORE INTO es_outbox_order_$ SELECT stream, place, entry FROM es_outbox_$ ORDER BY stream, place")
	}
	err := inTransaction(r.conn, func() error {
		if err := r.statements(space, "DELETE FROM es_outbox_order_$"); err != nil {
			return err
		}
		return sorted()
	})
	if errors.Is(err, ErrCorrupt) {
		err = r.replace(spaces, sorted, spaced("es_outbox_order_$", space))
	}
	return err
}

// statements runs statements for a namespace.
func (r *reindexing) statements(space int64, statements ...string) error {
	for _, statement := range statements {
		if err := r.query(nil, spaced(statement, space)); err != nil {
			return err
		}
	}
	return nil
}

func nothingElse() error { return nil }

// replace makes tables, or indexes, anew without touching the pages of the old ones, and has fill do the rest in the same transaction.
func (r *reindexing) replace(spaces []int64, fill func() error, names ...string) error {
	made, err := expected(r.config, schemaVersion, spaces)
	if err != nil {
		return err
	}
	if err := r.pragma("PRAGMA writable_schema=ON"); err != nil {
		return err
	}
	err = inTransaction(r.conn, func() error {
		for _, name := range names {
			if err := r.query(nil, "DELETE FROM sqlite_schema WHERE name = ?", name); err != nil {
				return err
			}
		}
		if err := r.pragma("PRAGMA writable_schema=RESET"); err != nil { // and SQLite reads the schema again
			return err
		}
		for _, name := range names {
			for _, kind := range []string{"table ", "index "} {
				if sql := made[kind+name]; sql != "" {
					if err := r.pragma(sql); err != nil {
						return err
					}
				}
			}
		}
		return fill()
	})
	if off := r.pragma("PRAGMA writable_schema=RESET"); err == nil {
		err = off
	}
	return err
}

// dropStrayPages makes SQLite's indexes anew, and writes the file anew when there are pages in it that belong to nothing, or that are
// damaged and belong to an index.
func (r *reindexing) dropStrayPages(spaces []int64) error {
	stray := false
	tables, err := r.tables()
	if err != nil {
		return err
	}
	err = r.query(func(stmt *lite.Stmt) error {
		stray = stray || stmt.ColumnText(0) != "ok"
		return nil
	}, "PRAGMA integrity_check(1)")
	if err != nil || !stray {
		return err
	}
	for _, table := range tables {
		err := r.pragma("REINDEX " + table)
		if errors.Is(err, ErrCorrupt) {
			err = r.replaceIndexes(spaces, table)
		}
		if err != nil {
			return err
		}
	}
	if err := r.pragma("VACUUM"); err != nil {
		return err
	}
	return r.bringIn()
}

// replaceIndexes makes the indexes of a table anew whose pages are damaged.
func (r *reindexing) replaceIndexes(spaces []int64, table string) error {
	names, err := r.names("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ?", table)
	if err != nil {
		return err
	}
	return r.replace(spaces, nothingElse, names...)
}

// tables returns the names of the toolkit's tables.
func (r *reindexing) tables() ([]string, error) {
	return r.names(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'es\_%' ESCAPE '\'`)
}

func (r *reindexing) names(query string, args ...any) (names []string, err error) {
	err = r.query(func(stmt *lite.Stmt) error {
		names = append(names, stmt.ColumnText(0))
		return nil
	}, query, args...)
	return names, err
}

// build makes the runs of a namespace.
func (r *reindexing) build(space int64) error {
	l := newEventLog(&DB{config: r.config, space: space})
	for behind := true; behind; {
		err := inTransaction(r.conn, func() (err error) {
			behind, err = l.buildBacklog(r.conn, l.runEvents())
			return err
		})
		if err != nil {
			return err
		}
		if err := r.bringIn(); err != nil {
			return err
		}
	}
	return nil
}

// recount sets the counters of the outbox, and sees to it that each stream which has entries to give is among those that are ready.
func (r *reindexing) recount(space int64) error {
	return r.statements(space,
		"INSERT INTO es_outbox_streams_$ SELECT stream, enqueued, 0, 0, 0, 0, 0, 0 FROM es_outbox_$ WHERE true ON CONFLICT DO NOTHING",
		"UPDATE es_outbox_streams_$ SET ready = 1 WHERE "+outboxUnseen,
		"UPDATE es_outbox_state_$ SET sorted = entry, depth = (SELECT count(*) FROM es_outbox_$), "+
			"retrying = (SELECT count(*) FROM es_outbox_tries_$ WHERE failed = 1), dead = (SELECT count(*) FROM es_outbox_dead_$), "+
			"parked = (SELECT count(DISTINCT stream) FROM es_outbox_dead_$ WHERE parked = 1)")
}
