package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Installation is a version of PostgreSQL that is installed.
type Installation struct {
	// Major is the major version, such as 15.
	Major int
	// Version is the whole of it, such as "15.18" or "19beta1".
	Version string
	// Bin is the folder of the programs.
	Bin string
}

// Installed returns what is installed, the newest first, each major version once. It looks into the folder that ES_POSTGRES_BIN
// names, and, when that is not set, along PATH, where the packages of Linux distributions, BSDs, Homebrew and Postgres.app put the
// programs, where a build from source does, and where pg_config says. The error is that of ctx.
func Installed(ctx context.Context) ([]Installation, error) {
	return installedIn(ctx, places(ctx))
}

// places are the folders to look into. Where two have the same major version, the first counts.
func places(ctx context.Context) []string {
	if bin := os.Getenv("ES_POSTGRES_BIN"); bin != "" {
		return []string{bin}
	}
	folders := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                   // the PostgreSQL project's packages for Red Hat
		"/usr/libexec/postgresql*",                           // Alpine
		"/usr/lib/postgresql*/bin",                           // SUSE
		"/usr/lib64/postgresql*/bin",                         // Gentoo
		"/usr/local/pgsql/bin",                               // a build from source
		"/usr/local/bin",                                     // BSDs
		"/opt/homebrew/opt/postgresql*/bin",                  // Homebrew on Apple silicon
		"/usr/local/opt/postgresql*/bin",                     // Homebrew on Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",     // Homebrew on Linux
		"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
		"/opt/local/lib/postgresql*/bin",                     // MacPorts
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			panic("pgserver: pattern " + pattern + ": " + err.Error())
		}
		folders = append(folders, found...)
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	return folders
}

// installedIn returns what is in these folders.
func installedIn(ctx context.Context, folders []string) ([]Installation, error) {
	var found []Installation
	for _, folder := range folders {
		i, err := inspect(ctx, folder)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		known := func(o Installation) bool { return o.Major == i.Major }
		if err != nil || slices.ContainsFunc(found, known) {
			continue // most folders of PATH have no PostgreSQL in them
		}
		found = append(found, i)
	}
	slices.SortFunc(found, func(a, b Installation) int { return cmp.Compare(b.Major, a.Major) })
	return found, nil
}

// versionLine is such as "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) ((\d+)\S*)`)

// inspect looks at the programs in a folder. Some systems put links to single programs elsewhere, so it follows that of initdb.
func inspect(ctx context.Context, folder string) (Installation, error) {
	initdb, err := filepath.EvalSymlinks(filepath.Join(folder, "initdb"))
	if err != nil {
		return Installation{}, fmt.Errorf("pgserver: %w in %s: %w", ErrNotInstalled, folder, err)
	}
	bin, err := filepath.Abs(filepath.Dir(initdb))
	if err != nil {
		return Installation{}, fmt.Errorf("pgserver: %w", err)
	}
	postgres := filepath.Join(bin, "postgres")
	out, err := exec.CommandContext(ctx, postgres, "--version").Output() //nolint:gosec // the user's PATH names it, as for any program
	if err != nil {
		return Installation{}, fmt.Errorf("pgserver: %w in %s: %w", ErrNotInstalled, bin, err)
	}
	match := versionLine.FindStringSubmatch(string(out))
	if match == nil {
		return Installation{}, fmt.Errorf("pgserver: %w in %s: the program postgres there is another", ErrNotInstalled, bin)
	}
	major, err := strconv.Atoi(match[2])
	if err != nil {
		return Installation{}, fmt.Errorf("pgserver: version of %s: %w", bin, err)
	}
	return Installation{Major: major, Version: match[1], Bin: bin}, nil
}

// locator finds the programs to run, and installs them if it may.
type locator struct {
	find    func(ctx context.Context) ([]Installation, error)
	install func(ctx context.Context, stillMissing func() bool) error
}

// locate returns the installation to run c with; major is the version that made the folder, or 0.
func (l locator) locate(ctx context.Context, c Config, major int) (Installation, error) {
	if c.Bin != "" {
		i, err := inspect(ctx, c.Bin)
		if err == nil && c.Major != 0 && c.Major != i.Major {
			err = fmt.Errorf("pgserver: in %s is PostgreSQL %s, and %d is asked for", i.Bin, i.Version, c.Major)
		}
		return i, err
	}
	found, err := l.find(ctx)
	if err != nil {
		return Installation{}, err
	}
	if len(found) == 0 && c.Install {
		missing := func() bool {
			found, err := l.find(ctx)
			return err == nil && len(found) == 0
		}
		if err := l.install(ctx, missing); err != nil {
			return Installation{}, err
		}
		if found, err = l.find(ctx); err != nil {
			return Installation{}, err
		}
	}
	return choose(found, cmp.Or(c.Major, major))
}

// choose takes the newest of a major version, or of all when it is 0.
func choose(found []Installation, major int) (Installation, error) {
	if len(found) == 0 {
		return Installation{}, fmt.Errorf("pgserver: %w; %s, or name the folder of its programs in ES_POSTGRES_BIN",
			ErrNotInstalled, advice)
	}
	var versions []string
	for _, i := range found {
		if major == 0 || i.Major == major {
			return i, nil
		}
		versions = append(versions, i.Version)
	}
	return Installation{}, fmt.Errorf("pgserver: %w in version %d, only %s",
		ErrNotInstalled, major, strings.Join(versions, ", "))
}

const advice = "install its server: apt-get install postgresql (Debian, Ubuntu), apk add postgresql (Alpine), " +
	"dnf install postgresql-server (Fedora), brew install postgresql (macOS)"

// errNoRoot is why nothing was installed.
var errNoRoot = errors.New("only root may install it")
