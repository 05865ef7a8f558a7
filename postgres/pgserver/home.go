package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A home is where a server lives. All that is on the disk is in two folders, which are one when nothing is kept.
type home struct {
	dir       string // has the data and the log
	temporary string // has the socket; short, for its name may have some 100 bytes only
	// lock is the open folder dir, locked for as long as the program runs. Whoever finds it locked is told so at once.
	lock *os.File
	// log is the log of the server, locked too. The server and the guard have inherited it, so the lock goes on when the program was
	// killed, and ends when the last process that may write to the data has ended. Whoever finds it locked waits.
	log *os.File
}

func (h *home) data() string       { return filepath.Join(h.dir, "data") }
func (h *home) unfinished() string { return filepath.Join(h.dir, "data.unfinished") }

// patience is how long a program that was killed may take to end.
const patience = 30 * time.Second

// open opens the home of a server whose temporary folder is there, in a folder that is kept, or in the temporary one.
func (h *home) open(ctx context.Context, dir string, a account) (err error) {
	h.dir = h.temporary
	if dir != "" {
		if h.dir, err = keptFolder(dir, a); err != nil {
			return err
		}
	}
	if h.lock, err = os.Open(h.dir); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	locked, err := lockNow(h.lock)
	if err != nil {
		return err
	}
	if !locked {
		return fmt.Errorf("pgserver: %s: %w", h.dir, ErrInUse)
	}
	logFile := filepath.Join(h.dir, "server.log")
	if h.log, err = os.OpenFile(logFile, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	if err := a.give(logFile); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the server of a program that has ended still runs"))
	defer cancel()
	return lockInTurn(ctx, h.log)
}

// temporaryName is the name of a new folder that the account can make.
func temporaryName(a account) (string, error) {
	const longest = 65 // of the folder that it is in: 103 bytes on macOS without /pgserver-0123456789/.s.PGSQL.5432 and some
	var problems error
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if !filepath.IsAbs(parent) || len(parent) > longest {
			problems = errors.Join(problems, fmt.Errorf("pgserver: %s is relative, or too long a name for the folder of a socket", parent))
			continue
		}
		if err := a.mayFill(parent); err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		return filepath.Join(parent, "pgserver-"+strings.ToLower(rand.Text()[:10])), nil
	}
	return "", problems
}

// keptFolder makes the folder, unless it is there, and checks that it is one of ours.
func keptFolder(dir string, a account) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("pgserver: %w", err)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", fmt.Errorf("pgserver: %w", err)
	}
	if err := a.mayEnter(parent); err != nil {
		return "", err
	}
	dir = filepath.Join(parent, filepath.Base(dir))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("pgserver: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("pgserver: %w", err)
	}
	for _, entry := range entries {
		switch entry.Name() {
		case "data", "data.unfinished", "server.log":
		default:
			return "", fmt.Errorf("pgserver: %s has %s in it, so it is not the folder of a private server; name a new one", dir, entry.Name())
		}
	}
	if len(entries) == 0 {
		if err := a.give(dir); err != nil {
			return "", err
		}
	}
	return dir, a.mayEnter(dir)
}

// major is the major version of PostgreSQL that made the data, or 0 when there is none yet.
func (h *home) major() (int, error) {
	text, err := os.ReadFile(filepath.Join(h.data(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(h.data()); err == nil {
			return 0, fmt.Errorf("pgserver: %s is not the data of a server: it has no PG_VERSION", h.data())
		}
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("pgserver: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("pgserver: version of %s: %w", h.data(), err)
	}
	return major, nil
}

// finish gives data that is whole its name, and has that on the disk.
func (h *home) finish() error {
	if err := os.Rename(h.unfinished(), h.data()); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	if err := h.lock.Sync(); err != nil {
		return fmt.Errorf("pgserver: sync %s: %w", h.dir, err)
	}
	return nil
}

// close closes what is open. The guard has removed the temporary folder, unless it was killed.
func (h *home) close() error {
	var err error
	if h.temporary != "" {
		err = os.RemoveAll(h.temporary)
	}
	if h.log != nil {
		err = errors.Join(err, h.log.Close())
	}
	if h.lock != nil {
		err = errors.Join(err, h.lock.Close())
	}
	return err
}
