package sqlite_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// openFiles returns the files of a folder that the process has open, where the system tells.
func openFiles(t *testing.T, folder string) (open []string) {
	t.Helper()
	descriptors, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range descriptors {
		if name, err := os.Readlink(filepath.Join("/proc/self/fd", d.Name())); err == nil && strings.HasPrefix(name, folder) {
			open = append(open, name)
		}
	}
	return open
}

// TestAStoreThatIsNotOpenedLeavesNothing: whatever the reason, no goroutine and no open file is left of it. It is not parallel, because it
// looks at the goroutines of the process.
func TestAStoreThatIsNotOpenedLeavesNothing(t *testing.T) {
	folder := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	made := filepath.Join(folder, "made.db")
	db, err := sqlite.Open(sqlite.Config{Path: made})
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(whole)
	newer[63] = 200 // the user version
	schema := bytes.Clone(whole)
	clear(schema[100:4096])
	before := goleak.IgnoreCurrent()
	for name, test := range map[string]struct {
		path string
		want error
	}{
		"no folder":     {filepath.Join(folder, "nowhere", "items.db"), es.ErrInvalid},
		"a folder":      {folder, es.ErrInvalid},
		"no database":   {write("text", bytes.Repeat([]byte("text "), 1000)), sqlite.ErrForeign},
		"newer":         {write("newer", newer), sqlite.ErrNewer},
		"damaged":       {write("damaged", schema), sqlite.ErrCorrupt},
		"cut":           {write("cut", whole[:2*4096]), sqlite.ErrCorrupt},
		"a bad setting": {"", es.ErrInvalid},
	} {
		for range 3 {
			if _, err := sqlite.Open(sqlite.Config{Path: test.path}); !errors.Is(err, test.want) {
				t.Errorf("%s: %v, and not: %v", name, err, test.want)
			}
		}
	}
	if open := openFiles(t, folder); len(open) > 0 {
		t.Errorf("these files are open: %q", open)
	}
	goleak.VerifyNone(t, before)
}

// TestAClosedStoreLeavesNothing: neither does one that was used, nor one that could not be opened because others had the file.
func TestAClosedStoreLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	folder := t.TempDir()
	config := sqlite.Config{Path: filepath.Join(folder, "items.db"), BusyTimeout: 10 * time.Millisecond}
	db, err := sqlite.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(*sqlite.Tx) error {
		if _, err := sqlite.Open(config); !errors.Is(err, sqlite.ErrBusy) {
			t.Errorf("open: %v", err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := db.Backup(t.Context(), filepath.Join(folder, "copy.db")); err != nil {
		t.Error(err)
	}
	if _, err := sqlite.Check(t.Context(), config); err != nil {
		t.Error(err)
	}
	for _, err := range db.Events().Read(t.Context(), es.Query{}) {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if open := openFiles(t, folder); len(open) > 0 {
		t.Errorf("these files are open: %q", open)
	}
	goleak.VerifyNone(t, before)
}
