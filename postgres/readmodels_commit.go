package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Commit makes all its changes in one step, or none.
func (r *ReadModels) Commit(ctx context.Context, c es.Commit) error {
	if err := r.db.handle.begin(ctx); err != nil {
		return err
	}
	defer r.db.handle.leave()
	return r.commit(&c, func(p *committing) error { return r.db.pipeline(ctx, synced, p.queue) })
}

// commitIn is Commit in a transaction. With an error of the role nothing was written, and the transaction goes on.
//
// A transaction that keeps its first snapshot fails when it meets what others have changed since: that is [ErrBusy].
func (r *ReadModels) commitIn(ctx context.Context, tx pgx.Tx, c *es.Commit) error {
	return r.commit(c, func(p *committing) error {
		var b pgx.Batch
		queueByIndex(&b, func() { p.queue(&b) })
		return fault(tx.SendBatch(ctx, &b).Close())
	})
}

// commit makes a commit. It is done again when a model or the checkpoint was not there, or not any more when its row was waited for, as
// after a switch.
func (r *ReadModels) commit(c *es.Commit, do func(p *committing) error) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if c.Fence != nil && !couldBeHeld(*c.Fence) {
		return fmt.Errorf("fence: %w", leaseLost(*c.Fence))
	}
	p := newCommitting(&r.sql, c)
	for range tries {
		if err := do(p); err != nil {
			return err
		}
		if err := p.verdict(); !errors.Is(err, errGone) {
			return err
		}
	}
	return &engineError{kind: ErrBusy, err: errors.New("a model was switched again and again")}
}

// errGone says that a commit is to be made again: a model or a checkpoint that it is about was not there, or has gone while its row was
// waited for, and another one may have the name.
var errGone = errors.New("postgres: there is no such model or checkpoint")

// committing is a commit on its way through a transaction, in one round trip.
//
// First it locks all that it is about, in an order that is the same for all: the lease, the checkpoint, the models, the documents. So it
// neither meets what another one has half done, nor do two wait for each other. What is not there cannot be locked: its place is taken by a
// row with the revision 0, which nobody else sees. Then it looks whether all is as expected, and writes only if it is. At the end there
// is no row with the revision 0.
//
// A commit that only puts documents, whatever is there, locks each of them as it writes it, in the same order.
type committing struct {
	sql    *modelSQL
	commit *es.Commit
	adding bool // models that are not there are added
	sure   bool // a checkpoint that is not there was looked for twice

	models         []string
	all, put       documentColumns
	expected       []int64
	removed        []bool
	expects, locks bool // some documents are to be as expected; they are locked before they are written

	// What was found that is not as it must be.
	lost, unseen bool // the fence is not held; because its row cannot be seen
	missing      bool // a model is
	moved        bool // the checkpoint was
	progress     es.Progress
	changed      int // which document was, from 1
	revision     int64
}

// documentColumns are documents of a commit, as arrays for PostgreSQL.
type documentColumns struct {
	models, keys []string
	data         [][]byte
}

func newCommitting(sql *modelSQL, c *es.Commit) *committing {
	n := len(c.Writes)
	p := &committing{sql: sql, commit: c, expected: make([]int64, n), removed: make([]bool, n)}
	p.all.models, p.all.keys = make([]string, n), make([]string, n)
	p.put = documentColumns{make([]string, 0, n), make([]string, 0, n), make([][]byte, 0, n)}
	for i := range c.Writes {
		w := &c.Writes[i]
		p.all.models[i], p.all.keys[i], p.expected[i], p.removed[i] = w.Model, w.Key, int64(w.Expect), w.Delete
		p.expects = p.expects || w.Expect != es.Any
		p.locks = p.locks || p.expects || w.Delete
		if !w.Delete {
			p.put.add(w)
		}
		if last := len(p.models) - 1; last < 0 || p.models[last] != w.Model {
			p.models = append(p.models, w.Model)
		}
	}
	slices.Sort(p.models)
	p.models = slices.Compact(p.models)
	return p
}

func (d *documentColumns) add(w *es.Write) {
	data := w.Data
	if data == nil {
		data = []byte{} // which is not NULL
	}
	d.models, d.keys, d.data = append(d.models, w.Model), append(d.keys, w.Key), append(d.data, data)
}

// queue adds the statements of the commit to a batch.
func (p *committing) queue(b *pgx.Batch) {
	p.lost, p.unseen, p.missing, p.moved, p.changed = false, false, false, false, 0
	b.Queue(p.sql.allow)
	p.queueFence(b)
	p.queueCheckpoint(b)
	p.queueDocuments(b)
	p.queueMove(b)
}

// finding makes a query that gives a row when something is not as it must be, with columns behind one that nobody needs.
func finding(q *pgx.QueuedQuery, found *bool, columns ...any) {
	q.QueryRow(func(row pgx.Row) error {
		err := row.Scan(append([]any{nil}, columns...)...)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		*found = err == nil
		return err
	})
}

func (p *committing) queueFence(b *pgx.Batch) {
	if f := p.commit.Fence; f != nil {
		finding(b.Queue(p.sql.fence, f.Name, f.Owner, f.Token), &p.lost, &p.unseen)
	}
}

func (p *committing) queueCheckpoint(b *pgx.Batch) {
	u := &p.commit.Progress
	if u.Projection == "" {
		return
	}
	if u.From == (es.Progress{}) {
		b.Queue(p.sql.beginProgress, u.Projection)
	}
	finding(b.Queue(p.sql.lockProgress, u.Projection, u.From.Generation, u.From.Epoch, u.From.Incarnation, u.From.Position), &p.moved,
		&p.progress.Generation, &p.progress.Epoch, &p.progress.Incarnation, &p.progress.Position)
}

func (p *committing) queueDocuments(b *pgx.Batch) {
	if len(p.models) == 0 {
		return
	}
	if p.adding {
		b.Queue(p.sql.addModels, p.models)
	}
	finding(b.Queue(p.sql.lockModels, p.models), &p.missing)
	if !p.locks {
		b.Queue(p.sql.putAny, p.put.models, p.put.keys, p.put.data)
		b.Queue(p.sql.redraw)
		return
	}
	b.Queue(p.sql.lockDocuments, p.all.models, p.all.keys)
	if p.expects {
		found := false
		finding(b.Queue(p.sql.checkDocuments, p.all.models, p.all.keys, p.expected), &found, &p.changed, &p.revision)
	}
	if len(p.put.keys) > 0 {
		b.Queue(p.sql.put, p.put.models, p.put.keys, p.put.data)
	}
	b.Queue(p.sql.remove, p.all.models, p.all.keys, p.removed)
}

func (p *committing) queueMove(b *pgx.Batch) {
	u := &p.commit.Progress
	if u.Projection == "" {
		return
	}
	b.Queue(p.sql.moveProgress, u.Projection, u.To.Generation, u.To.Epoch, u.To.Incarnation, u.To.Position)
	if u.From == (es.Progress{}) || u.To == (es.Progress{}) {
		b.Queue(p.sql.endProgress, u.Projection)
	}
}

// verdict says what was found, and takes note of what to do otherwise when the commit is made again. It is nil when the commit was made.
func (p *committing) verdict() error {
	u := &p.commit.Progress
	switch {
	case p.unseen:
		return &engineError{kind: ErrBusy, err: fmt.Errorf("lease %q may have been taken after the transaction began, which cannot see that",
			p.commit.Fence.Name)}
	case p.lost:
		return fmt.Errorf("fence: %w", leaseLost(*p.commit.Fence))
	case p.moved && p.progress == (es.Progress{}) && !p.sure:
		p.sure = true
		return errGone
	case p.moved:
		return &es.ProjectionError{Projection: u.Projection, Expected: u.From, Actual: p.progress}
	case p.missing:
		p.adding = true
		return errGone
	case p.changed > 0:
		w := &p.commit.Writes[p.changed-1]
		return &es.RevisionError{Model: w.Model, Key: w.Key, Expected: w.Expect, Actual: p.revision}
	}
	return nil
}
