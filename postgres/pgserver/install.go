package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A manager is a package manager: the commands that install the server of PostgreSQL.
type manager struct {
	program  string
	commands [][]string
	// hold is a file with the line that keeps the package from making a cluster of the system's own, and starting it. It is there
	// during the installation only.
	hold, line string
}

// managers are those that are known, in the order in which they are looked for.
func managers() []manager {
	return []manager{
		{
			program: "apt-get",
			commands: [][]string{
				{"update"},
				{"install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600", "postgresql"},
			},
			// See pg_createcluster(1), from which the package postgresql-common reads it.
			hold: "/etc/postgresql-common/createcluster.d/pgserver.conf",
			line: "create_main_cluster = false\n",
		},
		// These two neither make a cluster nor start a server.
		{program: "apk", commands: [][]string{{"add", "--no-cache", "postgresql"}}},
		{program: "dnf", commands: [][]string{{"install", "--assumeyes", "postgresql-server"}}},
	}
}

// installer installs PostgreSQL. The functions are what it takes of the system.
type installer struct {
	root     bool
	log      *slog.Logger
	lookPath func(program string) (string, error)
	run      func(ctx context.Context, program string, arguments ...string) error
	holdBack func(m manager) (release func() error, err error)
	lock     func(ctx context.Context, program string) (unlock func() error, err error)
}

func newInstaller(log *slog.Logger) installer {
	return installer{
		root: os.Geteuid() == 0, log: log,
		lookPath: exec.LookPath, run: runQuietly, holdBack: holdBack, lock: lockProgram,
	}
}

// install installs, unless another process has done so by the time it is our turn.
func (i installer) install(ctx context.Context, stillMissing func() bool) (err error) {
	if !i.root {
		return fmt.Errorf("pgserver: %w, and %w; %s", ErrNotInstalled, errNoRoot, advice)
	}
	for _, m := range managers() {
		path, err := i.lookPath(m.program)
		if err != nil {
			continue // not this one
		}
		return i.installWith(ctx, m, path, stillMissing)
	}
	return fmt.Errorf("pgserver: %w, and no package manager that is known here; %s", ErrNotInstalled, advice)
}

func (i installer) installWith(ctx context.Context, m manager, path string, stillMissing func() bool) (err error) {
	// The test binaries of a module run at the same time, and package managers give up when they are not alone.
	unlock, err := i.lock(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if !stillMissing() {
		return nil
	}
	release, err := i.holdBack(m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	i.log.InfoContext(ctx, "installing PostgreSQL", slog.String("by", path))
	start := time.Now()
	for _, arguments := range m.commands {
		if err := i.run(ctx, path, arguments...); err != nil {
			return fmt.Errorf("pgserver: %w, and could not be: %w", ErrNotInstalled, err)
		}
	}
	i.log.InfoContext(ctx, "installed PostgreSQL", slog.Duration("took", time.Since(start)))
	return nil
}

// runQuietly runs a program that asks nothing; what it prints is in the error.
func runQuietly(ctx context.Context, program string, arguments ...string) error {
	command := exec.CommandContext(ctx, program, arguments...) //nolint:gosec // one of the managers
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	// A package manager that is killed half way leaves the system in need of repair, so it is asked to end, and gets time for it.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = time.Minute
	out, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(arguments, " "), err, tail(out))
	}
	return nil
}

// tail is the end of what a program has printed, which is where it says why it failed.
func tail(text []byte) []byte {
	const most = 4 << 10
	if text = bytes.TrimSpace(text); len(text) <= most {
		return text
	}
	text = text[len(text)-most:]
	_, rest, _ := bytes.Cut(text, []byte("\n"))
	return rest
}

// holdBack keeps a package from making a cluster, until release.
func holdBack(m manager) (release func() error, err error) {
	if m.hold == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(filepath.Dir(m.hold), 0o755); err != nil { //nolint:gosec // as the package itself would
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	if err := os.WriteFile(m.hold, []byte(m.line), 0o644); err != nil { //nolint:gosec // the account postgres reads it
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	return func() error {
		if err := os.Remove(m.hold); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("pgserver: %w; as long as it is there, packages of PostgreSQL make no cluster", err)
		}
		return nil
	}, nil
}

// lockProgram lets one process after the other use a package manager. It locks the file of the program: that is there, and takes
// no place that others could write to.
func lockProgram(ctx context.Context, program string) (unlock func() error, err error) {
	file, err := os.Open(program)
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	if err := lockInTurn(ctx, file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}
