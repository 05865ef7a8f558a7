package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// TestOpen opens a file that is new, and then again.
func TestOpen(t *testing.T) {
	t.Parallel()
	config := sqlite.Config{Path: filepath.Join(t.TempDir(), "events.db")}
	for range 2 {
		db, err := sqlite.Open(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
