package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// exclusively has do work on a file that nobody else has open, and syncs what it does. It waits for those who have it open as long as
// Config.BusyTimeout.
func exclusively(ctx context.Context, c Config, do func(c *conn) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := thereMustBe(c); err != nil {
		return err
	}
	if err := peek(c); err != nil {
		return err
	}
	only, err := openConn(c, lite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() {
		if end := only.closeConn(); end != nil {
			err = errors.Join(err, end)
		}
	}()
	// In this mode SQLite takes the file with the first statement, and not unless nobody else has it open.
	for _, setting := range []string{"PRAGMA locking_mode=EXCLUSIVE", "PRAGMA synchronous=FULL", pageCache} {
		if err := only.pragma(setting); err != nil {
			return err
		}
	}
	only.SetInterrupt(ctx.Done())
	defer only.SetInterrupt(nil)
	version, err := identify(only)
	if err == nil && version != schemaVersion {
		err = fmt.Errorf("%w: its schema is of version %d; open and close it once with this version of the toolkit", ErrForeign, version)
	}
	if err == nil {
		err = do(only)
	}
	return explained(err, ctx.Err)
}

// thereMustBe tells whether there is a file that may be opened.
func thereMustBe(c Config) error {
	if c.vfs == "" {
		if _, err := os.Stat(c.Path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", c.Path, es.ErrNotFound)
		}
	}
	return checkPath(c)
}

// Fork gives the stores of all namespaces of a file a new incarnation. It is for a file whose history may be another one than that which
// some have seen: above all for a backup that is put in the place of a file that has gone on since. What comes after it will have
// positions that were given before, to other events, and checkpoints that are kept elsewhere must not pass for those of the new history:
// they are [es.ErrCheckpoint] from then on. A copy that replaces a file that has not gone on needs no fork.
//
// The checkpoints of projections of the same file are as old as its events, and go on. Those that programs keep in documents nobody can
// tell from other data, and they stay: consumer groups of the package eventlog say [es.ErrCheckpoint], and go on after a Reset to the
// position that their Mark has.
//
// Of the configuration only Path and BusyTimeout matter. It is all or nothing, also when the power is lost. Nobody may have the file
// open: otherwise the error is [ErrBusy]. Others: [es.ErrNotFound], [ErrForeign], [ErrNewer], [ErrCorrupt], [ErrReadOnly], [ErrDiskFull],
// [ErrIO]; that of ctx.
func Fork(ctx context.Context, c Config) error {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return err
	}
	err := exclusively(ctx, c, func(c *conn) error {
		return inTransaction(c, func() error {
			if err := renewAll(c); err != nil {
				return err
			}
			return c.query(nil, "DELETE FROM es_unsynced")
		})
	})
	if err != nil {
		return fmt.Errorf("fork %s: %w", c.Path, err)
	}
	return nil
}

// Reindex makes everything in a file anew that follows from the rest: the index of the events, from the events; SQLite's own indexes of
// the toolkit's tables; the order and the counters of the outbox. It is the remedy for what [Check] finds wrong with them, and what it
// needs of the rest must be sound. When pages of what it makes anew are damaged, or were lost, the file is written anew as a whole; it
// needs room for as much again then, and tables of the program that have no INTEGER PRIMARY KEY may have other rowids afterwards.
//
// Of the configuration only Path, BusyTimeout and IndexCache matter. Nobody may have the file open: otherwise the error is [ErrBusy].
// When it fails, or the process dies, the events are as they were, the file can be opened, and Reindex can be run again. It took 2.1
// seconds for a million events on two cores (go test -run - -bench Maintenance -maintain.events 1000000).
//
// Errors: [ErrCorrupt] when what it needs is damaged, too; [es.ErrNotFound], [ErrForeign], [ErrNewer], [ErrReadOnly],
// [ErrDiskFull], [ErrIO]; that of ctx.
func Reindex(ctx context.Context, c Config) error {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return err
	}
	err := exclusively(ctx, c, func(file *conn) error { return (&reindexing{conn: file, config: c}).run() })
	if err != nil {
		return fmt.Errorf("reindex %s: %w", c.Path, err)
	}
	return nil
}
