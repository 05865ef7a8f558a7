package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// checkPath tells whether there may be an event store at the path, as far as the system can tell without opening anything. Opening and
// closing the file would take away the locks of others in the process that have it open.
func checkPath(c Config) error {
	if c.vfs != "" {
		return nil
	}
	on := c.Path
	switch info, err := os.Stat(c.Path); {
	case errors.Is(err, fs.ErrNotExist):
		on = filepath.Dir(c.Path)
		if folder, err := os.Stat(on); err != nil || !folder.IsDir() {
			return es.Invalidf("path", "is in %s, which is no folder; make the folder first", on)
		}
	case err != nil:
		return fileError(err)
	case info.IsDir():
		return es.Invalidf("path", "is a folder; it takes the name of a file in it, such as items.db")
	case !info.Mode().IsRegular():
		return es.Invalidf("path", "is no ordinary file (%v)", info.Mode())
	case info.Size() > 0 && info.Size() < leastPage && !hasJournal(c.Path):
		return fmt.Errorf("%w: it has %d bytes, and is no SQLite file; choose another path", ErrForeign, info.Size())
	}
	if name, known := c.networkOf(on); known {
		return fmt.Errorf("%w (%s), whose locks and shared memory are not reliable; put it on a disk of this machine, or use a database "+
			"server", ErrNetwork, name)
	}
	return nil
}

// leastPage is the size of the smallest page of an SQLite file. A smaller file SQLite takes for an empty one, and writes over it.
const leastPage = 512

// hasJournal tells whether somebody has not come to an end with the file, which is as long as the journal says then.
func hasJournal(path string) bool {
	_, err := os.Stat(path + "-journal")
	return err == nil
}

// fileError makes an error of the system about a file one of ours.
func fileError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return fmt.Errorf("%w: %w", ErrIO, err)
}

// peek looks whether the file is one that must not be touched, without touching it: as a file that nobody changes, so that SQLite takes
// no locks and leaves its logs alone. What it cannot tell that way is found out when the file is opened in earnest: others may be writing
// to it at the moment, or there is a journal of a power failure while it was made, without which it is no database.
func peek(c Config) error {
	err := look(c, fileURI(c, url.Values{"mode": {"ro"}, "immutable": {"1"}}), lite.OpenReadOnly|lite.OpenURI)
	switch {
	case errors.Is(err, ErrForeign) && lite.ErrCode(err) == lite.ResultNotADB:
		err = look(c, fileURI(c, url.Values{}), lite.OpenReadWrite|lite.OpenURI)
	case !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer):
		return nil
	}
	return err
}

// look opens a file and identifies it.
func look(c Config, uri string, flags lite.OpenFlags) error {
	looking, err := openConnAt(c, uri, flags)
	if err != nil {
		return err
	}
	_, err = identify(looking)
	if end := looking.closeConn(); err == nil {
		err = end
	}
	return err
}

// fileURI is the file as SQLite takes it with parameters; see https://www.sqlite.org/uri.html.
func fileURI(c Config, parameters url.Values) string {
	if c.vfs != "" {
		parameters.Set("vfs", c.vfs)
		return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: c.Path}).EscapedPath(), RawQuery: parameters.Encode()}).String()
	}
	path := filepath.ToSlash(c.Path)
	if absolute, err := filepath.Abs(c.Path); err == nil {
		path = filepath.ToSlash(absolute)
	}
	if path[0] != '/' { // a drive
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: parameters.Encode()}).String()
}
