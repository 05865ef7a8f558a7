package postgres_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// Switches and drops as they are in the database, for a test that holds them open.
const (
	hideM     = "UPDATE eventsourcing.models_1 SET name = NULL WHERE name = 'm'; DELETE FROM eventsourcing.progress_1 WHERE projection = 'm'"
	renameToM = "UPDATE eventsourcing.models_1 SET name = 'm' WHERE name = 'aside'; " +
		"UPDATE eventsourcing.progress_1 SET projection = 'm' WHERE projection = 'aside'"
)

// aside makes a write of a model that is built aside.
func aside(key, data string) es.Write { return es.Write{Model: "aside", Key: key, Data: []byte(data)} }

// TestACommitThatMeetsASwitchIsForWhatIsThereThen begins commits while a switch or a drop is under way. None writes to what nobody
// sees any more.
func TestACommitThatMeetsASwitchIsForWhatIsThereThen(t *testing.T) {
	t.Parallel()
	old := es.Progress{Generation: 1}
	for name, test := range map[string]struct {
		under  string
		commit es.Commit
		want   string
		err    error
	}{
		"a put into what was switched": {
			hideM + ";" + renameToM, es.Commit{Writes: []es.Write{document("k", "late", es.Any)}}, "a=new k=late", nil,
		},
		"a change of what was switched": {
			hideM + ";" + renameToM, es.Commit{Writes: []es.Write{document("a", "late", es.StreamExists), deletion("none")}}, "a=late", nil,
		},
		"a change of what is no more": {
			hideM + ";" + renameToM, es.Commit{Writes: []es.Write{document("b", "late", es.StreamExists)}}, "a=new", es.ErrConflict,
		},
		"a projection of what was switched": {
			hideM + ";" + renameToM, es.Commit{
				Writes:   []es.Write{document("k", "late", es.Any)},
				Progress: es.ProgressUpdate{Projection: "m", From: old, To: es.Progress{Generation: 1, Epoch: 1}},
			}, "a=new", es.ErrConflict,
		},
		"a put into what was dropped":      {hideM, es.Commit{Writes: []es.Write{document("k", "late", es.Any)}}, "k=late", nil},
		"a deletion from what was dropped": {hideM, es.Commit{Writes: []es.Write{deletion("a")}}, "", nil},
		"a projection of what was dropped": {
			hideM, es.Commit{
				Writes:   []es.Write{document("k", "late", es.Any)},
				Progress: es.ProgressUpdate{Projection: "m", From: old, To: es.Progress{Generation: 1, Epoch: 1}},
			}, "", es.ErrConflict,
		},
		"one that builds anew": {
			hideM, es.Commit{
				Writes:   []es.Write{document("k", "late", es.NoStream)},
				Progress: es.ProgressUpdate{Projection: "m", To: es.Progress{Generation: 2}},
			}, "k=late", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, postgres.Config{})
			p.must(p.models.Commit(p.ctx, es.Commit{
				Writes: []es.Write{document("a", "old", es.Any), document("b", "old", es.Any)}, Progress: es.ProgressUpdate{Projection: "m", To: old},
			}))
			p.must(p.models.Commit(p.ctx, es.Commit{
				Writes: []es.Write{aside("a", "new")}, Progress: es.ProgressUpdate{Projection: "aside", To: es.Progress{Generation: 2}},
			}))
			tx := p.begin(pgx.TxOptions{})
			_, err := tx.Exec(p.ctx, test.under, pgx.QueryExecModeSimpleProtocol)
			p.must(err)
			done := p.committing(test.commit)
			p.until("1", waiting)
			p.must(tx.Commit(p.ctx))
			if err = <-done; !errors.Is(err, test.err) {
				t.Errorf("it gives %v, want %v", err, test.err)
			}
			p.wantModel("m", test.want)
			p.wantNothingUnfinished()
			if moved, ok := errors.AsType[*es.ProjectionError](err); ok {
				at, err := p.models.Progress(p.ctx, "m")
				if p.must(err); moved.Actual != at {
					t.Errorf("the error says that the projection is at %+v, and it is at %+v", moved.Actual, at)
				}
			}
			const hidden = "SELECT string_agg(key || convert_from(data, 'UTF8'), ' ' ORDER BY key) FROM eventsourcing.documents_1 d " +
				"JOIN eventsourcing.models_1 m USING (model) WHERE m.name IS NULL"
			if got := p.value(hidden); got != "aold bold" {
				t.Errorf("nobody sees %q any more, want what was there before", got)
			}
		})
	}
}

// TestASwitchAndADropWaitForACommit hold a commit open, and take away what it has written, or leave it with its checkpoint.
func TestASwitchAndADropWaitForACommit(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		call func(p *program) error
		want string
	}{
		"drop": {func(p *program) error { return p.models.Drop(p.ctx, "m") }, ""},
		"switch": {func(p *program) error {
			return p.models.Switch(p.ctx, es.Replacement{Model: "m", With: "aside"})
		}, "a=new"},
		"switch the other way": {func(p *program) error {
			return p.models.Switch(p.ctx, es.Replacement{Model: "n", With: "m"})
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, postgres.Config{})
			p.commit(document("a", "old", es.Any), aside("a", "new"))
			tx := p.begin(pgx.TxOptions{})
			p.must(p.models.CommitTx(p.ctx, tx, es.Commit{
				Writes: []es.Write{document("k", "late", es.Any)}, Progress: es.ProgressUpdate{Projection: "m", To: es.Progress{Generation: 1}},
			}))
			done := make(chan error, 1)
			go func() { done <- test.call(p) }()
			p.until("1", waiting)
			p.must(tx.Commit(p.ctx))
			p.must(<-done)
			p.wantModel("m", test.want)
			if at, err := p.models.Progress(p.ctx, "m"); err != nil || at != (es.Progress{}) {
				t.Errorf("the projection is at %+v (%v)", at, err)
			}
		})
	}
}

// TestASwitchTakesTheNameOfAModelThatIsJustMade has a switch meet a commit that makes the model, and its checkpoint, which the switch is
// to put another one into the place of.
func TestASwitchTakesTheNameOfAModelThatIsJustMade(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]es.Commit{
		"documents":    {Writes: []es.Write{document("k", "late", es.Any)}},
		"a checkpoint": {Progress: es.ProgressUpdate{Projection: "m", To: es.Progress{Generation: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, postgres.Config{})
			next := es.Progress{Generation: 2}
			p.must(p.models.Commit(p.ctx, es.Commit{
				Writes: []es.Write{aside("a", "new")}, Progress: es.ProgressUpdate{Projection: "aside", To: next},
			}))
			tx := p.begin(pgx.TxOptions{})
			p.must(p.models.CommitTx(p.ctx, tx, c))
			done := make(chan error, 1)
			go func() { done <- p.models.Switch(p.ctx, es.Replacement{Model: "m", With: "aside"}) }()
			p.until("1", waiting)
			p.must(tx.Commit(p.ctx))
			p.must(<-done)
			p.wantModel("m", "a=new")
			if at, err := p.models.Progress(p.ctx, "m"); err != nil || at != next {
				t.Errorf("the projection is at %+v (%v), want %+v", at, err, next)
			}
		})
	}
}

// TestADropLeavesAModelThatIsBeingMadeWhole drops what a commit that is under way makes: it was not there yet.
func TestADropLeavesAModelThatIsBeingMadeWhole(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	first := es.Progress{Generation: 1}
	tx := p.begin(pgx.TxOptions{})
	p.must(p.models.CommitTx(p.ctx, tx, es.Commit{
		Writes: []es.Write{document("k", "first", es.Any)}, Progress: es.ProgressUpdate{Projection: "m", To: first},
	}))
	p.must(p.models.Drop(p.ctx, "m"))
	p.must(tx.Commit(p.ctx))
	p.wantModel("m", "k=first")
	if at, err := p.models.Progress(p.ctx, "m"); err != nil || at != first {
		t.Errorf("the projection is at %+v (%v), want %+v", at, err, first)
	}
}
