package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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
	return r.db.transact(ctx, func(tx pgx.Tx) error { return r.commit(ctx, tx, &c) })
}

// commitIn is Commit in a transaction. With an error of a role nothing was written, and the transaction goes on.
func (r *ReadModels) commitIn(ctx context.Context, tx pgx.Tx, c *es.Commit) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "SAVEPOINT committing"); err != nil {
		return fault(err)
	}
	err := r.commit(ctx, tx, c)
	if err != nil && !isFault(err) && ctx.Err() == nil {
		if _, undo := tx.Exec(ctx, "ROLLBACK TO SAVEPOINT committing"); undo != nil {
			return fault(undo)
		}
	}
	return err
}

// commit makes a commit in a transaction, which is to be rolled back on an error. It is two round trips: the first one takes the locks and
// looks, always in the same order, so that two commits cannot each wait for the other; the second one writes. What is not there cannot
// be locked, and is found out when it is written.
func (r *ReadModels) commit(ctx context.Context, tx pgx.Tx, c *es.Commit) error {
	for range tries {
		p, err := r.lookAt(ctx, tx, c)
		if err != nil {
			return err
		}
		if p.modelsGone() { // by a switch, while their rows were waited for
			continue
		}
		if err := p.check(c); err != nil {
			return err
		}
		return p.write(ctx, tx, c)
	}
	return &engineError{kind: ErrBusy, err: errors.New("a model is switched again and again")}
}

// documentKey is a document of a model.
type documentKey struct{ model, key string }

// committing is a commit on its way through a transaction.
type committing struct {
	models *ReadModels

	numbers   map[string]int64      // of the models
	revisions map[documentKey]int64 // of the documents that are there
	needed    []string              // models that must be there
	progress  es.Progress
	begun     bool // there is progress
	fenced    bool // the fence is held
}

// lookAt takes the locks of a commit, and looks at what is there.
func (r *ReadModels) lookAt(ctx context.Context, tx pgx.Tx, c *es.Commit) (*committing, error) {
	p := &committing{models: r, numbers: map[string]int64{}, revisions: make(map[documentKey]int64, len(c.Writes)), fenced: true}
	var b pgx.Batch
	b.Queue(byIndex)
	if c.Fence != nil {
		b.Queue(r.sql.lockFence, c.Fence.Name)
		b.Queue(r.sql.fence, c.Fence.Name, c.Fence.Owner, c.Fence.Token).QueryRow(func(row pgx.Row) error { return row.Scan(&p.fenced) })
	}
	if c.Progress.Projection != "" {
		b.Queue(r.sql.lockProgress, c.Progress.Projection).QueryRow(func(row pgx.Row) (err error) {
			p.progress, p.begun, err = scanProgress(row)
			return err
		})
	}
	if len(c.Writes) > 0 {
		p.queueDocuments(&b, c.Writes)
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fault(err)
	}
	return p, nil
}

func (p *committing) queueDocuments(b *pgx.Batch, writes []es.Write) {
	names, keys := make([]string, len(writes)), make([]string, len(writes))
	var all []string
	for i := range writes {
		w := &writes[i]
		names[i], keys[i] = w.Model, w.Key
		all = append(all, w.Model)
		if !w.Delete {
			p.needed = append(p.needed, w.Model)
		}
	}
	slices.Sort(all)
	slices.Sort(p.needed)
	all, p.needed = slices.Compact(all), slices.Compact(p.needed)
	sql := &p.models.sql
	b.Queue(sql.addModels, p.needed)
	b.Queue(sql.lockModels, all).Query(func(rows pgx.Rows) error {
		var name string
		var number int64
		_, err := pgx.ForEachRow(rows, []any{&name, &number}, func() error {
			p.numbers[name] = number
			return nil
		})
		return err
	})
	b.Queue(sql.lockDocuments, names, keys).Query(func(rows pgx.Rows) error {
		var k documentKey
		var revision int64
		_, err := pgx.ForEachRow(rows, []any{&k.model, &k.key, &revision}, func() error {
			p.revisions[k] = revision
			return nil
		})
		return err
	})
}

// modelsGone tells whether a model that is written to is not there, although it was added if need be.
func (p *committing) modelsGone() bool {
	return slices.ContainsFunc(p.needed, func(name string) bool { return p.numbers[name] == 0 })
}

// check tells whether all that a commit takes for granted holds. A document is there once, so no write of the commit changes what another
// one expects.
func (p *committing) check(c *es.Commit) error {
	if !p.fenced {
		return fmt.Errorf("fence: %w", leaseLost(*c.Fence))
	}
	if u := c.Progress; u.Projection != "" && !p.progress.Same(u.From) {
		return &es.ProjectionError{Projection: u.Projection, Expected: u.From, Actual: p.progress}
	}
	for i := range c.Writes {
		w := &c.Writes[i]
		if revision := p.revisions[documentKey{w.Model, w.Key}]; w.Expect != es.Any && !w.Expect.Holds(revision) {
			return &es.RevisionError{Model: w.Model, Key: w.Key, Expected: w.Expect, Actual: revision}
		}
	}
	return nil
}

// documentRows are documents to be written, by columns.
type documentRows struct {
	models []int64
	keys   []string
	data   [][]byte
}

func (r *documentRows) add(model int64, w *es.Write) {
	data := w.Data
	if data == nil {
		data = []byte{}
	}
	r.models, r.keys, r.data = append(r.models, model), append(r.keys, w.Key), append(r.data, data)
}

// write makes the writes of a commit, in the order of the documents.
func (p *committing) write(ctx context.Context, tx pgx.Tx, c *es.Commit) error {
	var puts, creations, removals documentRows
	writes := make([]*es.Write, len(c.Writes))
	for i := range c.Writes {
		writes[i] = &c.Writes[i]
	}
	slices.SortFunc(writes, func(a, b *es.Write) int {
		return cmp.Or(cmp.Compare(p.numbers[a.Model], p.numbers[b.Model]), cmp.Compare(a.Key, b.Key))
	})
	created := map[documentKey]bool{}
	for _, w := range writes {
		number := p.numbers[w.Model]
		switch {
		case w.Delete && number != 0:
			removals.add(number, w)
		case w.Delete:
		case w.Expect.Holds(0) && w.Expect != es.Any:
			creations.add(number, w)
		default:
			puts.add(number, w)
		}
	}
	var b pgx.Batch
	sql := &p.models.sql
	if len(removals.keys) > 0 {
		b.Queue(sql.remove, removals.models, removals.keys)
	}
	if len(puts.keys) > 0 {
		b.Queue(sql.put, puts.models, puts.keys, puts.data)
	}
	if len(creations.keys) > 0 {
		b.Queue(sql.create, creations.models, creations.keys, creations.data).Query(func(rows pgx.Rows) error {
			return p.collectCreated(rows, created)
		})
	}
	begun := true
	p.queueProgress(&b, c.Progress, &begun)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fault(err)
	}
	if !begun {
		return p.begunMeanwhile(ctx, tx, c.Progress)
	}
	for _, w := range writes {
		if w.Expect.Holds(0) && w.Expect != es.Any && !w.Delete && !created[documentKey{w.Model, w.Key}] {
			return p.createdMeanwhile(ctx, tx, w)
		}
	}
	return nil
}

func (p *committing) collectCreated(rows pgx.Rows, into map[documentKey]bool) error {
	names := make(map[int64]string, len(p.numbers))
	for name, number := range p.numbers {
		names[number] = name
	}
	var number int64
	var key string
	_, err := pgx.ForEachRow(rows, []any{&number, &key}, func() error {
		into[documentKey{names[number], key}] = true
		return nil
	})
	return err
}

// queueProgress moves a checkpoint. begun tells whether one that was not there could be made.
func (p *committing) queueProgress(b *pgx.Batch, u es.ProgressUpdate, begun *bool) {
	to, sql := u.To, &p.models.sql
	switch {
	case u.Projection == "":
	case to == (es.Progress{}):
		b.Queue(sql.endProgress, u.Projection)
	case p.begun:
		b.Queue(sql.moveProgress, u.Projection, to.Generation, to.Epoch, to.Incarnation, to.Position)
	default:
		*begun = false
		b.Queue(sql.beginProgress, u.Projection, to.Generation, to.Epoch, to.Incarnation, to.Position).Exec(func(done pgconn.CommandTag) error {
			*begun = done.RowsAffected() == 1
			return nil
		})
	}
}

// begunMeanwhile says what another commit has made of a checkpoint that was not there.
func (p *committing) begunMeanwhile(ctx context.Context, tx pgx.Tx, u es.ProgressUpdate) error {
	actual, _, err := scanProgress(tx.QueryRow(ctx, p.models.sql.progress, u.Projection))
	if err != nil {
		return fault(err)
	}
	return &es.ProjectionError{Projection: u.Projection, Expected: u.From, Actual: actual}
}

// createdMeanwhile says what another commit has made of a document that was not there.
func (p *committing) createdMeanwhile(ctx context.Context, tx pgx.Tx, w *es.Write) error {
	docs, err := p.models.loadIn(ctx, tx, w.Model, []string{w.Key})
	if err != nil {
		return err
	}
	return &es.RevisionError{Model: w.Model, Key: w.Key, Expected: w.Expect, Actual: docs[0].Revision}
}
