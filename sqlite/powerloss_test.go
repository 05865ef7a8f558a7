package sqlite_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

var (
	powerlossCuts = flag.Int("powerloss.cuts", 1000, "how often to cut the power")
	powerlossSeed = flag.Uint64("powerloss.seed", 0, "the seed of the only work whose power is cut; 0: a number of them")
)

// cutsPerWork is how often the power is cut in the work of a seed.
const cutsPerWork = 50

// worldOnDisk is the configuration of a world: a log that is brought into the file often, and an index of many runs.
func worldOnDisk(disk *powerloss.Disk) sqlite.Config {
	c := sqlite.InSmallRuns(onDisk(disk), 20)
	c.CheckpointPages = 60
	return c
}

// newWorld is the work of a seed on a new disk, with some breaks.
func newWorld(t testing.TB, disk *powerloss.Disk, c sqlite.Config, seed uint64) *world {
	t.Helper()
	w := &world{t: t, now: disk.Moment}
	for n := range uint64(2) {
		db, err := sqlite.Open(c)
		must(t, err)
		update(t, db, worldTables)
		w.db = db
		w.work(seed<<8|n, 3, 16)
		must(t, db.Close())
	}
	return w
}

// TestNothingAcknowledgedIsLostWithThePower cuts the power at random moments of the work of several goroutines.
func TestNothingAcknowledgedIsLostWithThePower(t *testing.T) {
	t.Parallel()
	if *powerlossSeed != 0 {
		cutWork(t, *powerlossSeed)
		return
	}
	seeds := uint64((*powerlossCuts + cutsPerWork - 1) / cutsPerWork)
	first := rand.Uint64N(1 << 40)
	var next atomic.Uint64
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for n := next.Add(1); n <= seeds && !t.Failed(); n = next.Add(1) {
				cutWork(t, first+n)
			}
		})
	}
	wait.Wait()
}

func cutWork(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	sectors := []powerloss.Sector{powerloss.Sector512, powerloss.Sector4096}
	disk := powerloss.NewDisk(t, powerloss.Config{Sector: sectors[r.IntN(2)]})
	w := newWorld(t, disk, worldOnDisk(disk), seed)
	for n := range cutsPerWork {
		moment := 1 + r.IntN(disk.Moment())
		after, what := disk.CutAt(moment, r), powerLost
		if n%5 == 4 {
			after, what = disk.KillAt(moment), killed
		}
		w.inspect(t, after, moment, what)
		if t.Failed() {
			t.Logf("the seed is %d, and the moment %d; the disk is in %s; run again with -powerloss.seed=%d", seed, moment, keep(t, after), seed)
			return
		}
		must(t, after.Close())
	}
	must(t, disk.Close())
}

// inspect opens the store on a disk after an accident.
func (w *world) inspect(t *testing.T, disk *powerloss.Disk, moment int, what accident) {
	t.Helper()
	db, err := sqlite.Open(worldOnDisk(disk))
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	w.audit(t, db, moment, what)
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	wantSound(t, onDisk(disk))
}

// keep writes the files of a disk to a folder that stays, and returns its name.
func keep(t *testing.T, disk *powerloss.Disk) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "powerloss") //nolint:usetesting // it is to stay
	must(t, err)
	for _, name := range disk.Files() {
		must(t, os.WriteFile(filepath.Join(folder, name), disk.File(name), 0o600))
	}
	return folder
}

// A new file is made in several steps, and the power may be lost at any of them.
func TestAStoreIsMadeAfterThePowerWasLostWhileItWasMade(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	made := disk.Moment()
	must(t, db.Close())
	r := rand.New(rand.NewPCG(1, 2))
	fates := []func(powerloss.Change) powerloss.Fate{
		nothingUnsynced,
		func(powerloss.Change) powerloss.Fate { return powerloss.Kept() },
		func(powerloss.Change) powerloss.Fate { return powerloss.Grown() },
		func(powerloss.Change) powerloss.Fate { return powerloss.Torn(false, true, true, true, true, true) },
		powerloss.Random(r),
	}
	for moment := 1; moment <= made; moment++ {
		for _, fate := range fates {
			after := disk.CutBy(moment, fate)
			db, err := sqlite.Open(onDisk(after))
			if err != nil {
				t.Fatalf("at moment %d of %d: %v", moment, made, err)
			}
			appendTo(t, db, "order-1", 1)
			must(t, db.Close())
			wantSound(t, onDisk(after))
			must(t, after.Close())
		}
	}
}

// witness is a test that takes down that it has failed, and goes on.
type witness struct {
	testing.TB
	failures atomic.Int64
}

func (*witness) Helper()                     {}
func (w *witness) Errorf(string, ...any)     { w.failures.Add(1) }
func (w *witness) Fatalf(_ string, _ ...any) { w.failures.Add(1) }

// Without syncs, these tests find that something is lost.
func TestWithoutSyncsSomethingIsLostWithThePower(t *testing.T) {
	t.Parallel()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	config := worldOnDisk(disk)
	config.Synchronous = sqlite.Normal
	w := newWorld(t, disk, config, 1)
	r := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		moment := 1 + r.IntN(disk.Moment())
		after := disk.CutAt(moment, r)
		db, err := sqlite.Open(worldOnDisk(after))
		must(t, err)
		seen := &witness{TB: t}
		w.audit(seen, db, moment, powerLost)
		must(t, db.Close())
		wantSound(t, onDisk(after)) // what is there is whole all the same
		must(t, after.Close())
		if seen.failures.Load() > 0 {
			return
		}
	}
	t.Error("nothing was lost")
}
