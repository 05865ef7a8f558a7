package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

// ledger is what appends were told, to be compared with what is there.
type ledger struct {
	mu      sync.Mutex
	places  map[uuid.UUID]es.Place // of those that were acknowledged
	failed  map[uuid.UUID]error
	largest int64
}

func newLedger() *ledger {
	return &ledger{places: map[uuid.UUID]es.Place{}, failed: map[uuid.UUID]error{}}
}

// enter takes down what became of an append.
func (l *ledger) enter(a es.Append, done es.Appended, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range a.Streams {
		for _, m := range s.Events {
			if err != nil {
				l.failed[m.ID] = err
				continue
			}
			l.places[m.ID] = done.Places[n]
			l.largest = max(l.largest, done.Places[n].Position)
			n++
		}
	}
}

// append appends, and takes down what became of it.
func (l *ledger) append(ctx context.Context, db *sqlite.DB, a es.Append) error {
	done, err := db.Events().Append(ctx, a)
	l.enter(a, done, err)
	return err
}

// audit fails the test unless a store has what was acknowledged at its place, nothing twice, streams without holes, and nothing that
// failed.
func (l *ledger) audit(t testing.TB, db *sqlite.DB) {
	t.Helper()
	seen, versions := l.read(t, db)
	for id, place := range l.places {
		if seen[id] != place {
			t.Errorf("event %s is at %+v, and was acknowledged at %+v", id, seen[id], place)
		}
	}
	for id, err := range l.failed {
		if _, there := seen[id]; there {
			t.Errorf("event %s is there, and its append has failed: %v", id, err)
		}
	}
	for stream, version := range versions {
		head, err := lastOf(db, stream)
		if err != nil || head != version {
			t.Errorf("stream %q has version %d by the index, and %d by the log: %v", stream, head, version, err)
		}
	}
}

func (*ledger) read(t testing.TB, db *sqlite.DB) (map[uuid.UUID]es.Place, map[string]int64) {
	t.Helper()
	seen, versions := map[uuid.UUID]es.Place{}, map[string]int64{}
	for m, err := range db.Events().Read(context.Background(), es.Query{}) {
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if _, twice := seen[m.ID]; twice {
			t.Errorf("event %s is there twice", m.ID)
		}
		seen[m.ID] = es.Place{Version: m.Version, Position: m.Position}
		if versions[m.Stream]++; m.Version != versions[m.Stream] {
			t.Errorf("stream %q has version %d at position %d, and not %d", m.Stream, m.Version, m.Position, versions[m.Stream])
		}
	}
	return seen, versions
}

// lastOf returns the last version of a stream, by way of the index.
func lastOf(db *sqlite.DB, stream string) (int64, error) {
	for m, err := range db.Events().Read(context.Background(), es.Query{Stream: stream, Reverse: true, Limit: 1}) {
		if err != nil {
			return 0, err
		}
		return m.Version, nil
	}
	return 0, nil
}

// large is an event with a payload of some kilobytes.
func large(stream string, kilobytes int) *es.Message {
	m := event(stream, kilobytes)
	m.Data = []byte(`"` + strings.Repeat("x", kilobytes<<10) + `"`)
	return m
}

func TestAnAppendOnAFullDiskFailsAndTheNextGoesOn(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	l := newLedger()
	for n := range 30 {
		disk.Fill(int64(n) * 2000)
		one, two := large("order-1", n), large("order-2", 3*n)
		err := l.append(t.Context(), db, es.Append{Streams: []es.StreamAppend{
			{Stream: "order-1", Events: []*es.Message{one}}, {Stream: "order-2", Events: []*es.Message{two}},
		}})
		if err != nil && !errors.Is(err, sqlite.ErrDiskFull) {
			t.Errorf("append: %v", err)
		}
		l.audit(t, db)
		disk.Heal()
		if err := l.append(t.Context(), db, es.AppendTo("order-1", es.Any, large("order-1", 1))); err != nil {
			t.Fatalf("append with room: %v", err)
		}
	}
	l.audit(t, db)
	if len(l.failed) == 0 || len(l.places) < 40 {
		t.Errorf("%d events have failed, and %d have not", len(l.failed), len(l.places))
	}
	must(t, db.Close())
	l.audit(t, openStore(t, onDisk(disk)))
}

// Many share a transaction, and each has the outcome that it was told, although SQLite has undone the transaction in the middle.
func TestABatchOnAFullDiskHasTheOutcomesThatItTells(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	l := newLedger()
	for n := range 20 {
		disk.Fill(int64(n) * 5000)
		var batch []es.Append
		for i := range 20 {
			stream := fmt.Sprintf("order-%d", i%7)
			batch = append(batch, es.AppendTo(stream, es.Any, large(stream, (i*5)%13), large(stream, i%3)))
		}
		for i, o := range db.Events().AppendEach(t.Context(), batch) {
			if o.Err != nil && !errors.Is(o.Err, sqlite.ErrDiskFull) {
				t.Errorf("append %d: %v", i, o.Err)
			}
			l.enter(batch[i], o.Appended, o.Err)
		}
		l.audit(t, db)
		disk.Heal()
		if err := l.append(t.Context(), db, es.AppendTo("order-1", es.Any, event("order-1", n))); err != nil {
			t.Fatalf("append with room: %v", err)
		}
	}
	l.audit(t, db)
	if len(l.failed) < 40 || len(l.places) < 40 {
		t.Errorf("%d events have failed, and %d have not", len(l.failed), len(l.places))
	}
}

// The same, with a transaction so large that its pages do not all stay in memory, and with everybody at work.
func TestManyAppendOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	l := newLedger()
	for n := range 6 {
		disk.Fill(int64(n) * 800_000)
		var wait sync.WaitGroup
		for w := range 8 {
			wait.Go(func() {
				stream := fmt.Sprintf("order-%d", w)
				for i := range 4 {
					err := l.append(t.Context(), db, es.AppendTo(stream, es.Any, large(stream, 200+i), large(stream, w), large(stream, 90)))
					if err != nil && !errors.Is(err, sqlite.ErrDiskFull) {
						t.Errorf("append: %v", err)
					}
				}
			})
		}
		wait.Wait()
		l.audit(t, db)
		disk.Heal()
		if err := l.append(t.Context(), db, es.AppendTo("order-1", es.Any, event("order-1", n))); err != nil {
			t.Fatalf("append with room: %v", err)
		}
	}
	l.audit(t, db)
	if len(l.failed) == 0 || len(l.places) < 100 {
		t.Errorf("%d events have failed, and %d have not", len(l.failed), len(l.places))
	}
}

func TestAnUpdateOnAFullDiskFails(t *testing.T) {
	t.Parallel()
	for _, passesOver := range []bool{false, true} {
		disk, db := newDiskStore(t)
		update(t, db, "CREATE TABLE mine (n)")
		appendTo(t, db, "order-1", 1)
		disk.Fill(20_000)
		err := db.Update(t.Context(), func(tx *sqlite.Tx) error {
			_, err := tx.Append(es.AppendTo("order-1", es.Any, event("order-1", 2)))
			must(t, err)
			var failed error
			for n := 0; failed == nil && n < 10_000; n++ {
				failed = tx.Exec("INSERT INTO mine VALUES (?)", strings.Repeat("x", 4000))
			}
			wantError(t, "own statement", failed, sqlite.ErrDiskFull)
			wantError(t, "one after it", tx.Exec("INSERT INTO mine VALUES (1)"), sqlite.ErrDiskFull)
			_, err = tx.Append(es.AppendTo("order-1", es.Any, event("order-1", 3)))
			wantError(t, "an append after it", err, sqlite.ErrDiskFull)
			if passesOver {
				return nil
			}
			return failed
		})
		wantError(t, "update", err, sqlite.ErrDiskFull)
		wantRows(t, db, 1, "SELECT count(*) FROM mine", "0")
		wantHistory(t, db, "order-1 1 Event1")
		disk.Heal()
		update(t, db, "INSERT INTO mine VALUES (1)")
		appendTo(t, db, "order-1", 2)
		wantRows(t, db, 1, "SELECT count(*) FROM mine", "1")
		wantHistory(t, db, "order-1 1 Event1", "order-1 2 Event2")
	}
}

// A role that has done half of what it was to do leaves nothing of it, also when the error is passed over.
func TestAnUpdateThatPassesOverAnErrorCommitsNothing(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	appendTo(t, db, "order-1", 1)
	disk.Fill(1_000_000)
	err := db.Update(t.Context(), func(tx *sqlite.Tx) error {
		a := es.AppendTo("order-1", es.Any, event("order-1", 2))
		for range 12 { // more than a connection keeps in memory
			a.Streams[0].Events = append(a.Streams[0].Events, large("order-1", 900))
		}
		_, err := tx.Append(a)
		wantError(t, "append", err, sqlite.ErrDiskFull)
		return nil
	})
	wantError(t, "update", err, sqlite.ErrDiskFull)
	disk.Heal()
	wantHistory(t, db, "order-1 1 Event1")
	appendTo(t, db, "order-1", 2)
	wantHistory(t, db, "order-1 1 Event1", "order-1 2 Event2")
}

// While the log cannot be brought into the file nobody notices, but that the log grows.
func TestACheckpointOnAFullDiskIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, fault := range []powerloss.Fault{
		{Op: powerloss.Write, File: diskFile, Code: 13}, // SQLITE_FULL
		{Op: powerloss.Write, File: diskFile},
	} {
		disk := powerloss.NewDisk(t, powerloss.Config{})
		config := onDisk(disk)
		config.CheckpointPages = 40
		db := openStore(t, config)
		l := newLedger()
		fill := func(n int) {
			for range n {
				must(t, l.append(t.Context(), db, es.AppendTo("order-1", es.Any, large("order-1", 16))))
			}
		}
		disk.Inject(fault)
		fill(100)
		if size := len(disk.File(diskFile + "-wal")); size < 1_000_000 {
			t.Errorf("the log has %d bytes", size)
		}
		l.audit(t, db)
		disk.Heal()
		fill(10)
		before := len(disk.File(diskFile + "-wal"))
		fill(100)
		if after := len(disk.File(diskFile + "-wal")); after != before {
			t.Errorf("the log has grown from %d bytes to %d", before, after)
		}
		l.audit(t, db)
		must(t, db.Close())
		l.audit(t, openStore(t, onDisk(disk)))
	}
}

// After a sync that has failed nobody knows what is on the disk, and nothing is built on it.
func TestAFailedSyncBreaksTheStore(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	l := newLedger()
	one := func(db *sqlite.DB) error {
		return l.append(t.Context(), db, es.AppendTo("order-1", es.Any, event("order-1", 1)))
	}
	must(t, one(db))
	must(t, db.Snapshots().Save(t.Context(), snapshot(1))) // is not synced
	disk.Inject(powerloss.Fault{Op: powerloss.Sync, File: "-wal", Times: 1})
	unknown := es.AppendTo("order-1", es.Any, event("order-1", 2))
	_, err := db.Events().Append(t.Context(), unknown)
	wantError(t, "append", err, sqlite.ErrBroken)
	for what, err := range map[string]error{
		"append": one(db), "update": tryUpdate(t, db, "CREATE TABLE mine (n)"), "save": db.Snapshots().Save(t.Context(), snapshot(2)),
	} {
		wantError(t, what, err, sqlite.ErrBroken)
	}
	history(t, db) // can be read
	killed := disk.Kill()
	must(t, db.Close())
	for name, disk := range map[string]*powerloss.Disk{"closed": disk, "killed": killed} {
		again := openStore(t, onDisk(disk))
		l.audit(t, again)
		done, err := again.Events().Append(t.Context(), unknown) // and this is how its outcome is found out
		if err != nil || done.Places[0].Version != 2 {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
		must(t, one(again))
		afterwards := openStore(t, onDisk(disk.CutBy(disk.Moment(), nothingUnsynced)))
		l.audit(t, afterwards)
		must(t, errors.Join(afterwards.Close(), again.Close()))
		delete(l.places, lastID(l))
	}
}

// nothingUnsynced is the fate of what was not synced in the worst case.
func nothingUnsynced(powerloss.Change) powerloss.Fate { return powerloss.Dropped() }

// lastID returns the ID of the event that was acknowledged last.
func lastID(l *ledger) (last uuid.UUID) {
	for id, place := range l.places {
		if place.Position == l.largest {
			last = id
		}
	}
	return last
}

func snapshot(version int64) es.Snapshot {
	return es.Snapshot{
		SnapshotKey: es.SnapshotKey{Stream: "order-1", Name: "order", Schema: 1}, Version: version,
		Time: es.Timestamp(time.Now()), ContentType: es.ContentTypeJSON, Data: []byte("{}"),
	}
}

// A checkpoint syncs the log before it brings it into the file. What was committed without a sync may be lost when that fails, and all
// that is committed behind it, although its syncs succeed.
func TestAFailedSyncInACheckpointBreaksTheStore(t *testing.T) {
	t.Parallel()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	config := onDisk(disk)
	config.CheckpointPages = 1
	db := openStore(t, config)
	l := newLedger()
	one := func() error { return l.append(t.Context(), db, es.AppendTo("order-1", es.Any, event("order-1", 1))) }
	must(t, one())
	disk.Inject(powerloss.Fault{Op: powerloss.Write, File: diskFile}) // so that the log goes on, and does not begin anew
	must(t, one())
	disk.Inject(powerloss.Fault{Op: powerloss.Sync, File: "-wal", Times: 1})
	if err := db.Snapshots().Save(t.Context(), snapshot(1)); err != nil { // the checkpoint after the append may come before it
		wantError(t, "save", err, sqlite.ErrBroken)
	}
	if err := one(); err != nil {
		wantError(t, "append", err, sqlite.ErrBroken)
		l.failed = map[uuid.UUID]error{}
	}
	after := openStore(t, onDisk(disk.CutBy(disk.Moment(), nothingUnsynced)))
	l.audit(t, after)
	disk.Heal()
}

func TestAFailedReadIsAnErrorAndTheNextGoesOn(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	l := newLedger()
	for range 100 {
		must(t, l.append(t.Context(), db, es.AppendTo("order-1", es.Any, large("order-1", 40))))
	}
	must(t, db.Close())
	failed := 0
	for after := range 80 {
		db := openStore(t, onDisk(disk))
		disk.Inject(powerloss.Fault{Op: powerloss.Read, After: after, Times: 1})
		n := 0
		for _, err := range db.Events().Read(t.Context(), es.Query{Stream: "order-1"}) {
			if err != nil {
				wantError(t, "read", err, sqlite.ErrIO)
				failed++
				break
			}
			n++
		}
		err := l.append(t.Context(), db, es.AppendTo("order-2", es.Any, event("order-2", 1)))
		if err != nil {
			wantError(t, "append", err, sqlite.ErrIO)
			failed++
		}
		disk.Heal()
		l.audit(t, db)
		must(t, l.append(t.Context(), db, es.AppendTo("order-2", es.Any, event("order-2", 1))))
		must(t, db.Close())
	}
	if failed < 20 {
		t.Errorf("%d reads have failed", failed)
	}
}
