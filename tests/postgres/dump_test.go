package postgres_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// TestADumpGoesOnInANewCluster dumps a database that is in use and restores it on another server, whose transactions count from the
// beginning. Everything goes on there: positions, checkpoints, revisions, leases, what waits and what was handled.
func TestADumpGoesOnInANewCluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	old, fresh := pgserver.ForTest(t, pgserver.Config{NoSync: true}), pgserver.ForTest(t, pgserver.Config{NoSync: true})
	name, err := old.CreateDatabase(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before := opened(t, old.URL(name))
	var checkpoint es.Checkpoint
	first := es.NewMessage("order-1", "OrderPlaced", []byte(`{"n":1}`))
	for n := range 20 {
		m := first
		if n > 0 {
			m = es.NewMessage("order-1", "OrderChanged", []byte(`{}`))
		}
		if _, err := before.Events().Append(ctx, es.AppendTo("order-1", es.Exactly(int64(n)), m)); err != nil {
			t.Fatal(err)
		}
		if n == 9 {
			if checkpoint, err = before.Events().Head(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	progress := es.Progress{Generation: 1, Checkpoint: checkpoint}
	commit := es.Commit{
		Writes:   []es.Write{{Model: "orders", Key: "1", Data: []byte("{}")}},
		Progress: es.ProgressUpdate{Projection: "orders", To: progress},
	}
	waiting := es.NewMessage("mail-1", "MailWanted", []byte(`{}`))
	handled := []es.Reservation{{ID: first.ID}}
	lease, leased := before.Leases().Acquire(ctx, "daily", "me", time.Hour)
	err = errors.Join(
		before.ReadModels().Commit(ctx, commit), before.Outbox().Enqueue(ctx, waiting), leased,
		before.Dedupe().Reserve(ctx, "consumer", handled, time.Minute), before.Dedupe().Complete(ctx, "consumer", handled),
	)
	if err != nil {
		t.Fatal(err)
	}
	head, err := before.Events().Head(ctx)
	if err != nil {
		t.Fatal(err)
	}

	after := opened(t, moved(t, old, name, fresh))
	if now, err := after.Events().Head(ctx); err != nil || now != head {
		t.Errorf("the head is %+v (%v), and was %+v", now, err, head)
	}
	positions := 0
	for _, err := range after.Events().Read(ctx, es.Query{}.Resume(checkpoint)) {
		if err != nil {
			t.Fatal(err)
		}
		positions++
	}
	if positions != 10 {
		t.Errorf("behind the checkpoint are %d events, and there were 10", positions)
	}
	again, err := after.Events().Append(ctx, es.AppendTo("order-1", es.NoStream, first))
	if err != nil || again.Existing != 1 || again.Places[0].Version != 1 {
		t.Errorf("the first event again: %+v, %v", again, err)
	}
	more, err := after.Events().Append(ctx, es.AppendTo("order-1", es.Exactly(20), es.NewMessage("order-1", "OrderSent", []byte(`{}`))))
	if err != nil || more.Position <= head.Position {
		t.Errorf("one event more: %+v, %v; the head was %+v", more, err, head)
	}
	if now, err := after.Events().Wait(ctx, head); err != nil || now.Position != more.Position {
		t.Errorf("the head is %+v (%v), and the last event is at %d", now, err, more.Position)
	}
	if at, err := after.ReadModels().Progress(ctx, "orders"); err != nil || !at.Same(progress) {
		t.Errorf("the projection has come to %+v (%v), and had come to %+v", at, err, progress)
	}
	next := es.Commit{
		Writes:   []es.Write{{Model: "orders", Key: "1", Data: []byte("[]"), Expect: es.StreamExists}},
		Progress: es.ProgressUpdate{Projection: "orders", From: progress, To: es.Progress{Generation: 1, Checkpoint: head}},
		Fence:    &lease,
	}
	if err := after.ReadModels().Commit(ctx, next); err != nil {
		t.Errorf("commit: %v", err)
	}
	entries := make([]es.Entry, 2)
	if n, err := after.Outbox().Claim(ctx, entries, es.ClaimOptions{Owner: "me"}); err != nil || n != 1 || entries[0].ID != waiting.ID {
		t.Errorf("%d entries wait (%v), and one did", n, err)
	}
	handled = []es.Reservation{{ID: first.ID}}
	if err := after.Dedupe().Reserve(ctx, "consumer", handled, time.Minute); err != nil || handled[0].State != es.ReserveDone {
		t.Errorf("what was handled is %+v (%v)", handled, err)
	}
}

func opened(t *testing.T, url string) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// moved dumps a database, restores it on another server, and returns where it is there.
func moved(t *testing.T, from *pgserver.Server, name string, to *pgserver.Server) (url string) {
	t.Helper()
	restored, err := to.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	url = to.URL(restored)
	file := filepath.Join(t.TempDir(), "dump")
	for _, command := range [][]string{
		{"pg_dump", "-Fc", "-f", file, from.URL(name)},
		{"pg_restore", "--exit-on-error", "-d", url, file},
	} {
		program := filepath.Join(from.Version().Bin, command[0])
		out, err := exec.CommandContext(t.Context(), program, command[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command[0], err, out)
		}
	}
	return url
}
