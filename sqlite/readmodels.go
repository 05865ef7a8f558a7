package sqlite

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ReadModels is the read models of a namespace, for all the processes that have the file open. It is an [es.ReadModels].
//
// Documents belong to the number of a model. To switch models gives their numbers other names, and to drop one takes its name away,
// however many documents there are. Documents whose model has no name are removed afterwards, in slices that keep nobody waiting, also
// when the process ended in between.
type ReadModels struct {
	db      *DB
	sql     modelSQL
	sweeper modelSweeper
}

var _ es.ReadModels = (*ReadModels)(nil)

// modelSQL is the statements of read models.
type modelSQL struct {
	model, addModel, renameModel, hideModel, hidden, removeModel string
	load, list, any, revision, nextRevision, put, remove         string
	slice, removeDocument                                        string
	progress, putProgress, removeProgress, renameProgress        string
}

func newReadModels(db *DB) *ReadModels {
	r := &ReadModels{db: db, sql: modelSQL{
		model:       db.sql("SELECT model FROM es_models_$ WHERE name = ?"),
		addModel:    db.sql("INSERT INTO es_models_$ (name) VALUES (?)"),
		renameModel: db.sql("UPDATE es_models_$ SET name = ? WHERE name = ?"),
		hideModel:   db.sql("UPDATE es_models_$ SET name = NULL WHERE name = ?"),
		hidden:      db.sql("SELECT model FROM es_models_$ WHERE name IS NULL LIMIT 1"),
		removeModel: db.sql("DELETE FROM es_models_$ WHERE model = ?"),

		load:         db.sql("SELECT revision, data FROM es_documents_$ WHERE model = ? AND key = ?"),
		list:         db.sql("SELECT key, revision, data FROM es_documents_$ WHERE model = ? AND key >= ? AND key < ? ORDER BY key LIMIT +?"),
		any:          db.sql("SELECT 1 FROM es_documents_$ WHERE model = ? LIMIT 1"),
		revision:     db.sql("SELECT revision FROM es_documents_$ WHERE model = ? AND key = ?"),
		nextRevision: db.sql("UPDATE es_revision_$ SET revision = revision + ? WHERE one = 1 RETURNING revision"),
		put: db.sql("INSERT INTO es_documents_$ (model, key, revision, data) VALUES (?, ?, ?, ?) " +
			"ON CONFLICT (model, key) DO UPDATE SET revision = excluded.revision, data = excluded.data"),
		remove: db.sql("DELETE FROM es_documents_$ WHERE model = ? AND key = ?"),

		slice:          db.sql("SELECT document, length(data) FROM es_documents_$ WHERE model = ? LIMIT +?"),
		removeDocument: db.sql("DELETE FROM es_documents_$ WHERE document = ?"),

		progress: db.sql("SELECT generation, epoch, incarnation, position FROM es_progress_$ WHERE projection = ?"),
		putProgress: db.sql("INSERT INTO es_progress_$ (projection, generation, epoch, incarnation, position) VALUES (?, ?, ?, ?, ?) " +
			"ON CONFLICT (projection) DO UPDATE SET generation = excluded.generation, epoch = excluded.epoch, " +
			"incarnation = excluded.incarnation, position = excluded.position"),
		removeProgress: db.sql("DELETE FROM es_progress_$ WHERE projection = ?"),
		renameProgress: db.sql("UPDATE es_progress_$ SET projection = ? WHERE projection = ?"),
	}}
	r.sweeper.begin(r)
	return r
}

// Load returns a document for each key. All of them are as they were at one moment.
func (r *ReadModels) Load(ctx context.Context, model string, keys ...string) (docs []es.Document, err error) {
	if err := r.db.handle.begin(ctx); err != nil {
		return nil, err
	}
	defer r.db.handle.leave()
	err = r.db.read(ctx, func(c *conn) error {
		docs, err = r.loadIn(c, model, keys)
		return err
	})
	return docs, err
}

// loadIn is Load on a connection that is in a transaction.
func (r *ReadModels) loadIn(c *conn, model string, keys []string) ([]es.Document, error) {
	if err := es.ValidateName("model", model); err != nil {
		return nil, err
	}
	docs := make([]es.Document, len(keys))
	for i, key := range keys {
		if err := es.ValidateKey(key); err != nil {
			return nil, err
		}
		docs[i].Key = key
	}
	number, err := c.number(r.sql.model, model)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		return docs, nil
	}
	stmt, err := c.prepare(r.sql.load)
	if err != nil {
		return nil, err
	}
	for i := range docs {
		stmt.BindInt64(1, number)
		stmt.BindText(2, docs[i].Key)
		there, err := stmt.Step()
		if err != nil {
			return nil, fault(err)
		}
		if there {
			docs[i].Revision, docs[i].Data = stmt.ColumnInt64(0), columnBytes(stmt, 1)
		}
		if err := stmt.Reset(); err != nil {
			return nil, fault(err)
		}
	}
	return docs, nil
}

// List returns a page of documents in bytewise order of their keys. All of them are as they were at one moment.
func (r *ReadModels) List(ctx context.Context, q es.ListQuery) (docs []es.Document, err error) {
	if err := r.db.handle.begin(ctx); err != nil {
		return nil, err
	}
	defer r.db.handle.leave()
	err = r.db.read(ctx, func(c *conn) error {
		docs, err = r.listIn(c, q)
		return err
	})
	return docs, err
}

// listIn is List on a connection that is in a transaction.
func (r *ReadModels) listIn(c *conn, q es.ListQuery) ([]es.Document, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	if q.Limit == 0 {
		q.Limit = es.DefaultListLimit
	}
	const room = 64 // more is made when it is needed: a limit may be far larger than what there is
	docs := make([]es.Document, 0, min(q.Limit, room))
	number, err := c.number(r.sql.model, q.Model)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		return docs, nil
	}
	from, to := keyRange(q.Prefix, q.After)
	err = c.query(func(stmt *lite.Stmt) error {
		docs = append(docs, es.Document{Key: stmt.ColumnText(0), Revision: stmt.ColumnInt64(1), Data: columnBytes(stmt, 2)})
		return nil
	}, r.sql.list, number, from, to, q.Limit)
	if err != nil {
		return nil, err
	}
	return docs, nil
}

// keyRange returns from which key on, and up to which one, which is not among them, the keys are that begin with a prefix and come
// after another one. The bounds need not be keys: they are compared bytewise. There is one of each, because of two lower bounds SQLite
// takes the first one to begin at.
func keyRange(prefix, after string) (from, to string) {
	from, to = prefix, "\xff" // no byte of UTF-8 is as large
	if after >= prefix && after != "" {
		from = after + "\x00" // no key has a NUL, so nothing is between the two
	}
	if prefix != "" {
		last := len(prefix) - 1
		to = prefix[:last] + string([]byte{prefix[last] + 1})
	}
	return from, to
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
