package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// crowd runs functions in goroutines of their own, again and again, until those that are counted are done.
type crowd struct {
	done context.Context // how the others learn that they are done
	end  context.CancelFunc

	counted, others sync.WaitGroup
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{}
	c.done, c.end = context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(c.end)
	return c
}

// times runs a function so often, with a source of chance of its own.
func (c *crowd) times(n int, do func(r *rand.Rand)) {
	r := rand.New(rand.NewPCG(uint64(n), rand.Uint64()))
	c.counted.Go(func() {
		for range n {
			do(r)
		}
	})
}

// meanwhile runs a function until the others are done, and once at least.
func (c *crowd) meanwhile(do func()) {
	c.others.Go(func() {
		for {
			do()
			if c.done.Err() != nil {
				return
			}
		}
	})
}

func (c *crowd) wait() {
	c.counted.Wait()
	c.end()
	c.others.Wait()
}

// TestRevisionsRiseWhateverIsDeletedMeanwhile has many put and delete the same document, and others look at it. None sees a revision that is
// lower than one it saw before, or that has another content.
func TestRevisionsRiseWhateverIsDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.commit(document("other", "", es.Any))
	all := newCrowd(t)
	for range 6 {
		all.times(150, func(r *rand.Rand) {
			w := document("k", strconv.Itoa(r.Int()), es.Any)
			w.Delete = r.IntN(2) == 0
			if err := p.models.Commit(p.ctx, es.Commit{Writes: []es.Write{w}}); err != nil {
				t.Error(err)
			}
		})
	}
	for range 2 {
		last := es.Document{}
		all.meanwhile(func() {
			docs, err := p.models.Load(p.ctx, "m", "k")
			switch {
			case err != nil:
				t.Error(err)
			case docs[0].Revision == 0:
			case docs[0].Revision < last.Revision, docs[0].Revision == last.Revision && string(docs[0].Data) != string(last.Data):
				t.Errorf("after %d (%s) the revision is %d (%s)", last.Revision, last.Data, docs[0].Revision, docs[0].Data)
			}
			if err == nil && docs[0].Revision > 0 {
				last = docs[0]
			}
		})
	}
	all.wait()
}

// TestAModelIsWhereItsCheckpointIsWhateverIsSwitched has projections build models and others drop them and put them into each other's place,
// all at once. Who looks at a model and its checkpoint at one moment finds them at the same position.
func TestAModelIsWhereItsCheckpointIsWhateverIsSwitched(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	names := []string{"m", "m.next", "m.old"}
	anyOf := func(r *rand.Rand) string { return names[r.IntN(len(names))] }
	all := newCrowd(t)
	for range 3 {
		all.times(150, func(r *rand.Rand) {
			name := anyOf(r)
			from, err := p.models.Progress(p.ctx, name)
			if err != nil {
				t.Error(err)
				return
			}
			to := from
			to.Position++
			c := es.Commit{Progress: es.ProgressUpdate{Projection: name, From: from, To: to}}
			for _, key := range r.Perm(3) {
				c.Writes = append(c.Writes, es.Write{Model: name, Key: strconv.Itoa(key), Data: strconv.AppendInt(nil, to.Position, 10)})
			}
			if r.IntN(4) == 0 { // which is locked before it is written
				c.Writes = append(c.Writes, es.Write{Model: name, Key: "none", Delete: true})
			}
			if err := p.models.Commit(p.ctx, c); err != nil && !errors.Is(err, es.ErrConflict) {
				t.Errorf("commit: %v", err)
			}
		})
	}
	for range 2 {
		all.times(60, func(r *rand.Rand) {
			var err error
			if r.IntN(4) == 0 {
				err = p.models.Drop(p.ctx, anyOf(r))
			} else {
				order := r.Perm(len(names))
				err = p.models.Switch(p.ctx, es.Replacement{Model: names[order[0]], With: names[order[1]]})
			}
			if err != nil && !errors.Is(err, es.ErrNotFound) {
				t.Errorf("switch or drop: %v", err)
			}
		})
	}
	all.meanwhile(func() {
		for _, name := range names {
			err := p.db.InTx(p.ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx *postgres.Tx) error {
				docs, err := tx.Load(name, "0", "1", "2")
				if err != nil {
					return err
				}
				at, err := tx.Progress(name)
				if got, want := dataOf(docs), wantAt(at); err == nil && got != want {
					t.Errorf("model %s is %q, and its checkpoint at %d", name, got, at.Position)
				}
				return err
			})
			if err != nil {
				t.Errorf("look: %v", err)
			}
		}
	})
	all.wait()
	p.wantNothingUnfinished()
}

func wantAt(p es.Progress) string {
	if p.Position == 0 {
		return "0= 1= 2="
	}
	return fmt.Sprintf("0=%[1]d 1=%[1]d 2=%[1]d", p.Position)
}

// TestAFenceHoldsWhateverMeets has owners take a lease over from each other all the time, which is shorter than some of their commits. The
// database itself turns down what comes under an earlier token than what it has, and there is never anything to turn down.
func TestAFenceHoldsWhateverMeets(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.exec("CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN " +
		"IF OLD.revision > 0 AND NEW.revision > 0 AND (convert_from(NEW.data, 'UTF8')::bigint < convert_from(OLD.data, 'UTF8')::bigint " +
		"OR NEW.revision <= OLD.revision) THEN RAISE 'token % after %, revision % after %', " +
		"NEW.data, OLD.data, NEW.revision, OLD.revision; END IF; RETURN NEW; END$$")
	p.exec("CREATE TRIGGER watch BEFORE UPDATE ON eventsourcing.documents_1 FOR EACH ROW EXECUTE FUNCTION watch()")
	p.commit(document("k", "0", es.Any))
	all := newCrowd(t)
	for owner := range 4 {
		all.times(100, func(r *rand.Rand) {
			lease, err := p.db.Leases().Acquire(p.ctx, "n", strconv.Itoa(owner), time.Duration(r.IntN(3000))*time.Microsecond+1)
			if errors.Is(err, es.ErrLeaseHeld) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				w := document("k", strconv.FormatInt(lease.Token, 10), es.Any)
				if r.IntN(2) == 0 {
					w.Expect = es.StreamExists
				}
				if err := p.models.Commit(p.ctx, es.Commit{Writes: []es.Write{w}, Fence: &lease}); err != nil && !errors.Is(err, es.ErrLeaseLost) {
					t.Error(err)
				}
			}
		})
	}
	all.wait()
	p.wantNothingUnfinished()
}

// TestARevisionRisesThoughTheDocumentWasDeletedMeanwhile stops a commit between the moment it draws a revision and the moment it creates the
// document. Meanwhile another one creates the document, with a later revision, and deletes it.
func TestARevisionRisesThoughTheDocumentWasDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.commit(document("other", "", es.Any))
	p.exec("CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS " +
		"$$BEGIN IF NEW.data = 'late' THEN PERFORM pg_advisory_xact_lock(7); END IF; RETURN NEW; END$$")
	p.exec("CREATE TRIGGER halt BEFORE INSERT ON eventsourcing.documents_1 FOR EACH ROW EXECUTE FUNCTION halt()")
	tx := p.begin(pgx.TxOptions{})
	_, err := tx.Exec(p.ctx, "SELECT pg_advisory_xact_lock(7)")
	p.must(err)
	done := p.committing(es.Commit{Writes: []es.Write{document("k", "late", es.Any), document("other", "later", es.Any)}})
	p.until("1", waiting)
	p.commit(document("k", "earlier", es.Any))
	before, err := p.models.Load(p.ctx, "m", "k", "other")
	p.must(err)
	p.commit(deletion("k"))
	p.must(tx.Commit(p.ctx))
	p.must(<-done)
	after, err := p.models.Load(p.ctx, "m", "k", "other")
	p.must(err)
	p.wantModel("m", "k=late other=later")
	for i := range after {
		if after[i].Revision <= before[i].Revision {
			t.Errorf("%s has the revision %d, and had %d before it was deleted", after[i].Key, after[i].Revision, before[i].Revision)
		}
	}
}
