package sqlite_test

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// wantSound fails the test unless Check finds nothing wrong with a file.
func wantSound(t testing.TB, c sqlite.Config) *sqlite.Report {
	t.Helper()
	report, err := sqlite.Check(t.Context(), c)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	for _, p := range report.Problems {
		t.Errorf("check: %v", p)
	}
	if !report.OK() || report.Err() != nil {
		t.Fatalf("check has found %d problems, and %d more: %v", len(report.Problems), report.More, report.Err())
	}
	return report
}

func TestASoundFileHasNoProblems(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	db := openStore(t, sqlite.Config{Path: path})
	for n := range 100 {
		appendTo(t, db, "order-1", n)
	}
	report := wantSound(t, sqlite.Config{Path: path})
	t.Logf("%+v", report)
}
