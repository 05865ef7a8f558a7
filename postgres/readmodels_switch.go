package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Drop removes a model, and the checkpoint of the projection of that name. It costs the same however many documents there are; they are
// removed afterwards.
func (r *ReadModels) Drop(ctx context.Context, model string) error {
	if err := r.db.handle.begin(ctx); err != nil {
		return err
	}
	defer r.db.handle.leave()
	if err := es.ValidateName("model", model); err != nil {
		return err
	}
	err := r.db.pipeline(ctx, synced, func(b *pgx.Batch) {
		b.Queue(r.sql.lockAllProgress, []string{model})
		b.Queue(r.sql.lockAllModels, []string{model})
		b.Queue(r.sql.drop, model)
	})
	if err == nil {
		r.sweeper.wake()
	}
	return err
}

// Switch puts models that were built aside into the place of those that are read, all in one step. The documents keep the revisions
// they were built with. It costs the same however many documents there are.
func (r *ReadModels) Switch(ctx context.Context, replacements ...es.Replacement) error {
	if err := r.db.handle.begin(ctx); err != nil {
		return err
	}
	defer r.db.handle.leave()
	if err := validateReplacements(replacements); err != nil {
		return err
	}
	if len(replacements) == 0 {
		return nil
	}
	err := r.db.transact(ctx, func(tx pgx.Tx) error { return r.switchIn(ctx, tx, replacements) })
	for try := 1; isTaken(err) && try < tries; try++ { // a name, by a commit that has just made the first document or checkpoint under it
		err = r.db.transact(ctx, func(tx pgx.Tx) error { return r.switchIn(ctx, tx, replacements) })
	}
	if err == nil {
		r.sweeper.wake()
	}
	return err
}

// switchIn switches in a transaction: checkpoints before models, and all in the order of their names, as a commit takes them.
func (r *ReadModels) switchIn(ctx context.Context, tx pgx.Tx, replacements []es.Replacement) error {
	names := make([]string, 0, 2*len(replacements))
	for _, rep := range replacements {
		names = append(names, rep.Model, rep.With)
	}
	slices.Sort(names)
	var b pgx.Batch
	b.Queue(byIndex + inOrder)
	b.Queue(r.sql.lockAllProgress, names)
	b.Queue(r.sql.lockAllModels, names)
	missing := -1
	for i, rep := range replacements {
		b.Queue(r.sql.any, rep.With).QueryRow(func(row pgx.Row) error {
			there := false
			err := row.Scan(&there)
			if err == nil && !there && missing < 0 {
				missing = i
			}
			return err
		})
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	if missing >= 0 {
		rep := replacements[missing]
		return fmt.Errorf("replacement %q of model %q has neither documents nor a checkpoint: %w", rep.With, rep.Model, es.ErrNotFound)
	}
	b = pgx.Batch{}
	for _, rep := range replacements {
		b.Queue(r.sql.removeProgress, rep.Model)
		b.Queue(r.sql.renameProgress, rep.With, rep.Model)
		b.Queue(r.sql.hideModel, rep.Model)
		b.Queue(r.sql.renameModel, rep.With, rep.Model)
	}
	return tx.SendBatch(ctx, &b).Close()
}

// isTaken tells whether something could not get a name that it must have for itself.
func isTaken(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && server.Code == "23505" // unique_violation
}

func validateReplacements(replacements []es.Replacement) error {
	seen := make(map[string]struct{}, 2*len(replacements))
	for _, rep := range replacements {
		for _, name := range [...]string{rep.Model, rep.With} {
			if err := es.ValidateName("model", name); err != nil {
				return err
			}
			if _, twice := seen[name]; twice {
				return es.Invalidf("switch", "has model %q twice; each is replaced once, by another", name)
			}
			seen[name] = struct{}{}
		}
	}
	return nil
}
