package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// system is one to install on, which writes down what is done to it.
type system struct {
	managers []string // that it has
	fails    string   // the command that does
	done     []string
}

func (s *system) installer(root bool) installer {
	did := func(what string) func() error {
		return func() error { s.done = append(s.done, what); return nil }
	}
	return installer{
		root: root, log: slog.New(slog.DiscardHandler),
		lookPath: func(program string) (string, error) {
			if !slices.Contains(s.managers, program) {
				return "", fs.ErrNotExist
			}
			return "/bin/" + program, nil
		},
		run: func(_ context.Context, program string, arguments ...string) error {
			command := strings.Join(append([]string{program}, arguments...), " ")
			s.done = append(s.done, command)
			if s.fails != "" && strings.Contains(command, s.fails) {
				return errors.New("no network")
			}
			return nil
		},
		holdBack: func(m manager) (func() error, error) {
			return did("release " + m.hold), did("hold back " + m.hold)()
		},
		lock: func(_ context.Context, program string) (func() error, error) {
			return did("unlock " + program), did("lock " + program)()
		},
	}
}

const held = "/etc/postgresql-common/createcluster.d/pgserver.conf"

func TestInstallRunsTheCommandsOfTheSystem(t *testing.T) {
	t.Parallel()
	update, install := "/bin/apt-get update", "/bin/apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=600 postgresql"
	for name, c := range map[string]struct {
		system system
		want   []string
		err    string
	}{
		"Debian": {
			system: system{managers: []string{"apt-get"}},
			want: []string{
				"lock /bin/apt-get", "hold back " + held, update, install, "release " + held, "unlock /bin/apt-get",
			},
		},
		"Debian without network": {
			system: system{managers: []string{"apt-get"}, fails: "update"},
			want:   []string{"lock /bin/apt-get", "hold back " + held, update, "release " + held, "unlock /bin/apt-get"},
			err:    "could not be: no network",
		},
		"Alpine": {
			system: system{managers: []string{"apk"}},
			want:   []string{"lock /bin/apk", "hold back ", "/bin/apk add --no-cache postgresql", "release ", "unlock /bin/apk"},
		},
		"Fedora": {
			system: system{managers: []string{"dnf"}},
			want: []string{
				"lock /bin/dnf", "hold back ", "/bin/dnf install --assumeyes postgresql-server", "release ", "unlock /bin/dnf",
			},
		},
		"unknown": {err: "no package manager that is known here; install its server: apt-get install postgresql"},
	} {
		err := c.system.installer(true).install(t.Context(), func() bool { return true })
		if !slices.Equal(c.system.done, c.want) {
			t.Errorf("%s: did\n%q, want\n%q", name, c.system.done, c.want)
		}
		if (c.err == "") != (err == nil) || c.err != "" && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		if err != nil && !errors.Is(err, ErrNotInstalled) {
			t.Errorf("%s: %v, want ErrNotInstalled", name, err)
		}
	}
}

func TestInstallIsForRoot(t *testing.T) {
	t.Parallel()
	s := system{managers: []string{"apt-get"}}
	err := s.installer(false).install(t.Context(), func() bool { return true })
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "only root") || len(s.done) > 0 {
		t.Errorf("%v, after %q; want that only root may", err, s.done)
	}
}

func TestInstallLooksAgainWhenItIsItsTurn(t *testing.T) {
	t.Parallel()
	s := system{managers: []string{"apt-get"}}
	must(t, s.installer(true).install(t.Context(), func() bool { return false }))
	if want := []string{"lock /bin/apt-get", "unlock /bin/apt-get"}; !slices.Equal(s.done, want) {
		t.Errorf("did %q, want %q", s.done, want)
	}
}

func TestHoldBackEndsWithTheInstallation(t *testing.T) {
	t.Parallel()
	m := manager{hold: filepath.Join(t.TempDir(), "new", "pgserver.conf"), line: "create_main_cluster = false\n"}
	release, err := holdBack(m)
	must(t, err)
	if text, err := os.ReadFile(m.hold); err != nil || string(text) != m.line {
		t.Errorf("holds back by %q, %v", text, err)
	}
	must(t, release())
	if _, err := os.Stat(m.hold); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the installation: %v", err)
	}
}

func TestProgramsAreInstalledOnlyWhenTheyAreMissing(t *testing.T) {
	t.Parallel()
	fifteen := Installation{Major: 15, Version: "15.18", Bin: "/fifteen"}
	for name, c := range map[string]struct {
		config   Config
		found    []Installation
		installs bool
		want     error
	}{
		"missing":                    {want: ErrNotInstalled},
		"missing, and may":           {config: Config{Install: true}, installs: true},
		"there, and may":             {config: Config{Install: true}, found: []Installation{fifteen}},
		"another version, and may":   {config: Config{Install: true, Major: 12}, found: []Installation{fifteen}, want: ErrNotInstalled},
		"a folder, missing, and may": {config: Config{Install: true, Bin: t.TempDir()}, want: ErrNotInstalled},
	} {
		installed := false
		l := locator{
			find: func(context.Context) ([]Installation, error) { return c.found, nil },
			install: func(context.Context, func() bool) error {
				installed, c.found = true, []Installation{fifteen}
				return nil
			},
		}
		i, err := l.locate(t.Context(), c.config, 0)
		if !errors.Is(err, c.want) || err == nil && i != fifteen {
			t.Errorf("%s: %+v, %v; want %v", name, i, err, c.want)
		}
		if installed != c.installs {
			t.Errorf("%s: installed is %v", name, installed)
		}
	}
}

func TestInstalledAreFoundTheNewestFirst(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	folder := func(name, version string) string {
		path := filepath.Join(root, name)
		must(t, os.Mkdir(path, 0o700))
		must(t, os.WriteFile(filepath.Join(path, "initdb"), nil, 0o700))
		must(t, os.WriteFile(filepath.Join(path, "postgres"), fmt.Appendf(nil, "#!/bin/sh\necho '%s'\n", version), 0o700))
		return path
	}
	linked := filepath.Join(root, "linked")
	must(t, os.Mkdir(linked, 0o700))
	folders := []string{
		t.TempDir(), // has nothing in it
		folder("a", "postgres (PostgreSQL) 9.6.24"),
		folder("b", "postgres (PostgreSQL) 19beta1"),
		folder("c", "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
		folder("d", "postgres (PostgreSQL) 15.20"), // is further down the list than the other 15
		folder("e", "something else"),
		linked,
	}
	must(t, os.Symlink(filepath.Join(folder("f", "postgres (PostgreSQL) 18.1"), "initdb"), filepath.Join(linked, "initdb")))
	found, err := installedIn(t.Context(), folders)
	must(t, err)
	want := []Installation{
		{Major: 19, Version: "19beta1", Bin: filepath.Join(root, "b")},
		{Major: 18, Version: "18.1", Bin: filepath.Join(root, "f")},
		{Major: 15, Version: "15.18", Bin: filepath.Join(root, "c")},
		{Major: 9, Version: "9.6.24", Bin: filepath.Join(root, "a")},
	}
	if !slices.Equal(found, want) {
		t.Errorf("found %+v\nwant  %+v", found, want)
	}
}

func TestOtherDatabaseOfAConnectionString(t *testing.T) {
	t.Parallel()
	for connection, want := range map[string]string{
		"postgres://me:secret@host:1/shop?sslmode=disable": "postgres://me:secret@host:1/new?sslmode=disable",
		"postgresql://host?dbname=shop&host=%2Ftmp":        "postgresql://host/new?host=%2Ftmp",
		"host=/tmp user=me dbname=shop":                    "host=/tmp user=me dbname=shop dbname=new",
	} {
		if got, err := otherDatabase(connection, "new"); err != nil || got != want {
			t.Errorf("%s becomes %s, %v; want %s", connection, got, err, want)
		}
	}
	if _, err := otherDatabase("postgres://me:secret@host:port/shop", "new"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v; want an error without the password", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
