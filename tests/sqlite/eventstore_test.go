package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/tests/oracle"
)

// opener opens handles on a file.
func opener(path string) oracle.Open {
	return func() (es.Backend, error) {
		return sqlite.Open(sqlite.Config{Path: path})
	}
}

// newFile is a new file for one run of a property.
func newFile(t *rapid.T) oracle.Open {
	dir, err := os.MkdirTemp("", "property")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return opener(filepath.Join(dir, "store.db"))
}

// TestEventStoreAgreesWithModel does what tests/memory does to the store in memory: both give the same results. In some runs there are
// more events than the tail of the index holds, so that the first ones are found by what of it is on the disk.
func TestEventStoreAgreesWithModel(t *testing.T) {
	t.Parallel()
	p := oracle.Property{New: newFile}
	if !raceDetector {
		p.Before = append(make([]int, 24), 33_000)
	}
	oracle.CheckEventStore(t, p)
}

func newStorage(t *testing.T) oracle.Open {
	t.Helper()
	return opener(newPath(t))
}

// newPath is where a file can be.
func newPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "store.db")
}

func TestEventStoreIsLinearizable(t *testing.T) {
	t.Parallel()
	oracle.CheckStreams(t, 10, newStorage)
}

func TestDecisionsAreLinearizable(t *testing.T) {
	t.Parallel()
	oracle.CheckDecisions(t, 10, newStorage)
}

// TestAnErasedEventThatIsHiddenIsStillThere appends an event again that was erased and is hidden: nobody can say any more what it was.
func TestAnErasedEventThatIsHiddenIsStillThere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, err := newStorage(t)()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := db.Events()
	placed := es.NewMessage("order-7", "Placed", []byte(`{"by":"Ann"}`))
	if _, err := store.Append(ctx, es.AppendTo("order-7", es.NoStream, placed)); err != nil {
		t.Fatal(err)
	}
	audit := es.NewMessage("audit", "Erased", nil)
	if _, err := store.Erase(ctx, es.Erasure{Stream: "order-7", Audit: audit}); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(ctx, "order-7", es.SoftDelete); err != nil {
		t.Fatal(err)
	}
	done, err := store.Append(ctx, es.AppendTo("order-7", es.NoStream, placed))
	if err != nil || done.Existing != 1 || done.Position != 1 {
		t.Errorf("to append it again gives %+v, %v; want its place", done, err)
	}
}
