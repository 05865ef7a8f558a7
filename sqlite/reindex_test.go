package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

// wantReindexed has a file reindexed, and fails the test unless it is sound then, and has the history that it had.
func wantReindexed(t *testing.T, c sqlite.Config, want string) {
	t.Helper()
	must(t, sqlite.Reindex(t.Context(), c))
	wantSound(t, c)
	db := openStore(t, c)
	if got := history(t, db); got != want {
		t.Errorf("the history has become\n%s\nand was\n%s", got, want)
	}
	n := 0
	for _, err := range db.Events().Read(t.Context(), es.Query{Stream: "plain-1"}) {
		must(t, err)
		n++
	}
	if n != 40 {
		t.Errorf("a stream has %d events", n)
	}
	_, err := db.Events().Append(t.Context(), es.AppendTo("plain-1", es.Exactly(40), event("plain-1", 41)))
	must(t, err)
	must(t, db.Close())
}

// fullHistory is the history of a file.
func fullHistory(t *testing.T, path string) string {
	t.Helper()
	db := openStore(t, sqlite.Config{Path: path})
	defer func() { must(t, db.Close()) }()
	return history(t, db)
}

func TestReindexMakesAnewWhatFollowsFromTheRest(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	want, whole := fullHistory(t, path), readFile(t, path)
	for n, statement := range []string{
		"SELECT 1",
		"DELETE FROM es_runs_1",
		"DELETE FROM es_blocks_1",
		"UPDATE es_blocks_1 SET data = zeroblob(4000)",
		"UPDATE es_runs_1 SET root = zeroblob(4000)",
		"UPDATE es_runs_1 SET run = run + 5000",
		"INSERT INTO es_runs_1 SELECT 5000, last, last + 100, 0, 100, 1, root FROM es_runs_1 ORDER BY base DESC LIMIT 1",
		"UPDATE es_outbox_state_1 SET depth = 100, retrying = 100, dead = 100, parked = 100",
		"UPDATE es_outbox_state_1 SET sorted = 0",
		"DELETE FROM es_outbox_order_1",
		"UPDATE es_outbox_order_1 SET entry = 5000 + entry",
		"DELETE FROM es_outbox_streams_1 WHERE parked = 0 AND open = 0",
		"UPDATE es_outbox_streams_1 SET ready = NULL WHERE parked = 0",
	} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			config := sqlite.InSmallRuns(sqlite.Config{Path: filepath.Join(t.TempDir(), fmt.Sprint(n, ".db"))}, 20)
			writeFile(t, config.Path, whole)
			c := connect(t, config.Path)
			run(t, c, statement)
			must(t, c.Close())
			wantReindexed(t, config, want)
		})
	}
}

// pagesOf returns the pages of the toolkit's indexes.
func pagesOf(t *testing.T, path, condition string) (pages []int) {
	t.Helper()
	c := connect(t, path)
	defer func() { must(t, c.Close()) }()
	for page := range strings.FieldsSeq(run(t, c, "SELECT group_concat(pageno, ' ') FROM dbstat WHERE "+condition)) {
		n := 0
		_, err := fmt.Sscan(page, &n)
		must(t, err)
		pages = append(pages, n)
	}
	return pages
}

func TestReindexIsTheRemedyForDamagedPagesOfIndexes(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	want, whole := fullHistory(t, path), readFile(t, path)
	r := rand.New(rand.NewPCG(1, 2))
	pages := pagesOf(t, path, "name GLOB 'es_runs_*' OR name GLOB 'es_blocks_*' OR name GLOB 'es_outbox_order_*' OR "+
		"name IN (SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND name GLOB 'es_*')")
	for _, page := range pages {
		damaged := slices.Clone(whole)
		for i := range pageBytes {
			damaged[(page-1)*pageBytes+i] = byte(r.Uint32())
		}
		disk := putOnDisk(t, damaged)
		wantReindexed(t, sqlite.InSmallRuns(onDisk(disk), 20), want)
		must(t, disk.Close())
	}
	if len(pages) < 20 {
		t.Errorf("there are %d pages", len(pages))
	}
}

func TestReindexNeedsSoundEvents(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	whole := readFile(t, path)
	for _, page := range pagesOf(t, path, "name = 'es_events_1' AND pagetype = 'leaf'") {
		damaged := slices.Clone(whole)
		clear(damaged[(page-1)*pageBytes:][:pageBytes])
		disk := putOnDisk(t, damaged)
		wantError(t, "reindex", sqlite.Reindex(t.Context(), sqlite.InSmallRuns(onDisk(disk), 20)), sqlite.ErrCorrupt)
		must(t, disk.Close())
	}
}

func TestReindexNeedsTheFileForItself(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	db := openStore(t, sqlite.Config{Path: path})
	before := history(t, db)
	wantError(t, "reindex", sqlite.Reindex(t.Context(), sqlite.Config{Path: path, BusyTimeout: 1e6}), sqlite.ErrBusy)
	must(t, db.Close())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "reindex without time", sqlite.Reindex(ctx, sqlite.Config{Path: path}), context.Canceled)
	wantError(t, "nothing", sqlite.Reindex(t.Context(), sqlite.Config{Path: tempFile(t)}), es.ErrNotFound)
	wantReindexed(t, sqlite.Config{Path: path}, before)
}

// Wherever it is cut off, by loss of power or a full disk, the store is opened as before, and it can be done again.
func TestReindexCanBeCutOff(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	want := fullHistory(t, path)
	c := connect(t, path)
	run(t, c, "UPDATE es_blocks_1 SET data = zeroblob(4000)")
	must(t, c.Close())
	disk := putOnDisk(t, readFile(t, path))
	config := func(disk *powerloss.Disk) sqlite.Config { return sqlite.InSmallRuns(onDisk(disk), 20) }
	first := disk.Moment()
	must(t, sqlite.Reindex(t.Context(), config(disk)))
	r := rand.New(rand.NewPCG(1, 2))
	for moment := first; moment <= disk.Moment(); moment += 1 + r.IntN(8) {
		after := disk.CutAt(moment, r)
		db := openStore(t, onDisk(after)) // and it makes no runs itself
		if got := history(t, db); got != want {
			t.Fatalf("at moment %d the history has become\n%s", moment, got)
		}
		must(t, db.Close())
		wantReindexed(t, config(after), want)
		must(t, after.Close())
	}
	for room := int64(0); room < 400_000; room += 30_000 {
		disk := putOnDisk(t, readFile(t, path))
		disk.Fill(room)
		err := sqlite.Reindex(t.Context(), config(disk))
		if err != nil && !errors.Is(err, sqlite.ErrDiskFull) {
			t.Errorf("with room for %d bytes: %v", room, err)
		}
		disk.Heal()
		wantReindexed(t, config(disk), want)
		must(t, disk.Close())
	}
}
