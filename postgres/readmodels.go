package postgres

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ReadModels is the read models of a namespace, for all the processes that have it open. It is an [es.ReadModels].
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

func newReadModels(db *DB) *ReadModels {
	r := &ReadModels{db: db, sql: newModelSQL(db)}
	r.sweeper.begin(r)
	return r
}

// Load returns a document for each key. All of them are as they were at one moment.
func (r *ReadModels) Load(ctx context.Context, model string, keys ...string) (docs []es.Document, err error) {
	if err := r.db.handle.begin(ctx); err != nil {
		return nil, err
	}
	defer r.db.handle.leave()
	return r.loadIn(ctx, r.db.pool, model, keys)
}

// loadIn is Load on a connection.
func (r *ReadModels) loadIn(ctx context.Context, on querier, model string, keys []string) ([]es.Document, error) {
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
	if len(keys) == 0 {
		return docs, nil
	}
	var b pgx.Batch
	queue := func() {
		b.Queue(r.sql.load, model, keys).Query(func(rows pgx.Rows) error {
			var at, revision int64
			var data []byte
			_, err := pgx.ForEachRow(rows, []any{&at, &revision, &data}, func() error {
				docs[at-1].Revision, docs[at-1].Data = revision, nilIfEmpty(data)
				return nil
			})
			return err
		})
	}
	if _, ours := on.(*pgxpool.Pool); ours {
		b.Queue(byIndex + onePlan)
		queue()
	} else {
		queueByIndex(&b, queue)
	}
	if err := on.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fault(err)
	}
	return docs, nil
}

const (
	// onePlan has PostgreSQL make the plan of a statement once, in a transaction: it is the same whatever the arguments are, so that to make
	// it again and again would be in vain.
	onePlan = ", set_config('plan_cache_mode', 'force_generic_plan', true)"
	// inOrder has the planner read what is sorted as far as it is needed, in a transaction: by what it knew of a model when that was small it
	// would read all of it, and sort it then.
	inOrder = ", set_config('enable_bitmapscan', 'off', true)"
)

// queueByIndex adds statements to a batch in a transaction of the program's own, for whose statements the planner is to go on as before.
func queueByIndex(b *pgx.Batch, queue func()) {
	b.Queue("SELECT set_config('eventsourcing.planner', concat_ws(' ', current_setting('enable_seqscan'), " +
		"current_setting('enable_mergejoin'), current_setting('jit'), current_setting('plan_cache_mode')), true)")
	b.Queue(byIndex + onePlan)
	queue()
	b.Queue("SELECT set_config('enable_seqscan', split_part(was, ' ', 1), true), " +
		"set_config('enable_mergejoin', split_part(was, ' ', 2), true), set_config('jit', split_part(was, ' ', 3), true), " +
		"set_config('plan_cache_mode', split_part(was, ' ', 4), true) FROM current_setting('eventsourcing.planner') AS was")
}

// List returns a page of documents in bytewise order of their keys. All of them are as they were at one moment.
func (r *ReadModels) List(ctx context.Context, q es.ListQuery) (docs []es.Document, err error) {
	if err := r.db.handle.begin(ctx); err != nil {
		return nil, err
	}
	defer r.db.handle.leave()
	if err := q.Validate(); err != nil {
		return nil, err
	}
	if q.Limit == 0 {
		q.Limit = es.DefaultListLimit
	}
	const room = 64 // more is made when it is needed: a limit may be far larger than what there is
	docs = make([]es.Document, 0, min(q.Limit, room))
	var b pgx.Batch
	b.Queue(byIndex + inOrder + onePlan)
	b.Queue(r.sql.list, q.Model, q.After, q.Prefix, behindAll(q.Prefix), q.Limit).Query(func(rows pgx.Rows) error {
		var d es.Document
		_, err := pgx.ForEachRow(rows, []any{&d.Key, &d.Revision, &d.Data}, func() error {
			docs = append(docs, es.Document{Key: d.Key, Revision: d.Revision, Data: nilIfEmpty(d.Data)})
			return nil
		})
		return err
	})
	if err := r.db.pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fault(err)
	}
	return docs, nil
}

// behindAll returns a text that comes, in bytewise order, behind all keys that begin with a prefix, and before those that come behind them.
// The order of UTF-8 is that of the code points in it.
func behindAll(prefix string) string {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		if last == utf8.MaxRune {
			continue
		}
		if last++; !utf8.ValidRune(last) {
			last = 0xE000 // the first one after the surrogates, which no text has
		}
		return prefix + string(last)
	}
	return strings.Repeat(string(utf8.MaxRune), es.MaxKeyBytes/utf8.UTFMax+1) // longer than any key
}

// Progress returns the checkpoint of a projection; zero when it has none yet.
func (r *ReadModels) Progress(ctx context.Context, projection string) (p es.Progress, err error) {
	if err := r.db.handle.begin(ctx); err != nil {
		return es.Progress{}, err
	}
	defer r.db.handle.leave()
	if err := es.ValidateName("projection", projection); err != nil {
		return es.Progress{}, err
	}
	p, err = scanProgress(r.db.pool.QueryRow(ctx, r.sql.progress, projection))
	return p, fault(err)
}

// scanProgress reads a row of progress, which is zero when it is not there.
func scanProgress(row pgx.Row) (p es.Progress, err error) {
	err = row.Scan(&p.Generation, &p.Epoch, &p.Incarnation, &p.Position)
	if errors.Is(err, pgx.ErrNoRows) {
		return es.Progress{}, nil
	}
	return p, err
}
