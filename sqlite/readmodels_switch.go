package sqlite

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Drop removes a model, and the checkpoint of the projection of that name. The model is gone at once; its documents are removed in small
// steps, of which a process that dies leaves the rest to the next one.
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
	if err != nil {
		return err
	}
	return r.sweepAfter(ctx)
}

// Switch puts models that were built aside into the place of those that are read, all in one step. The documents keep the revisions
// they were built with.
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
	if err != nil {
		return err
	}
	return r.sweepAfter(ctx)
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
	if err := tx.write(r.sql.nameModel, rep.Model, rep.With); err != nil {
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

// sweepAfter removes what a call has taken out of sight. The call is done, whatever becomes of this: what is left is removed another
// time.
func (r *ReadModels) sweepAfter(ctx context.Context) error {
	if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
		r.db.config.Logger.Warn("sqlite: documents of a model that was dropped are left; they are removed later", "path",
			r.db.config.Path, "error", err)
	}
	return nil
}

// sweptPerOp is how many documents are removed in a transaction.
const sweptPerOp = 256

// sweep removes the documents that nobody sees any more.
func (r *ReadModels) sweep(ctx context.Context) error {
	for {
		var model int64
		err := r.db.read(ctx, func(c *conn) (err error) {
			model, err = c.number(r.sql.hidden)
			return err
		})
		if err != nil || model == 0 {
			return err
		}
		err = r.db.write(ctx, &op{relaxed: true, run: func(tx *txn) error {
			if err := tx.write(r.sql.sweep, model, sweptPerOp); err != nil {
				return err
			}
			if tx.Changes() == sweptPerOp {
				return nil
			}
			return tx.write(r.sql.removeModel, model)
		}})
		if err != nil {
			return err
		}
	}
}
