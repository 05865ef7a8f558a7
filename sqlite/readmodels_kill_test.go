package sqlite_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// TestSwitchesSurviveKill kills a process that builds two models aside and switches them, again and again. Both are whole then, and in
// the same version: the last one that was acknowledged, or the next.
func TestSwitchesSurviveKill(t *testing.T) {
	const stored = 50
	job(t, func(path string, tell func(int)) error {
		db, err := sqlite.Open(sqlite.Config{Path: path})
		if err != nil {
			return err
		}
		models := db.ReadModels()
		progress, err := models.Progress(t.Context(), "m")
		if err != nil {
			return err
		}
		if err := models.Drop(t.Context(), "m.next"); err != nil { // what the one before had not switched
			return err
		}
		if err := models.Drop(t.Context(), "n.next"); err != nil {
			return err
		}
		for version := int(progress.Generation) + 1; ; version++ {
			to := es.Progress{Generation: int64(version)}
			for _, c := range []es.Commit{
				{Writes: documents("m.next", stored, strconv.Itoa(version)), Progress: es.ProgressUpdate{Projection: "m.next", To: to}},
				{Writes: documents("n.next", stored, strconv.Itoa(version))},
			} {
				if err := models.Commit(t.Context(), c); err != nil {
					return err
				}
			}
			err := models.Switch(t.Context(), es.Replacement{Model: "m", With: "m.next"}, es.Replacement{Model: "n", With: "n.next"})
			if err != nil {
				return err
			}
			tell(version)
		}
	}, func(child func(path string, until int) int) {
		path, revision := tempFile(t), int64(0)
		for round := range 5 {
			told := child(path, 10*(round+1))
			db := openStore(t, sqlite.Config{Path: path})
			version := 0
			for _, model := range []string{"m", "n"} {
				docs := listModel(t, db.ReadModels(), model)
				if len(docs) != stored {
					t.Fatalf("model %s has %d documents, want %d", model, len(docs), stored)
				}
				for _, doc := range docs {
					got, err := strconv.Atoi(string(doc.Data))
					must(t, err)
					if version == 0 {
						version = got
					}
					if got != version || got < told || got > told+1 {
						t.Fatalf("document %s of model %s is of version %d; others are of %d, and %d was told", doc.Key, model, got, version, told)
					}
				}
			}
			project(t, db.ReadModels(), es.Write{Model: "after", Key: "a"})
			doc := listModel(t, db.ReadModels(), "after")[0]
			for _, model := range []string{"m", "n", "m.next", "n.next"} {
				for _, other := range listModel(t, db.ReadModels(), model) {
					if other.Revision >= doc.Revision {
						t.Fatalf("revision %d was given after revision %d of %s", doc.Revision, other.Revision, other.Key)
					}
				}
			}
			if doc.Revision <= revision {
				t.Fatalf("revision %d follows revision %d", doc.Revision, revision)
			}
			revision = doc.Revision
			db.AwaitSweep()
			wantRows(t, db, 1, countHidden, "0")
			must(t, db.Close())
		}
	})
}

// TestDropsSurviveKill kills a process right after a drop was acknowledged, while documents are being removed. The model stays dropped,
// and the next one who opens the file removes the rest.
func TestDropsSurviveKill(t *testing.T) {
	const stored = 3000
	job(t, func(path string, tell func(int)) error {
		db, err := sqlite.Open(sqlite.Config{Path: path})
		if err != nil {
			return err
		}
		for writes := documents("m", stored, "x"); len(writes) > 0; writes = writes[1000:] {
			if err := db.ReadModels().Commit(t.Context(), es.Commit{Writes: writes[:1000]}); err != nil {
				return err
			}
		}
		if err := db.ReadModels().Drop(t.Context(), "m"); err != nil {
			return err
		}
		tell(1)
		select {} // until it is killed
	}, func(child func(path string, until int) int) {
		path, left := tempFile(t), 0
		for range 2 {
			child(path, 1)
			onlooker := openStore(t, sqlite.Config{Path: path, Namespace: "onlooker"})
			n, err := strconv.Atoi(rows(t, onlooker, 1, countDocuments))
			must(t, err)
			left += n
			must(t, onlooker.Close())
			db := openStore(t, sqlite.Config{Path: path})
			if docs := listModel(t, db.ReadModels(), "m"); len(docs) > 0 {
				t.Fatalf("a model that was dropped has %d documents", len(docs))
			}
			db.AwaitSweep()
			wantRows(t, db, 1, countDocuments, "0")
			wantRows(t, db, 1, countHidden, "0")
			must(t, db.Close())
		}
		if left == 0 {
			t.Fatal("nothing was ever left to remove when the process was killed")
		}
	})
}

// jobVariable is the environment variable that has a file for a test to do its job on, in a process of its own.
const jobVariable = "SQLITE_TEST_JOB"

// job runs a test that has two sides. In a process of its own the test does its job on a file, and tells numbers, until it is killed.
// Here, child starts such a process, kills it as soon as it has told a number of at least so much, and returns the last one that
// it told.
func job(t *testing.T, do func(path string, tell func(int)) error, watch func(child func(path string, until int) int)) {
	t.Helper()
	if path, ok := os.LookupEnv(jobVariable); ok {
		must(t, do(path, func(n int) {
			_, err := fmt.Fprintln(os.Stderr, n)
			must(t, err)
		}))
		return
	}
	t.Parallel()
	watch(func(path string, until int) int {
		binary, err := os.Executable()
		must(t, err)
		command := exec.CommandContext(t.Context(), binary, "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), jobVariable+"="+path)
		output, err := command.StderrPipe()
		must(t, err)
		must(t, command.Start())
		last, lines := 0, bufio.NewScanner(output)
		for lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Errorf("a process said: %s", lines.Text())
				continue
			}
			if last = n; n >= until {
				_ = command.Process.Kill() // it may have been killed already; it goes on telling until it is gone
			}
		}
		_ = command.Wait() // it was killed
		if last < until {
			t.Fatalf("a process ended when it had told %d, before %d", last, until)
		}
		return last
	})
}
