package sqlite

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Commit makes all its changes in one step, or none.
func (r *ReadModels) Commit(ctx context.Context, c es.Commit) error {
	if err := r.db.handle.begin(ctx); err != nil {
		return err
	}
	defer r.db.handle.leave()
	if err := c.Validate(); err != nil {
		return err
	}
	size := 0
	for i := range c.Writes {
		size += len(c.Writes[i].Key) + len(c.Writes[i].Data)
	}
	return r.db.write(ctx, &op{size: size, run: func(tx *txn) error { return r.commit(tx, &c) }})
}

// commitIn is Commit in a transaction. It checks everything before it writes.
func (r *ReadModels) commitIn(tx *txn, c *es.Commit) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return r.commit(tx, c)
}

func (r *ReadModels) commit(tx *txn, c *es.Commit) error {
	if err := r.check(tx, c); err != nil {
		return err
	}
	if err := r.apply(tx, c.Writes); err != nil {
		return err
	}
	if c.Progress.Projection == "" {
		return nil
	}
	return r.setProgress(tx, c.Progress.Projection, c.Progress.To)
}

// check tells whether all that a commit takes for granted holds. A document is there once, so no write of the commit changes what another
// one expects.
func (r *ReadModels) check(tx *txn, c *es.Commit) error {
	if c.Fence != nil {
		if err := r.db.leases.checkIn(tx, *c.Fence); err != nil {
			return fmt.Errorf("fence: %w", err)
		}
	}
	if p := c.Progress; p.Projection != "" {
		actual, err := r.progress(tx.conn, p.Projection)
		if err != nil {
			return err
		}
		if !actual.Same(p.From) {
			return &es.ProjectionError{Projection: p.Projection, Expected: p.From, Actual: actual}
		}
	}
	models := modelNumbers{models: r, tx: tx}
	for i := range c.Writes {
		w := &c.Writes[i]
		if w.Expect == es.Any {
			continue
		}
		number, err := models.find(w.Model)
		if err != nil {
			return err
		}
		revision, err := tx.number(r.sql.revision, number, w.Key)
		if err != nil {
			return err
		}
		if !w.Expect.Holds(revision) {
			return &es.RevisionError{Model: w.Model, Key: w.Key, Expected: w.Expect, Actual: revision}
		}
	}
	return nil
}

// apply makes the writes of a commit.
func (r *ReadModels) apply(tx *txn, writes []es.Write) error {
	if len(writes) == 0 {
		return nil
	}
	revision, err := r.takeRevisions(tx, writes)
	if err != nil {
		return err
	}
	put, err := tx.prepare(r.sql.put)
	if err != nil {
		return err
	}
	remove, err := tx.prepare(r.sql.remove)
	if err != nil {
		return err
	}
	models := modelNumbers{models: r, tx: tx}
	for i := range writes {
		w := &writes[i]
		if w.Delete {
			number, err := models.find(w.Model)
			if err != nil {
				return err
			}
			remove.BindInt64(1, number) // 0, which no model has, when there is none
			remove.BindText(2, w.Key)
			if _, err := tx.change(remove); err != nil {
				return err
			}
			continue
		}
		number, err := models.findOrAdd(w.Model)
		if err != nil {
			return err
		}
		put.BindInt64(1, number)
		put.BindText(2, w.Key)
		put.BindInt64(3, revision)
		put.BindBytes(4, w.Data)
		if _, err := tx.change(put); err != nil {
			return err
		}
		revision++
	}
	return nil
}

// takeRevisions takes a revision for each document that is put, and returns the first of them.
func (r *ReadModels) takeRevisions(tx *txn, writes []es.Write) (int64, error) {
	puts := 0
	for i := range writes {
		if !writes[i].Delete {
			puts++
		}
	}
	if puts == 0 {
		return 0, nil
	}
	tx.writes++
	last, err := tx.number(r.sql.nextRevision, puts)
	return last - int64(puts) + 1, err
}

// modelNumbers finds the numbers of models. Mostly it is asked for the same one again.
type modelNumbers struct {
	models *ReadModels
	tx     *txn
	name   string
	number int64
}

// find returns the number of a model, 0 when there is none.
func (m *modelNumbers) find(name string) (int64, error) {
	if m.number != 0 && m.name == name {
		return m.number, nil
	}
	number, err := m.tx.number(m.models.sql.model, name)
	if err != nil {
		return 0, err
	}
	m.name, m.number = name, number
	return number, nil
}

// findOrAdd returns the number of a model, which it gets when it is new.
func (m *modelNumbers) findOrAdd(name string) (int64, error) {
	number, err := m.find(name)
	if err != nil || number != 0 {
		return number, err
	}
	if err := m.tx.write(m.models.sql.addModel, name); err != nil {
		return 0, err
	}
	return m.find(name)
}

func (r *ReadModels) setProgress(tx *txn, projection string, to es.Progress) error {
	if to == (es.Progress{}) {
		return tx.write(r.sql.removeProgress, projection)
	}
	return tx.write(r.sql.putProgress, projection, to.Generation, to.Epoch, to.Incarnation[:], to.Position)
}
