package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Backup writes a copy of the whole file, all its namespaces and a program's own tables, as they are at one moment. Who writes goes on
// meanwhile, and is not waited for; but the write-ahead log goes on growing until the copy is done, which took 2.6 seconds for a gigabyte
// (go test -run - -bench Maintenance).
//
// The path must be that of a file that is not there, in a folder that is. The copy has it when it is complete and synced: half a copy is
// never there under that name. One that a process has left behind when it died ends in .partial and may be removed. The copy is an
// ordinary store that [Check] finds nothing wrong with. It keeps its incarnation, so that it may take the place of the file when that is
// lost at the moment of the copy; when the file has gone on since, see [Fork].
//
// Never copy a file that is open by other means: see the package's comment.
//
// Errors: [es.ErrInvalid] when the path is taken, or its folder is not there; [ErrDiskFull], [ErrReadOnly] and [ErrIO], of the
// file or the copy; [es.ErrClosed]; that of ctx.
func (db *DB) Backup(ctx context.Context, path string) error {
	if err := db.handle.begin(ctx); err != nil {
		return err
	}
	defer db.handle.leave()
	if err := db.backup(ctx, path); err != nil {
		return fmt.Errorf("back up %s to %s: %w", db.config.Path, path, err)
	}
	return nil
}

func (db *DB) backup(ctx context.Context, path string) error {
	if err := mustBeFree(path); err != nil {
		return err
	}
	partial, err := db.partial(path)
	if err != nil {
		return err
	}
	if err := db.copyTo(ctx, partial); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	if err := syncFile(partial); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	if err := giveName(partial, path); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return syncFolder(filepath.Dir(path))
}

// mustBeFree tells whether a copy may have a path.
func mustBeFree(path string) error {
	if path == "" {
		return es.Invalidf("backup path", "is empty; it names a file that is not there")
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return es.Invalidf("backup path", "is in %s, which is no folder; make the folder first", filepath.Dir(path))
	}
	switch _, err := os.Lstat(path); {
	case err == nil:
		return taken()
	case !errors.Is(err, fs.ErrNotExist):
		return fileError(err)
	}
	return nil
}

func taken() error {
	return es.Invalidf("backup path", "is taken; choose another, or remove what is there")
}

// partial makes an empty file for a copy that is not complete, which may be read by who may read the original.
func (db *DB) partial(path string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.partial")
	if err != nil {
		return "", fileError(err)
	}
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(db.config.Path); err == nil {
		mode = info.Mode().Perm()
	}
	err = errors.Join(f.Chmod(mode), f.Close())
	if err != nil {
		return "", errors.Join(fileError(err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// copyTo copies the file as it is at one moment.
func (db *DB) copyTo(ctx context.Context, path string) (err error) {
	to, err := openConnAt(Config{BusyTimeout: db.config.BusyTimeout}, path, lite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() {
		if end := to.closeConn(); end != nil {
			err = errors.Join(err, end)
		}
	}()
	// Nobody needs half of it, and it is synced at the end.
	for _, setting := range []string{"PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF"} {
		if err := to.pragma(setting); err != nil {
			return err
		}
	}
	unsynced, err := db.copyPages(ctx, to)
	if err != nil || unsynced == 0 {
		return err
	}
	// Nothing of the copy is still on its way to the disk when it gets its name.
	if err := to.query(nil, "DELETE FROM es_unsynced"); err != nil {
		return err
	}
	_, err = to.checkpointed("PRAGMA wal_checkpoint(TRUNCATE)") // or it would remain in a log beside the copy
	return err
}

// pagesPerStep is how many pages are copied between two looks at the context: 4 MiB.
const pagesPerStep = 1024

// copyPages copies all pages, in one snapshot: without, SQLite would begin anew whenever somebody writes. It returns how many handles do
// not sync.
func (db *DB) copyPages(ctx context.Context, to *conn) (unsynced int64, err error) {
	from, err := openReader(db.config)
	if err != nil {
		return 0, err
	}
	defer func() {
		if end := from.closeConn(); end != nil {
			err = errors.Join(err, end)
		}
	}()
	if err := from.query(nil, "BEGIN"); err != nil {
		return 0, err
	}
	if unsynced, err = from.number("SELECT count(*) FROM es_unsynced"); err != nil { // with the first read the snapshot begins
		return 0, err
	}
	pages, err := lite.NewBackup(to.Conn, "main", from.Conn, "main")
	if err != nil {
		return 0, fault(err)
	}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return 0, errors.Join(err, pages.Close())
		}
		if more, err = pages.Step(pagesPerStep); err != nil {
			return 0, errors.Join(fault(err), pages.Close())
		}
		runtime.Gosched()
	}
	return unsynced, fault(pages.Close())
}

// syncFile syncs a file that no connection has open.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fileError(err)
	}
	return fileError(errors.Join(f.Sync(), f.Close()))
}

// giveName gives a file its name, unless another has it.
func giveName(partial, path string) error {
	err := os.Link(partial, path)
	switch {
	case err == nil:
		return fileError(os.Remove(partial))
	case errors.Is(err, fs.ErrExist):
		return taken()
	}
	if err := mustBeFree(path); err != nil { // the file system has no links
		return err
	}
	return fileError(os.Rename(partial, path))
}

// syncFolder makes the names in a folder safe, where the system can.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fileError(err)
	}
	err = f.Sync()
	if runtime.GOOS == "windows" || errors.Is(err, errors.ErrUnsupported) {
		err = nil // it has no such thing
	}
	return fileError(errors.Join(err, f.Close()))
}
