package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

const (
	storedDocuments = "SELECT count(*) FROM eventsourcing.documents_1"
	storedModels    = "SELECT string_agg(coalesce(name, 'none'), ' ' ORDER BY name) FROM eventsourcing.models_1"
)

// TestDroppedDocumentsAreRemoved drops and switches models of several slices. The next call sees nothing of what was there, and the
// database gets rid of it.
func TestDroppedDocumentsAreRemoved(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.commit(documents("m", 0, 1000, 1)...)
	p.must(p.models.Drop(p.ctx, "m"))
	p.wantModel("m", "")
	p.commit(documents("m", 0, 3, 1)...)
	p.commit(documents("aside", 0, 1000, 1)...)
	p.must(p.models.Switch(p.ctx, es.Replacement{Model: "m", With: "aside"}))
	p.must(p.models.Switch(p.ctx, es.Replacement{Model: "n", With: "m"}))
	p.until("n", storedModels)
	p.until("1000", storedDocuments)
}

// TestWhatAProcessHasLeftIsRemovedByTheNext opens a store in which a model has no name any more.
func TestWhatAProcessHasLeftIsRemovedByTheNext(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.commit(documents("m", 0, 600, 1)...)
	p.commit(documents("kept", 0, 3, 1)...)
	p.exec("UPDATE eventsourcing.models_1 SET name = NULL WHERE name = 'm'") // and ended before it removed anything
	openDB(t, postgres.Config{URL: p.url})
	p.until("3", storedDocuments)
	p.until("kept", storedModels)
}

// TestASweeperLeavesToOthersWhatTheyHaveInHand removes a model of which another process has some documents in hand. It waits for none of
// them, and whoever is the last removes the model.
func TestASweeperLeavesToOthersWhatTheyHaveInHand(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.commit(documents("m", 0, 600, 1)...)
	tx := p.begin(pgx.TxOptions{})
	_, err := tx.Exec(p.ctx, "SELECT FROM eventsourcing.documents_1 ORDER BY key LIMIT 7 FOR UPDATE")
	p.must(err)
	p.must(p.models.Drop(p.ctx, "m"))
	p.until("7", storedDocuments)
	p.must(tx.Rollback(p.ctx))
	p.must(p.models.Drop(p.ctx, "another")) // which is looked for, too
	p.until("0", storedDocuments)
	p.until("", storedModels)
}

// TestSweepersSideBySideRemoveAll has several processes remove the same models, while others are made.
func TestSweepersSideBySideRemoveAll(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	handles := []es.ReadModels{p.models}
	for range 3 {
		handles = append(handles, openDB(t, postgres.Config{URL: p.url}).ReadModels())
	}
	for round := range 8 {
		p.commit(documents("old", 0, 700, 1)...)
		for _, models := range handles { // each looks for what nobody sees
			p.must(models.Drop(p.ctx, "old"))
		}
		p.commit(documents("new", 0, 3, 1)...)
		p.wantModel("old", "")
		if docs, err := handles[round%len(handles)].List(p.ctx, es.ListQuery{Model: "new"}); err != nil || len(docs) != 3 {
			t.Fatalf("a new model has %d of 3 documents (%v)", len(docs), err)
		}
	}
	p.until("3", storedDocuments)
	p.until("new", storedModels)
}

// TestASweeperTriesAgain has the database turn a sweeper away for a while.
func TestASweeperTriesAgain(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.commit(documents("m", 0, 3, 1)...)
	p.exec("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not now'; END$$")
	p.exec("CREATE TRIGGER refuse BEFORE DELETE ON eventsourcing.documents_1 EXECUTE FUNCTION refuse()")
	p.must(p.models.Drop(p.ctx, "m"))
	p.until("3", storedDocuments)
	p.exec("DROP TRIGGER refuse ON eventsourcing.documents_1")
	p.until("0", storedDocuments)
}
