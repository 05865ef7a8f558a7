package servicetest

import (
	"path/filepath"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// ForEachStore runs a test with a store of each kind, empty and its own, as the flag -store takes it.
func ForEachStore(t *testing.T, test func(t *testing.T, where string)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, "memory:")
	})
	ForEachDurableStore(t, test)
}

// ForEachDurableStore runs a test with a store of each kind that outlives the program, and that several can share.
func ForEachDurableStore(t *testing.T, test func(t *testing.T, where string)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, "sqlite:"+filepath.Join(t.TempDir(), "test.db"))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		test(t, pgserver.Database(t))
	})
}
