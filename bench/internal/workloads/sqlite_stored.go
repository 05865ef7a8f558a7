package workloads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// fill stores events in a bare file, in large transactions.
func (f *bareFile) fill(ctx context.Context, plan storing) error {
	const perTransaction = 10_000
	// The indexes of a plain schema do not fit into the cache that it has by default, and filling is not what is measured.
	if err := run(f.conn, "PRAGMA cache_size=-500000"); err != nil {
		return err
	}
	m := newEvent()
	for i := 0; i < plan.events; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := do(f.begin); err != nil {
			return err
		}
		for end := min(i+perTransaction, plan.events); i < end; i++ {
			plan.set(m, i)
			if err := f.add(m, int64(i/plan.streams)+1, plan.began.UnixMicro()); err != nil {
				return errors.Join(err, do(f.rollback))
			}
		}
		if err := do(f.commit); err != nil {
			return err
		}
	}
	return run(f.conn, "PRAGMA cache_size=-2000")
}

// filledOurs opens a file of ours that has events.
func filledOurs(ctx context.Context, s measure.Stage, plan storing) (*ourFile, error) {
	path, err := filled(s, "ours", plan, func(path string) error {
		f, err := openOurs(path)
		if err != nil {
			return err
		}
		return errors.Join(f.fill(ctx, plan), f.db.Close())
	})
	if err != nil {
		return nil, err
	}
	return openOurs(path)
}

// filledBare opens a bare file that has events.
func filledBare(ctx context.Context, s measure.Stage, plan storing, indexes ...string) (*bareFile, error) {
	path, err := filled(s, fmt.Sprintf("bare-%d", len(indexes)), plan, func(path string) error {
		f, err := makeBare(path, indexes...)
		if err != nil {
			return err
		}
		return errors.Join(f.fill(ctx, plan), f.conn.Close())
	})
	if err != nil {
		return nil, err
	}
	return openBare(path)
}

// filled returns the path of a new file that has events. Such a file is made once in a run, and copied while nobody has it open.
func filled(s measure.Stage, kind string, plan storing, fill func(path string) error) (string, error) {
	model := filepath.Join(s.Dir, fmt.Sprintf("model-%s-%d-%d", kind, plan.events, plan.streams))
	if plan.tags != nil {
		model += "-tagged"
	}
	if _, err := os.Stat(model); errors.Is(err, os.ErrNotExist) {
		making := model + ".part"
		if err := fill(making); err != nil {
			return "", err
		}
		if err := os.Rename(making, model); err != nil {
			return "", err
		}
	}
	path, err := newPath(s, kind)
	if err != nil {
		return "", err
	}
	return path, copyFile(path, model)
}

// newPath returns a path for a new file, in a directory of its own.
func newPath(s measure.Stage, kind string) (string, error) {
	dir, err := os.MkdirTemp(s.Dir, kind+"-")
	return filepath.Join(dir, "events.db"), err
}

// discard removes a file that is closed, with its directory.
func discard(path string) error { return os.RemoveAll(filepath.Dir(path)) }

// copyFile copies a file that nobody has open, and syncs it: what is still to be written would disturb what is measured.
func copyFile(to, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Sync(), target.Close()) }()
	_, err = io.Copy(target, source)
	return err
}
