package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// wantSound fails the test unless Check finds nothing wrong with a file.
func wantSound(t testing.TB, c sqlite.Config) *sqlite.Report {
	t.Helper()
	report, err := sqlite.Check(context.WithoutCancel(t.Context()), c)
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

// fullFile is a file that is closed, with something of everything in it, and an index of several runs.
func fullFile(t testing.TB) string {
	t.Helper()
	path := tempFile(t)
	config := sqlite.InSmallRuns(sqlite.Config{Path: path}, 20)
	db, err := sqlite.Open(config)
	must(t, err)
	update(t, db, worldTables)
	w := &world{t: t, now: func() int { return 1 }, db: db}
	w.work(7, 2, 60)
	ctx := t.Context()
	must(t, db.ReadModels().Commit(ctx, es.Commit{
		Writes:   []es.Write{{Model: "orders", Key: "1", Data: []byte("{}")}},
		Progress: es.ProgressUpdate{Projection: "orders", To: es.Progress{Generation: 1, Checkpoint: head(t, db)}},
	}))
	for n := range 40 {
		appendTo(t, db, "plain-1", n)
	}
	stream := "hidden-1"
	for n := range 4 {
		appendTo(t, db, stream, n)
	}
	must(t, db.Events().(es.StreamEditor).Truncate(ctx, stream, 3)) //nolint:errcheck // it is one
	mail := event("mail-1", 1)
	must(t, db.Outbox().Enqueue(ctx, mail, event("mail-2", 2), event("mail-1", 3)))
	for _, entry := range claimAll(t, db) {
		if entry.ID == mail.ID {
			must(t, db.Outbox().Fail(ctx, []es.Entry{entry}, es.Failure{Err: errors.New("failed"), Dead: true, Park: true}))
		}
		if entry.Stream == "mail-2" {
			must(t, db.Outbox().Fail(ctx, []es.Entry{entry}, es.Failure{Err: errors.New("failed")}))
		}
	}
	must(t, db.Close())
	for countRuns(t, path) < 2 { // not all were built in time, or they were merged into one
		db := openStore(t, config)
		for n := 0; runsOf(t, db) < 2; n++ { // it stays open until they are built: what is begun at every closing may never be done
			appendTo(t, db, "filler-1", n)
		}
		must(t, db.Close())
	}
	other, err := sqlite.Open(sqlite.Config{Path: path, Namespace: "other"})
	must(t, err)
	appendTo(t, other, "order-1", 1)
	must(t, other.Close())
	return path
}

// countRuns counts the runs in the index of a file that is closed.
func countRuns(t testing.TB, path string) int {
	t.Helper()
	c := connect(t, path)
	n, err := strconv.Atoi(run(t, c, "SELECT count(*) FROM es_runs_1 WHERE root IS NOT NULL"))
	must(t, err)
	must(t, c.Close())
	return n
}

// runsOf counts the runs in the index of a file that is open.
func runsOf(t testing.TB, db *sqlite.DB) (n int64) {
	t.Helper()
	must(t, db.View(t.Context(), func(v *sqlite.View) error {
		return v.Query(func(r sqlite.Row) error {
			n = r.Int64(0)
			return nil
		}, "SELECT count(*) FROM es_runs_1 WHERE root IS NOT NULL")
	}))
	return n
}

func head(t testing.TB, db *sqlite.DB) es.Checkpoint {
	t.Helper()
	at, err := db.Events().Head(t.Context())
	must(t, err)
	return at
}

// claimAll claims what there is in an outbox.
func claimAll(t testing.TB, db *sqlite.DB) []es.Entry {
	t.Helper()
	entries := make([]es.Entry, 100)
	n, err := db.Outbox().Claim(t.Context(), entries, es.ClaimOptions{Owner: "test"})
	must(t, err)
	return entries[:n]
}

func TestASoundFileHasNoProblems(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	before := readFile(t, path)
	report := wantSound(t, sqlite.Config{Path: path})
	if string(readFile(t, path)) != string(before) {
		t.Error("the file was changed")
	}
	if len(report.Namespaces) != 2 || report.Schema != 1 {
		t.Fatalf("the report is %+v", report)
	}
	one, other := report.Namespaces[0], report.Namespaces[1]
	if one.Name != "default" || other.Name != "other" || one.Head.Incarnation == other.Head.Incarnation {
		t.Errorf("the namespaces are %+v and %+v", one, other)
	}
	// What the last who had it open has not indexed in time is indexed when it is opened again.
	if one.Runs < 2 || one.Indexed < 2*20 || one.Indexed > one.Events || one.Head.Position < one.Events || one.Hidden < 2 || one.Streams < 5 ||
		one.Outbox < 2 || one.Dead < 1 || one.Documents < 1 || one.Checkpoints < 1 || one.Handled < 1 || one.Snapshots < 1 || one.Leases < 1 {
		t.Errorf("the report of the first namespace is %+v", one)
	}
	if other.Events != 1 || other.Head.Position != 1 || other.Streams != 1 || other.Outbox != 0 {
		t.Errorf("the report of the other namespace is %+v", other)
	}
}

// A program that has died has left a log, which is read and left as it is.
func TestTheLogOfAFileIsCheckedToo(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	for n := range 5 {
		appendTo(t, db, "order-1", n)
	}
	killed := disk.Kill()
	before, log := killed.File(diskFile), killed.File(diskFile+"-wal")
	report := wantSound(t, onDisk(killed))
	if n := report.Namespaces[0].Events; n != 5 {
		t.Errorf("there are %d events", n)
	}
	if string(killed.File(diskFile)) != string(before) || string(killed.File(diskFile+"-wal")) != string(log) {
		t.Error("the file or its log was changed")
	}
}

func TestAFileInUseIsChecked(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	db := openStore(t, sqlite.InSmallRuns(sqlite.Config{Path: path}, 20))
	stop := make(chan struct{})
	appended := make(chan int)
	go func() {
		n := 0
		defer func() { appended <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := db.Events().Append(context.Background(), es.AppendTo("order-1", es.Any, event("order-1", n))); err != nil {
				t.Errorf("append: %v", err)
				return
			}
			n++
		}
	}()
	for range 10 {
		wantSound(t, sqlite.Config{Path: path})
	}
	close(stop)
	if n := <-appended; int64(n) != wantSound(t, sqlite.Config{Path: path}).Namespaces[0].Events {
		t.Errorf("there are not the %d events that were appended", n)
	}
	appendTo(t, db, "order-1", 1) // and the locks of the store are still there
}

// damages is what can be wrong with a file, how it comes about, and what Check says of it.
var damages = []struct{ statement, where, what string }{
	{"DELETE FROM es_events_1 WHERE stream = 'plain-1' AND version = 7", "streams", `stream "plain-1" has no versions from 7 to 7`},
	{"DELETE FROM es_events_1 WHERE stream = 'plain-1' AND version = 1", "streams", `stream "plain-1" has no versions from 1 to 1`},
	{"UPDATE es_events_1 SET version = 7 WHERE stream = 'plain-1' AND version = 8", "streams", "has version 7 at positions"},
	{"UPDATE es_events_1 SET position = position + 5000 WHERE stream = 'plain-1' AND version = 8", "streams", "before it at position"},
	{"UPDATE es_events_1 SET version = 0 WHERE stream = 'plain-1' AND version = 1", "events", "they count from 1"},
	{"UPDATE es_events_1 SET position = 0 WHERE position = 1", "events", "positions count from 1"},
	{"UPDATE es_events_1 SET id = x'00' WHERE position = 3", "events", "its ID has 1 bytes"},
	{"UPDATE es_events_1 SET id = zeroblob(16) WHERE stream = 'plain-1' AND version = 2", "events", "ID"},
	{"UPDATE es_events_1 SET stream = '' WHERE stream = 'plain-1' AND version = 2", "events", "stream"},
	{"UPDATE es_events_1 SET schema = -1 WHERE stream = 'plain-1' AND version = 2", "events", "schema"},
	{"UPDATE es_events_1 SET tags = 'x' WHERE stream = 'plain-1' AND version = 2", "events", "tags"},
	{"UPDATE es_events_1 SET metadata = 'x' WHERE stream = 'plain-1' AND version = 2", "events", "metadata"},
	{"UPDATE es_events_1 SET id = (SELECT id FROM es_events_1 WHERE position = 3) WHERE position = 9", "IDs", "at positions 3 and 9"},

	{"UPDATE es_edits_1 SET hidden = 9 WHERE stream = 'hidden-1'", "edits", "is hidden up to version 9, and ends at version 4"},
	{"UPDATE es_edits_1 SET cleared = 9 WHERE stream = 'hidden-1'", "edits", "cleared up to 9"},
	{"UPDATE es_edits_1 SET cleared = 1 WHERE stream = 'hidden-1'", "edits", `version 2 of stream "hidden-1" is gone, and was not cleared`},
	{"UPDATE es_events_1 SET name = 'X', schema = 1, time = 1 WHERE stream = 'hidden-1' AND version = 2", "edits", "is still there"},
	{"UPDATE es_edits_1 SET edit = 5000 WHERE stream = 'hidden-1'", "edits", "has edit 5000, and the last one is"},
	{"UPDATE es_edits_1 SET deleted = 3 WHERE stream = 'hidden-1'", "edits", "is deleted in way 3"},
	{"UPDATE es_edits_1 SET position = 3 WHERE stream = 'hidden-1'", "edits", "is hidden up to position 3"},
	{"UPDATE es_edits_1 SET stream = 'aaa-1' WHERE stream = 'hidden-1'", "edits", `stream "aaa-1" is hidden up to version 2, and has no events`},
	{"UPDATE es_edits_1 SET stream = 'zzz-1' WHERE stream = 'hidden-1'", "edits", `stream "zzz-1" is hidden up to version 2, and has no events`},

	{"UPDATE es_events_1 SET id = x'00000000000000000000000000000001' WHERE stream = 'plain-1' AND version = 2", "index", "is not found by its ID"},
	{"UPDATE es_events_1 SET stream = 'moved-1', version = 1 WHERE stream = 'plain-1' AND version = 2", "index", "by its stream and version"},
	{"UPDATE es_events_1 SET name = 'Other' WHERE stream = 'plain-1' AND version = 2", "index", "is not found by its category, name or tags"},
	{`UPDATE es_events_1 SET tags = '["new"]' WHERE stream = 'plain-1' AND version = 2`, "index", "is not found by its category, name or tags"},
	{"UPDATE es_events_1 SET tags = NULL WHERE position = (SELECT min(position) FROM es_events_1 WHERE tags IS NOT NULL)", "index",
		"does not say what the events say"},
	{"DELETE FROM es_runs_1 WHERE base = 0", "index", "begins behind position"},
	{"UPDATE es_runs_1 SET root = NULL WHERE base = 0", "index", "root of run"},
	{"UPDATE es_runs_1 SET events = events + 1 WHERE base = 0", "index", "checksum"},
	{"UPDATE es_runs_1 SET run = 5000 WHERE base = 0", "index", "there is a run 5000"},
	{"DELETE FROM es_blocks_1 WHERE block = (SELECT max(run) * 16777216 FROM es_runs_1)", "index", "is not there"},
	{"UPDATE es_blocks_1 SET data = substr(data, 2) WHERE block = (SELECT max(run) * 16777216 FROM es_runs_1)", "index", "checksum"},
	{"DELETE FROM es_events_1 WHERE position > 40", "index", "and the events up to 40"},
	{"DELETE FROM es_state_1", "events", "es_state_1 has 0 rows"},
	{"DELETE FROM es_outbox_state_1", "outbox", "es_outbox_state_1 has 0 rows"},
	{"DELETE FROM es_revision_1", "read models", "es_revision_1 has 0 rows"},

	{"UPDATE es_outbox_state_1 SET depth = depth + 1", "outbox", "by its counter"},
	{"UPDATE es_outbox_state_1 SET retrying = retrying + 1", "outbox", "failed before by its counter"},
	{"UPDATE es_outbox_state_1 SET dead = dead + 1", "outbox", "dead letters by its counter"},
	{"UPDATE es_outbox_state_1 SET parked = parked + 1", "outbox", "wait for a dead letter by its counter"},
	{"UPDATE es_outbox_state_1 SET entry = 1, sorted = 1", "outbox", "the last number that was given is 1"},
	{"UPDATE es_outbox_state_1 SET sorted = entry + 1", "outbox", "entries are sorted in up to"},
	{"UPDATE es_outbox_streams_1 SET ready = NULL WHERE stream = 'mail-2'", "outbox", `stream "mail-2" has entries to give`},
	{"UPDATE es_outbox_tries_1 SET attempt = 0", "outbox", "cannot be so"},
	{"DELETE FROM es_outbox_order_1 WHERE stream = 'mail-1'", "outbox", "is not sorted in"},
	{"UPDATE es_outbox_order_1 SET entry = 5000", "outbox", "that is not there"},
	{"UPDATE es_outbox_state_1 SET token = 0", "outbox", "the last token that was given is 0"},
	{"DELETE FROM es_outbox_streams_1 WHERE stream = 'mail-1'", "outbox", `stream "mail-1" has entries that nobody is given`},
	{"INSERT INTO es_outbox_tries_1 VALUES (5000, 2, 0, 0, 0)", "outbox", "entry 5000 was tried, and is not there"},
	{"UPDATE es_outbox_streams_1 SET parked = 0 WHERE stream = 'mail-1'", "outbox", `stream "mail-1" waits for the dead letter at place 0`},
	{"UPDATE es_outbox_streams_1 SET open = open + 1 WHERE open > 0", "outbox", "entries in hand by its counter"},

	{"DELETE FROM es_models_1 WHERE name = 'orders'", "read models", `document "1" belongs to no model`},
	{"UPDATE es_revision_1 SET revision = 0", "read models", "has revision"},
	{"UPDATE es_progress_1 SET position = 5000 WHERE projection = 'orders'", "checkpoints", "is at position 5000, and the last one is"},
	{"UPDATE es_progress_1 SET position = -1 WHERE projection = 'orders'", "checkpoints", "is at position -1"},
	{"UPDATE es_progress_1 SET incarnation = x'00' WHERE projection = 'orders'", "checkpoints", "is no UUID"},
	{"UPDATE es_dedupe_groups_1 SET newest = 1", "dedupe", "has handled is number 1"},
	{"UPDATE es_dedupe_groups_1 SET token = 0", "dedupe", "the last token that was given in group"},
	{"DELETE FROM es_dedupe_groups_1", "dedupe", "no such group"},
	{"UPDATE es_leases_1 SET token = 0", "leases", "has token 0"},
	{"UPDATE es_snapshots_1 SET version = 0", "snapshots", "is of version 0"},

	{"UPDATE es_spaces SET incarnation = x'00' WHERE space = 1", "es_spaces", "is no UUID"},
	{"UPDATE es_spaces SET incarnation = (SELECT incarnation FROM es_spaces WHERE space = 1)", "es_spaces", "have the same incarnation"},
	{"DELETE FROM es_spaces WHERE space = 2", "schema", "is none of the toolkit's"},
	{"DROP TABLE es_leases_1", "schema", `table es_leases_1 is ""`},
	{"DROP INDEX es_outbox_1_id", "schema", `index es_outbox_1_id is ""`},
	{"ALTER TABLE es_events_1 ADD COLUMN mine TEXT", "schema", "table es_events_1 is"},
}

func TestEachDamageIsFound(t *testing.T) {
	t.Parallel()
	whole := readFile(t, fullFile(t))
	folder := t.TempDir()
	for n, damage := range damages {
		t.Run(damage.statement, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(folder, fmt.Sprint(n, ".db"))
			writeFile(t, path, whole)
			c := connect(t, path)
			if run(t, c, damage.statement, "SELECT total_changes() + (SELECT count(*) FROM pragma_schema_version WHERE schema_version > 0)") == "0" {
				t.Fatal("nothing was damaged")
			}
			must(t, c.Close())
			report, err := sqlite.Check(t.Context(), sqlite.Config{Path: path})
			must(t, err)
			wantError(t, "the report", report.Err(), sqlite.ErrCorrupt)
			for _, p := range report.Problems {
				if p.Where == damage.where && strings.Contains(p.What, damage.what) && p.Remedy != "" && strings.Contains(p.String(), p.What) {
					return
				}
			}
			t.Errorf("no problem in %q says %q; there are %v", damage.where, damage.what, report.Problems)
		})
	}
}

// However much is wrong, the report is not long, and says how much there is.
func TestAReportIsNotLong(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	c := connect(t, path)
	run(t, c, "UPDATE es_events_1 SET name = 'Other' WHERE name IS NOT NULL")
	must(t, c.Close())
	report, err := sqlite.Check(t.Context(), sqlite.Config{Path: path})
	must(t, err)
	if n := len(report.Problems); n > 60 || report.More == 0 {
		t.Errorf("there are %d problems, and %d more", n, report.More)
	}
}

func TestWhatCannotBeCheckedIsAnError(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	text, empty, foreign := filepath.Join(folder, "text"), filepath.Join(folder, "empty"), filepath.Join(folder, "foreign")
	writeFile(t, text, []byte(strings.Repeat("text ", 1000)))
	writeFile(t, empty, nil)
	c := connect(t, foreign)
	run(t, c, "CREATE TABLE mine (n)")
	must(t, c.Close())
	for path, want := range map[string]error{
		text: sqlite.ErrForeign, empty: sqlite.ErrForeign, foreign: sqlite.ErrForeign, folder: es.ErrInvalid,
		filepath.Join(folder, "nothing"): es.ErrNotFound,
	} {
		_, err := sqlite.Check(t.Context(), sqlite.Config{Path: path})
		wantError(t, path, err, want)
	}
	if left := filesBeside(t, text); len(left) != 3 {
		t.Errorf("there are %q", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := sqlite.Check(ctx, sqlite.Config{Path: fullFile(t)})
	wantError(t, "a check whose context has ended", err, context.Canceled)
}
