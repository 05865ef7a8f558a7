package sqlite

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Drop removes a model, and the checkpoint of the projection of that name. It costs the same however many documents there are; their
// room in the file is given back afterwards.
func (r *ReadModels) Drop(ctx context.Context, model string) error {
	if err := r.db.handle.begin(ctx); err != nil {
		return err
	}
	defer r.db.handle.leave()
	if err := es.ValidateName("model", model); err != nil {
		return err
	}
	err := r.db.write(ctx, &op{run: func(tx *txn) error {
		if err := tx.write(r.sql.hideModel, model); err != nil {
			return err
		}
		return tx.write(r.sql.removeProgress, model)
	}})
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
	err := r.db.write(ctx, &op{run: func(tx *txn) error {
		for _, rep := range replacements {
			if err := r.checkReplacement(tx, rep); err != nil {
				return err
			}
		}
		for _, rep := range replacements {
			if err := r.replace(tx, rep); err != nil {
				return err
			}
		}
		return nil
	}})
	if err == nil {
		r.sweeper.wake()
	}
	return err
}

// checkReplacement tells whether there is something to put into the place of a model.
func (r *ReadModels) checkReplacement(tx *txn, rep es.Replacement) error {
	p, err := r.progress(tx.conn, rep.With)
	if err != nil || p != (es.Progress{}) {
		return err
	}
	number, err := tx.number(r.sql.model, rep.With)
	if err != nil {
		return err
	}
	documents, err := tx.number(r.sql.any, number)
	if err == nil && documents == 0 {
		err = fmt.Errorf("replacement %q of model %q has neither documents nor a checkpoint: %w", rep.With, rep.Model, es.ErrNotFound)
	}
	return err
}

func (r *ReadModels) replace(tx *txn, rep es.Replacement) error {
	if err := tx.write(r.sql.hideModel, rep.Model); err != nil {
		return err
	}
	if err := tx.write(r.sql.renameModel, rep.Model, rep.With); err != nil {
		return err
	}
	if err := tx.write(r.sql.removeProgress, rep.Model); err != nil {
		return err
	}
	return tx.write(r.sql.renameProgress, rep.Model, rep.With)
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
