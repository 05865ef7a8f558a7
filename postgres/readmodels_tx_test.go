package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

func (p *program) lease(ttl time.Duration) *es.Lease {
	p.Helper()
	l, err := p.db.Leases().Acquire(p.ctx, "n", "A", ttl)
	p.must(err)
	return &l
}

// TestNobodyTakesALeaseOverBeforeACommitUnderItIsDone takes over a lease under which a commit is open.
func TestNobodyTakesALeaseOverBeforeACommitUnderItIsDone(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.commit(document("a", "old", es.Any)) // who makes a model has its name until the end
	lease := p.lease(time.Hour)
	tx := p.begin(pgx.TxOptions{})
	p.must(p.models.CommitTx(p.ctx, tx, es.Commit{Writes: []es.Write{document("k", "old", es.Any)}, Fence: lease}))
	p.must(p.models.Commit(p.ctx, es.Commit{Writes: []es.Write{document("l", "old", es.Any)}, Fence: lease})) // others under it do not wait
	taken := make(chan error, 1)
	go func() {
		_, err := p.own.Exec(p.ctx, "UPDATE eventsourcing.leases_1 SET owner = 'B', token = token + 1")
		taken <- err
	}()
	p.until("1", waiting)
	p.must(tx.Commit(p.ctx))
	p.must(<-taken)
	p.wantModel("m", "a=old k=old l=old")
	wantError(t, "a commit under the lease of before", p.models.Commit(p.ctx, es.Commit{Fence: lease}), es.ErrLeaseLost)
}

// TestACommitIsLateWhenItsLeaseGoesWhileItWaits has the row of a lease locked when a commit comes to it. What counts is whose lease it is,
// and what time it is, when the lock is gone.
func TestACommitIsLateWhenItsLeaseGoesWhileItWaits(t *testing.T) {
	t.Parallel()
	const now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
	for name, meanwhile := range map[string]string{
		"to another":      "UPDATE eventsourcing.leases_1 SET owner = 'B', token = token + 1",
		"to a later self": "UPDATE eventsourcing.leases_1 SET token = token + 1",
		"by its release":  "UPDATE eventsourcing.leases_1 SET until = 0",
		"by its time":     "SELECT FROM eventsourcing.leases_1 FOR UPDATE",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, postgres.Config{})
			p.commit(document("k", "old", es.Any))
			lease := p.lease(time.Second)
			tx := p.begin(pgx.TxOptions{})
			_, err := tx.Exec(p.ctx, meanwhile)
			p.must(err)
			done := p.committing(es.Commit{
				Writes: []es.Write{document("k", "late", es.Any), document("new", "late", es.NoStream)}, Fence: lease,
				Progress: es.ProgressUpdate{Projection: "m", To: es.Progress{Epoch: 1}},
			})
			p.until("1", waiting)
			p.until("true", "SELECT until < "+now+" FROM eventsourcing.leases_1")
			p.must(tx.Commit(p.ctx))
			wantError(t, "the commit", <-done, es.ErrLeaseLost)
			p.wantModel("m", "k=old")
			p.wantNothingUnfinished()
		})
	}
}

// TestAFenceThatCannotBeIsLost gives leases that PostgreSQL cannot be asked for.
func TestAFenceThatCannotBeIsLost(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	for _, lease := range []es.Lease{{}, {Name: "n\x00", Owner: "A", Token: 1}, {Name: "n", Owner: "\xff", Token: 1}} {
		wantError(t, "a commit", p.models.Commit(p.ctx, es.Commit{Fence: &lease}), es.ErrLeaseLost)
		tx := p.begin(pgx.TxOptions{})
		wantError(t, "a commit in a transaction", p.models.CommitTx(p.ctx, tx, es.Commit{Fence: &lease}), es.ErrLeaseLost)
		p.must(tx.Commit(p.ctx))
	}
}

// TestARefusedCommitLeavesATransactionAsItWas refuses commits in a transaction, for one reason after the other. Nothing is left of them, and
// the statements of the program are planned as before.
func TestARefusedCommitLeavesATransactionAsItWas(t *testing.T) {
	t.Parallel()
	const settings = "SELECT concat_ws(' ', current_setting('enable_seqscan'), current_setting('enable_bitmapscan'), " +
		"current_setting('enable_mergejoin'), current_setting('jit'), current_setting('plan_cache_mode'))"
	const stored = "SELECT concat_ws(' ', (SELECT count(*) FROM eventsourcing.documents_1), (SELECT count(*) FROM eventsourcing.progress_1))"
	p := newProgram(t, postgres.Config{})
	p.commit(document("a", "old", es.Any), document("b", "old", es.Any))
	writes := []es.Write{document("a", "new", es.Any), document("new", "new", es.NoStream), deletion("b"), deletion("none")}
	begin := es.ProgressUpdate{Projection: "m", To: es.Progress{Epoch: 1}}
	tx := p.begin(pgx.TxOptions{})
	value := func(query string) (value string) {
		p.must(tx.QueryRow(p.ctx, query).Scan(&value))
		return value
	}
	before := value(settings)
	for want, c := range map[error]es.Commit{
		es.ErrLeaseLost: {Writes: writes, Progress: begin, Fence: &es.Lease{Name: "n", Owner: "A", Token: 1}},
		es.ErrConflict:  {Writes: append([]es.Write{document("other", "", es.StreamExists)}, writes...), Progress: begin},
		es.ErrInvalid:   {Writes: append(writes, writes...), Progress: begin},
	} {
		wantError(t, "the commit", p.models.CommitTx(p.ctx, tx, c), want)
		if got := value(stored); got != "2 0" {
			t.Errorf("%v: there are %s documents and checkpoints", want, got)
		}
	}
	moved := es.Commit{Writes: writes, Progress: es.ProgressUpdate{Projection: "m", From: es.Progress{Epoch: 7}}}
	err := p.models.CommitTx(p.ctx, tx, moved)
	if got, ok := errors.AsType[*es.ProjectionError](err); !ok || got.Actual != (es.Progress{}) {
		t.Errorf("a commit from where the projection is not gives %v", err)
	}
	p.must(p.models.CommitTx(p.ctx, tx, es.Commit{Writes: writes, Progress: begin}))
	p.must(p.models.CommitTx(p.ctx, tx, es.Commit{Writes: []es.Write{document("new", "newer", es.StreamExists)}}))
	if after := value(settings); after != before {
		t.Errorf("the settings are %q, and were %q before", after, before)
	}
	p.must(tx.Commit(p.ctx))
	p.wantModel("m", "a=new new=newer")
	p.wantNothingUnfinished()
}

// TestACommitInAnOldSnapshotIsRightOrBusy makes commits in a transaction that keeps its first snapshot, when others have changed what they
// are about since.
func TestACommitInAnOldSnapshotIsRightOrBusy(t *testing.T) {
	t.Parallel()
	first, second := es.Progress{Epoch: 1}, es.Progress{Epoch: 2}
	move := es.Commit{Progress: es.ProgressUpdate{Projection: "m", From: first, To: second}}
	for name, test := range map[string]struct {
		since  func(p *program, lease *es.Lease)
		commit es.Commit
		want   error
	}{
		"nothing": {func(*program, *es.Lease) {}, es.Commit{
			Writes: []es.Write{document("a", "late", es.StreamExists), document("new", "late", es.NoStream)}, Progress: move.Progress,
		}, nil},
		"another document": {
			func(p *program, _ *es.Lease) { p.commit(document("b", "", es.Any)) },
			es.Commit{Writes: []es.Write{document("a", "late", es.Any)}}, nil,
		},
		"the document": {
			func(p *program, _ *es.Lease) { p.commit(document("a", "meanwhile", es.Any)) },
			es.Commit{Writes: []es.Write{document("a", "late", es.Any)}}, postgres.ErrBusy,
		},
		"the document that is to be deleted": {
			func(p *program, _ *es.Lease) { p.commit(document("a", "meanwhile", es.Any)) },
			es.Commit{Writes: []es.Write{deletion("a")}}, postgres.ErrBusy,
		},
		"a new document": {
			func(p *program, _ *es.Lease) { p.commit(document("new", "", es.Any)) },
			es.Commit{Writes: []es.Write{document("new", "late", es.NoStream)}}, postgres.ErrBusy,
		},
		"a new document that is to be deleted": {
			func(p *program, _ *es.Lease) { p.commit(document("new", "", es.Any)) },
			es.Commit{Writes: []es.Write{deletion("new")}}, postgres.ErrBusy,
		},
		"the checkpoint": {func(p *program, _ *es.Lease) { p.must(p.models.Commit(p.ctx, move)) }, move, postgres.ErrBusy},
		"a new checkpoint": {
			func(p *program, _ *es.Lease) {
				p.must(p.models.Commit(p.ctx, es.Commit{Progress: es.ProgressUpdate{Projection: "new", To: first}}))
			},
			es.Commit{Progress: es.ProgressUpdate{Projection: "new", To: first}}, postgres.ErrBusy,
		},
		"a new model": {
			func(p *program, _ *es.Lease) { p.commit(es.Write{Model: "new", Key: "a"}) },
			es.Commit{Writes: []es.Write{{Model: "new", Key: "b"}}}, postgres.ErrBusy,
		},
		"the model": {
			func(p *program, _ *es.Lease) { p.must(p.models.Drop(p.ctx, "m")) },
			es.Commit{Writes: []es.Write{document("a", "late", es.Any)}}, postgres.ErrBusy,
		},
		"the lease": {
			func(p *program, lease *es.Lease) {
				_, err := p.db.Leases().Renew(p.ctx, *lease, time.Hour)
				p.must(err)
			},
			es.Commit{Fence: &es.Lease{Name: "n", Owner: "A", Token: 1}}, postgres.ErrBusy,
		},
		"a new lease": {
			func(p *program, _ *es.Lease) {
				_, err := p.db.Leases().Acquire(p.ctx, "new", "A", time.Hour)
				p.must(err)
			},
			es.Commit{Fence: &es.Lease{Name: "new", Owner: "A", Token: 1}}, postgres.ErrBusy,
		},
	} {
		for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
			t.Run(name+" "+string(level), func(t *testing.T) {
				t.Parallel()
				p := newProgram(t, postgres.Config{})
				lease := p.lease(time.Hour)
				p.commit(document("a", "first", es.Any))
				p.must(p.models.Commit(p.ctx, es.Commit{Progress: es.ProgressUpdate{Projection: "m", To: first}}))
				tx := p.begin(pgx.TxOptions{IsoLevel: level})
				_, err := tx.Exec(p.ctx, "SELECT count(*) FROM orders") // the snapshot is that of the first statement
				p.must(err)
				test.since(p, lease)
				if err := p.models.CommitTx(p.ctx, tx, test.commit); !errors.Is(err, test.want) {
					t.Fatalf("it gives %v, want %v", err, test.want)
				}
				if test.want == nil {
					p.must(tx.Commit(p.ctx))
					p.wantNothingUnfinished()
				}
			})
		}
	}
}
