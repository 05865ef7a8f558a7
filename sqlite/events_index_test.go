package sqlite_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// TestIndexIsBroughtIntoTheFile appends until the index has runs that were merged, and finds every event by them when the file is opened
// again.
func TestIndexIsBroughtIntoTheFile(t *testing.T) {
	t.Parallel()
	config := sqlite.InSmallRuns(sqlite.Config{Path: filepath.Join(t.TempDir(), "store.db")}, 5)
	db, err := sqlite.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	appended := 0
	for deadline := time.Now().Add(30 * time.Second); mergedRuns(t, db) == 0; {
		if time.Now().After(deadline) {
			t.Fatalf("after %d events nothing was merged", appended)
		}
		stream := fmt.Sprintf("order-%d", appended%7)
		_, err := db.Events().Append(t.Context(), es.AppendTo(stream, es.Any, es.NewMessage(stream, "Placed", []byte(`{}`))))
		if err != nil {
			t.Fatal(err)
		}
		appended++
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = sqlite.Open(config); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found := 0
	for i := range 7 {
		version := int64(0)
		for m, err := range db.Events().Read(t.Context(), es.Query{Stream: fmt.Sprintf("order-%d", i)}) {
			if err != nil {
				t.Fatal(err)
			}
			if version++; m.Version != version {
				t.Fatalf("stream order-%d has version %d where %d should be", i, m.Version, version)
			}
			found++
		}
	}
	if found != appended {
		t.Errorf("the streams have %d events, and %d were appended", found, appended)
	}
}

// mergedRuns returns how many runs of the index were merged of others.
func mergedRuns(t *testing.T, db *sqlite.DB) (n int64) {
	t.Helper()
	err := db.View(t.Context(), func(v *sqlite.View) error {
		return v.Query(func(r sqlite.Row) error {
			n = r.Int64(0)
			return nil
		}, "SELECT count(*) FROM es_runs_1 WHERE level > 0")
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
