package sqlite

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ReadModels is the read models of a namespace. It is an [es.ReadModels].
//
// A model is a number that documents belong to: switching models renames numbers, and dropping one takes its number out of sight,
// however many documents there are. What nobody sees any more is removed in small steps, so that no other write waits for long.
type ReadModels struct {
	db  *DB
	sql modelQueries
}

var _ es.ReadModels = (*ReadModels)(nil)

type modelQueries struct {
	model, addModel, nameModel, hideModel, hidden, removeModel string
	load, revision, put, remove, list, listBelow, any, sweep   string
	nextRevision                                               string
	progress, putProgress, removeProgress, renameProgress      string
}

func newReadModels(db *DB) *ReadModels {
	const page = "SELECT key, revision, data FROM es_documents_$ WHERE model = ? AND key > ? AND key >= ?"
	return &ReadModels{db: db, sql: modelQueries{
		model:       db.sql("SELECT model FROM es_models_$ WHERE name = ?"),
		addModel:    db.sql("INSERT INTO es_models_$ (name) VALUES (?)"),
		nameModel:   db.sql("UPDATE es_models_$ SET name = ? WHERE name = ?"),
		hideModel:   db.sql("UPDATE es_models_$ SET name = NULL WHERE name = ?"),
		hidden:      db.sql("SELECT model FROM es_models_$ WHERE name IS NULL LIMIT 1"),
		removeModel: db.sql("DELETE FROM es_models_$ WHERE model = ? AND name IS NULL"),
		load:        db.sql("SELECT revision, data FROM es_documents_$ WHERE model = ? AND key = ?"),
		revision:    db.sql("SELECT revision FROM es_documents_$ WHERE model = ? AND key = ?"),
		put: db.sql("INSERT INTO es_documents_$ (model, key, revision, data) VALUES (?, ?, ?, ?) " +
			"ON CONFLICT (model, key) DO UPDATE SET revision = excluded.revision, data = excluded.data"),
		remove:       db.sql("DELETE FROM es_documents_$ WHERE model = ? AND key = ?"),
		list:         db.sql(page + " ORDER BY key LIMIT ?"),
		listBelow:    db.sql(page + " AND key < ? ORDER BY key LIMIT ?"),
		any:          db.sql("SELECT 1 FROM es_documents_$ WHERE model = ? LIMIT 1"),
		sweep:        db.sql("DELETE FROM es_documents_$ WHERE document IN (SELECT document FROM es_documents_$ WHERE model = ? LIMIT ?)"),
		nextRevision: db.sql("UPDATE es_revision_$ SET revision = revision + ? RETURNING revision"),
		progress:     db.sql("SELECT generation, epoch, incarnation, position FROM es_progress_$ WHERE projection = ?"),
		putProgress: db.sql("INSERT OR REPLACE INTO es_progress_$ (projection, generation, epoch, incarnation, position) " +
			"VALUES (?, ?, ?, ?, ?)"),
		removeProgress: db.sql("DELETE FROM es_progress_$ WHERE projection = ?"),
		renameProgress: db.sql("UPDATE es_progress_$ SET projection = ? WHERE projection = ?"),
	}}
}

// Load returns a document for each key. All of them are as they were at one moment.
func (r *ReadModels) Load(ctx context.Context, model string, keys ...string) (docs []es.Document, err error) {
	if err := r.db.handle.begin(ctx); err != nil {
		return nil, err
	}
	defer r.db.handle.leave()
	if err := validateKeys(model, keys); err != nil {
		return nil, err
	}
	err = r.db.read(ctx, func(c *conn) error {
		docs, err = r.load(c, model, keys)
		return err
	})
	return docs, err
}

// loadIn is Load on a connection that is in a transaction.
func (r *ReadModels) loadIn(c *conn, model string, keys []string) ([]es.Document, error) {
	if err := validateKeys(model, keys); err != nil {
		return nil, err
	}
	return r.load(c, model, keys)
}

func validateKeys(model string, keys []string) error {
	if err := es.ValidateName("model", model); err != nil {
		return err
	}
	for _, key := range keys {
		if err := es.ValidateKey(key); err != nil {
			return err
		}
	}
	return nil
}

func (r *ReadModels) load(c *conn, model string, keys []string) ([]es.Document, error) {
	docs := make([]es.Document, len(keys))
	number, err := c.number(r.sql.model, model)
	for i, key := range keys {
		docs[i].Key = key
		if number == 0 || err != nil {
			continue
		}
		err = c.query(func(stmt *lite.Stmt) error {
			docs[i].Revision, docs[i].Data = stmt.ColumnInt64(0), columnBytes(stmt, 1)
			return nil
		}, r.sql.load, number, key)
	}
	if err != nil {
		return nil, err
	}
	return docs, nil
}

// List returns a page of documents in bytewise order of their keys.
func (r *ReadModels) List(ctx context.Context, q es.ListQuery) (docs []es.Document, err error) {
	if err := r.db.handle.begin(ctx); err != nil {
		return nil, err
	}
	defer r.db.handle.leave()
	if err := q.Validate(); err != nil {
		return nil, err
	}
	err = r.db.read(ctx, func(c *conn) error {
		docs, err = r.list(c, q)
		return err
	})
	return docs, err
}

func (r *ReadModels) list(c *conn, q es.ListQuery) (docs []es.Document, err error) {
	if q.Limit == 0 {
		q.Limit = es.DefaultListLimit
	}
	number, err := c.number(r.sql.model, q.Model)
	if err != nil || number == 0 {
		return nil, err
	}
	add := func(stmt *lite.Stmt) error {
		docs = append(docs, es.Document{Key: stmt.ColumnText(0), Revision: stmt.ColumnInt64(1), Data: columnBytes(stmt, 2)})
		return nil
	}
	if q.Prefix == "" {
		return docs, c.query(add, r.sql.list, number, q.After, q.Prefix, q.Limit)
	}
	// The bytes of UTF-8 are below 0xF5, so there is always one above the last. The bound need not be text: it is compared as bytes.
	above := []byte(q.Prefix)
	above[len(above)-1]++
	err = c.query(add, r.sql.listBelow, number, q.After, q.Prefix, string(above), q.Limit)
	return docs, err
}

// Progress returns the checkpoint of a projection; zero when it has none yet.
func (r *ReadModels) Progress(ctx context.Context, projection string) (p es.Progress, err error) {
	if err := r.db.handle.begin(ctx); err != nil {
		return es.Progress{}, err
	}
	defer r.db.handle.leave()
	err = r.db.read(ctx, func(c *conn) error {
		p, err = r.progressIn(c, projection)
		return err
	})
	return p, err
}

// progressIn is Progress on a connection that is in a transaction.
func (r *ReadModels) progressIn(c *conn, projection string) (es.Progress, error) {
	if err := es.ValidateName("projection", projection); err != nil {
		return es.Progress{}, err
	}
	return r.progress(c, projection)
}

func (r *ReadModels) progress(c *conn, projection string) (p es.Progress, err error) {
	err = c.query(func(stmt *lite.Stmt) error {
		p.Generation, p.Epoch, p.Position = stmt.ColumnInt64(0), stmt.ColumnInt64(1), stmt.ColumnInt64(3)
		id, err := uuid.FromBytes(columnBytes(stmt, 2))
		if err != nil {
			return damaged(fmt.Errorf("the checkpoint of projection %q has an incarnation that is no UUID", projection))
		}
		p.Incarnation = id
		return nil
	}, r.sql.progress, projection)
	return p, err
}

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
	for _, w := range c.Writes {
		size += len(w.Key) + len(w.Data)
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
	tx.writes++
	revision, err := tx.number(r.sql.nextRevision, len(writes))
	if err != nil {
		return err
	}
	revision -= int64(len(writes))
	models := modelNumbers{models: r, tx: tx}
	for i := range writes {
		w := &writes[i]
		revision++
		if w.Delete {
			number, err := models.find(w.Model)
			if err == nil && number != 0 {
				err = tx.write(r.sql.remove, number, w.Key)
			}
			if err != nil {
				return err
			}
			continue
		}
		number, err := models.findOrAdd(w.Model)
		if err == nil {
			err = tx.write(r.sql.put, number, w.Key, revision, w.Data)
		}
		if err != nil {
			return err
		}
	}
	return nil
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
	m.name, m.number = name, number
	return number, err
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
