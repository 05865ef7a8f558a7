package sqlite_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

// unsynced is how to open the file of a disk without syncs, after the system was started under a name.
func unsynced(disk *powerloss.Disk, boot string) sqlite.Config {
	c := sqlite.SinceBoot(worldOnDisk(disk), boot)
	c.Synchronous = sqlite.Normal
	return c
}

// projectNext appends an event and moves a projection to it.
func projectNext(t testing.TB, db *sqlite.DB) es.Checkpoint {
	t.Helper()
	before, err := db.ReadModels().Progress(t.Context(), "orders")
	must(t, err)
	appendTo(t, db, "order-1", 1)
	at := head(t, db)
	must(t, db.ReadModels().Commit(t.Context(), es.Commit{
		Progress: es.ProgressUpdate{Projection: "orders", From: before, To: es.Progress{Generation: 1, Checkpoint: at}},
	}))
	return at
}

// wantProjection fails the test unless the projection that [projectNext] moves can go on.
func wantProjection(t testing.TB, db *sqlite.DB) {
	t.Helper()
	p, err := db.ReadModels().Progress(t.Context(), "orders")
	must(t, err)
	if now := head(t, db); p.Position > 0 && p.Incarnation != now.Incarnation || p.Position > now.Position {
		t.Errorf("the projection is at %+v, and the store at %+v", p, now)
	}
	projectNext(t, db)
}

func TestAStoreThatMayHaveLostEventsHasANewIncarnation(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	losses, kept := 0, 0
	for range 4 {
		disk := powerloss.NewDisk(t, powerloss.Config{})
		type promise struct {
			at     es.Checkpoint
			moment int
		}
		var promises []promise
		var closed []int
		for range 3 {
			db := openStore(t, unsynced(disk, "one"))
			for range 12 {
				promises = append(promises, promise{projectNext(t, db), disk.Moment()})
			}
			must(t, db.Close())
			closed = append(closed, disk.Moment())
		}
		for n := range 60 {
			moment := 1 + r.IntN(disk.Moment())
			if n%6 == 0 {
				moment = closed[r.IntN(len(closed))]
			}
			after := disk.CutAt(moment, r)
			db := openStore(t, sqlite.SinceBoot(worldOnDisk(after), "two"))
			now := head(t, db)
			for _, p := range promises {
				if p.moment > moment || p.at.Position <= now.Position {
					continue
				}
				losses++
				if p.at.Incarnation == now.Incarnation {
					t.Errorf("position %d was acknowledged, and position %d of the same incarnation is the last", p.at.Position, now.Position)
				}
				_, err := db.Events().Wait(t.Context(), p.at)
				wantError(t, "to go on from there", err, es.ErrCheckpoint)
			}
			if len(promises) > 0 && now.Incarnation == promises[0].at.Incarnation {
				kept++
			}
			wantProjection(t, db)
			must(t, db.Close())
			wantSound(t, onDisk(after))
		}
	}
	if losses == 0 || kept == 0 {
		t.Errorf("events were lost %d times, and the incarnation stayed %d times", losses, kept)
	}
}

func TestAStoreThatWasClosedInOrderKeepsItsIncarnation(t *testing.T) {
	t.Parallel()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	one, other := openStore(t, unsynced(disk, "one")), openStore(t, unsynced(disk, "one"))
	at := projectNext(t, one)
	must(t, one.Close())
	half := disk.CutBy(disk.Moment(), nothingUnsynced) // while the other is at work
	must(t, other.Close())
	whole := disk.CutBy(disk.Moment(), nothingUnsynced)
	if now := head(t, openStore(t, unsynced(whole, "two"))); now != at {
		t.Errorf("the store is at %+v, and was at %+v", now, at)
	}
	if now := head(t, openStore(t, unsynced(half, "two"))); now.Incarnation == at.Incarnation || now.Position != at.Position {
		t.Errorf("with another handle open, the store is at %+v, and was at %+v", now, at)
	}
}

// What was written is with the system when a process dies.
func TestAStoreWhoseProcessWasKilledKeepsItsIncarnation(t *testing.T) {
	t.Parallel()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	db := openStore(t, unsynced(disk, "one"))
	at := projectNext(t, db)
	after := disk.Kill()
	again := openStore(t, unsynced(after, "one"))
	if now := head(t, again); now != at {
		t.Errorf("the store is at %+v, and was at %+v", now, at)
	}
	must(t, again.Close())
	if now := head(t, openStore(t, unsynced(after, "two"))); now.Incarnation == at.Incarnation { // nobody has closed the first one
		t.Errorf("the incarnation is the same after another start of the system")
	}
}

func TestWithoutANameOfTheStartThereAreNoUnsyncedStores(t *testing.T) {
	t.Parallel()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	_, err := sqlite.Open(unsynced(disk, ""))
	wantError(t, "open", err, es.ErrInvalid)
	at := projectNext(t, openStore(t, unsynced(disk, "one")))
	after := disk.Kill()
	db := openStore(t, sqlite.SinceBoot(onDisk(after), ""))
	if now := head(t, db); now.Incarnation == at.Incarnation {
		t.Error("nobody can tell whether something was lost, and the incarnation is the same")
	}
	wantProjection(t, db)
}

// The systems that are known to name it do so.
func TestAStoreMayBeUnsynced(t *testing.T) {
	t.Parallel()
	config := sqlite.Config{Path: tempFile(t), Synchronous: sqlite.Normal}
	var at es.Checkpoint
	for n := range 3 {
		db := openStore(t, config)
		if db.Capabilities().SurvivesPowerLoss {
			t.Error("it says that it survives loss of power")
		}
		if before := head(t, db); n > 0 && before != at {
			t.Errorf("the store is at %+v, and was at %+v", before, at)
		}
		at = projectNext(t, db)
		must(t, db.Close())
	}
}

func TestAForkHasANewIncarnation(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	config := sqlite.Config{Path: path}
	other := sqlite.Config{Path: path, Namespace: "other"}
	db, beside := openStore(t, config), openStore(t, other)
	at, atOther := projectNext(t, db), projectNext(t, beside)
	must(t, db.ReadModels().Commit(t.Context(), es.Commit{Progress: es.ProgressUpdate{
		Projection: "foreign", To: es.Progress{Checkpoint: es.Checkpoint{Incarnation: uuid.UUID{1}, Position: 5}},
	}}))
	wantError(t, "a fork while it is open", sqlite.Fork(t.Context(), sqlite.Config{Path: path, BusyTimeout: 1e6}), sqlite.ErrBusy)
	must(t, errors.Join(db.Close(), beside.Close()))
	c := connect(t, path)
	run(t, c, "INSERT INTO es_progress_1 SELECT 'beyond', 1, 1, incarnation, 5000 FROM es_spaces WHERE space = 1")
	must(t, c.Close())
	must(t, sqlite.Fork(t.Context(), config))
	wantSound(t, config)
	for _, test := range []struct {
		config sqlite.Config
		before es.Checkpoint
	}{{config, at}, {other, atOther}} {
		db := openStore(t, test.config)
		if now := head(t, db); now.Incarnation == test.before.Incarnation || now.Position != test.before.Position {
			t.Errorf("the store is at %+v, and was at %+v", now, test.before)
		}
		_, err := db.Events().Wait(t.Context(), test.before)
		wantError(t, "a checkpoint from before", err, es.ErrCheckpoint)
		wantProjection(t, db)
	}
	forked := openStore(t, config)
	p, err := forked.ReadModels().Progress(t.Context(), "foreign")
	if err != nil || p.Incarnation != (uuid.UUID{1}) || p.Position != 5 {
		t.Errorf("the checkpoint in another store has become %+v: %v", p, err)
	}
	p, err = forked.ReadModels().Progress(t.Context(), "beyond") // its projection must not pass for one of this history
	if err != nil || p.Incarnation != at.Incarnation {
		t.Errorf("the checkpoint beyond the end has become %+v: %v", p, err)
	}
}

func TestWhatCannotBeForkedIsNotTouched(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	err := sqlite.Fork(t.Context(), sqlite.Config{Path: path})
	wantError(t, "what is not there", err, es.ErrNotFound)
	if left := filesBeside(t, path); len(left) > 0 {
		t.Errorf("there are %q", left)
	}
	writeFile(t, path, []byte(strings.Repeat("text ", 1000)))
	wantError(t, "no store", sqlite.Fork(t.Context(), sqlite.Config{Path: path}), sqlite.ErrForeign)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "without time", sqlite.Fork(ctx, sqlite.Config{Path: path}), context.Canceled)
}

func TestAForkIsDoneOrNotWhenThePowerIsLost(t *testing.T) {
	t.Parallel()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	db := openStore(t, onDisk(disk))
	at := projectNext(t, db)
	must(t, db.Close())
	first := disk.Moment()
	must(t, sqlite.Fork(t.Context(), onDisk(disk)))
	done := disk.Moment()
	r := rand.New(rand.NewPCG(1, 2))
	for moment := first; moment <= done; moment++ {
		after := disk.CutAt(moment, r)
		wantSound(t, onDisk(after))
		db := openStore(t, onDisk(after))
		if now := head(t, db); moment == done && now.Incarnation == at.Incarnation {
			t.Error("what was done is lost")
		}
		wantProjection(t, db)
		must(t, db.Close())
	}
}
