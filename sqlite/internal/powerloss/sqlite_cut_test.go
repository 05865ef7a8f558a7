package powerloss_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

// setup is a database on a disk.
type setup struct {
	name     string
	config   powerloss.Config
	settings []string
}

// cuts is what is found after a number of losses of power, each of them at a random moment of a workload.
func (s setup) cuts(t *testing.T, seed uint64, workloads, each int, report func(finding, string)) {
	t.Helper()
	for n := range workloads {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		disk := powerloss.NewDisk(t, s.config)
		w := work(t, disk, r, 100, s.settings...)
		for range each {
			moment := r.IntN(disk.Moment() + 1)
			fates := r.Uint64()
			after := disk.CutAt(moment, rand.New(rand.NewPCG(fates, 0)))
			report(w.inspect(t, after, moment), fmt.Sprintf("workload %d of seed %d, moment %d, fates %d", n, seed, moment, fates))
		}
		if err := disk.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A database that syncs at every commit keeps what it has acknowledged, whenever the power is lost.
func TestAnAcknowledgedTransactionSurvivesLossOfPower(t *testing.T) {
	t.Parallel()
	small := durable("wal_autocheckpoint=8")
	journal := []string{"journal_mode=delete", "synchronous=full"}
	for _, s := range []struct {
		setup

		workloads int
	}{
		{setup{"WAL", powerloss.Config{}, small}, 10},
		{setup{"WAL and sectors of 4,096 bytes", powerloss.Config{Sector: powerloss.Sector4096}, small}, 1},
		{setup{"WAL and folders at once", powerloss.Config{Folder: powerloss.FolderAtOnce}, small}, 1},
		{setup{"WAL without checkpoints", powerloss.Config{}, durable("wal_autocheckpoint=0")}, 1},
		{setup{"WAL and small pages", powerloss.Config{}, append([]string{"page_size=512"}, small...)}, 1},
		{setup{"a journal that is deleted", powerloss.Config{}, []string{"journal_mode=delete", "synchronous=extra"}}, 1},
		{setup{"a journal and folders at once", powerloss.Config{Folder: powerloss.FolderAtOnce}, journal}, 1},
		{setup{"a journal that is truncated", powerloss.Config{}, []string{"journal_mode=truncate", "synchronous=full"}}, 1},
		{setup{"a journal that stays", powerloss.Config{}, []string{"journal_mode=persist", "synchronous=full"}}, 1},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.cuts(t, 1, s.workloads, 100, func(f finding, where string) {
				if !f.sane() {
					t.Errorf("%+v in %s", f, where)
				}
			})
		})
	}
}

// What follows are the controls: the same workloads must lose something where SQLite says that they may.

func TestWithoutSyncsTheDiskLosesTransactionsAndDamagesTheFile(t *testing.T) {
	t.Parallel()
	s := setup{settings: []string{"journal_mode=wal", "synchronous=off", "wal_autocheckpoint=8"}}
	var lost, damaged int
	s.cuts(t, 2, 2, 50, func(f finding, where string) {
		if f.unbegun {
			t.Errorf("%+v in %s", f, where)
		}
		if f.lost > 0 {
			lost++
		}
		if f.half || !f.whole {
			damaged++
		}
	})
	if lost == 0 || damaged == 0 {
		t.Errorf("of 100 cuts %d lost something and %d damaged the file; want both", lost, damaged)
	}
}

func TestWithSyncsAtCheckpointsOnlyTheDiskLosesTransactionsAndNothingElse(t *testing.T) {
	t.Parallel()
	s := setup{settings: []string{"journal_mode=wal", "synchronous=normal", "wal_autocheckpoint=8"}}
	wantLossOnly(t, s)
}

// SQLite deletes the journal to commit, and with synchronous=full it does not sync the folder afterwards
// (https://www.sqlite.org/pragma.html#pragma_synchronous): the journal may come back and undo the transaction.
func TestWithoutSyncsOfTheFolderADeletedJournalComesBack(t *testing.T) {
	t.Parallel()
	wantLossOnly(t, setup{settings: []string{"journal_mode=delete", "synchronous=full"}})
}

// wantLossOnly fails the test unless transactions are lost, the last ones, and none is there in part.
func wantLossOnly(t *testing.T, s setup) {
	t.Helper()
	lost := 0
	s.cuts(t, 3, 2, 50, func(f finding, where string) {
		if !f.whole || f.half || f.unbegun {
			t.Errorf("%+v in %s", f, where)
		}
		if f.lost > 0 {
			lost++
		}
	})
	if lost == 0 {
		t.Error("none of 100 cuts lost anything")
	}
}

// When only the program dies, what was written is there, synced or not.
func TestATransactionSurvivesTheEndOfTheProgramWithoutSyncs(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(4, 0))
	disk := powerloss.NewDisk(t, powerloss.Config{})
	w := work(t, disk, r, 100, "journal_mode=wal", "synchronous=off", "wal_autocheckpoint=8")
	for range 100 {
		moment := r.IntN(disk.Moment() + 1)
		if f := w.inspect(t, disk.KillAt(moment), moment); !f.sane() {
			t.Errorf("%+v at the moment %d", f, moment)
		}
	}
}

// SQLite knows by the checksums of the log how far it was written.
func TestATransactionWhoseLastFrameIsTornIsNotThere(t *testing.T) {
	t.Parallel()
	for _, sector := range []powerloss.Sector{powerloss.Sector512, powerloss.Sector4096} {
		disk := powerloss.NewDisk(t, powerloss.Config{Sector: sector})
		conn := connect(t, disk, durable("wal_autocheckpoint=0")...)
		exec(t, conn, "CREATE TABLE items (name)")
		exec(t, conn, "INSERT INTO items VALUES ('acknowledged')")
		gate := disk.Hold(powerloss.Sync, wal)
		inserted := make(chan error, 1)
		go func() { inserted <- run(conn, "INSERT INTO items VALUES ('under way')") }()
		<-gate.Arrived()
		moment := disk.Moment()
		for _, test := range []struct {
			fate func(c powerloss.Change) powerloss.Fate
			want string
		}{
			{func(powerloss.Change) powerloss.Fate { return powerloss.Kept() }, "acknowledged\nunder way"},
			{func(powerloss.Change) powerloss.Fate { return powerloss.Dropped() }, "acknowledged"},
			{func(powerloss.Change) powerloss.Fate { return powerloss.Grown() }, "acknowledged"},
			{func(powerloss.Change) powerloss.Fate { return powerloss.Torn(true) }, "acknowledged"},
			{func(powerloss.Change) powerloss.Fate { return powerloss.Torn(false, true) }, "acknowledged"},
			{func(c powerloss.Change) powerloss.Fate {
				if c.Bytes == 24 { // the header of a frame
					return powerloss.Kept()
				}
				return powerloss.Torn(true)
			}, "acknowledged"},
		} {
			after := disk.CutBy(moment, test.fate)
			found := connect(t, after)
			wantRows(t, found, "SELECT name FROM items", test.want)
			wantRows(t, found, "PRAGMA integrity_check", "ok")
			disconnect(t, found)
		}
		gate.Open()
		if err := <-inserted; err != nil {
			t.Error(err)
		}
		after := disk.CutBy(disk.Moment(), func(powerloss.Change) powerloss.Fate { return powerloss.Dropped() })
		wantRows(t, connect(t, after), "SELECT name FROM items", "acknowledged\nunder way")
	}
}
