package postgres

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

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

// modelSQL is the statements of read models.
type modelSQL struct {
	load, list, progress                                       string
	lockFence, fence, lockProgress, addModels, lockModels      string
	lockDocuments, put, create, remove                         string
	moveProgress, beginProgress, endProgress, renameProgress   string
	hideModel, renameModel, any, hidden, removeModel, sweepOne string
	lockAllProgress, lockAllModels                             string
}

func newReadModels(db *DB) *ReadModels {
	r := &ReadModels{db: db, sql: newModelSQL(db)}
	r.sweeper.begin(r)
	return r
}

func newModelSQL(db *DB) modelSQL {
	const (
		given    = "unnest($1::bigint[], $2::text[], $3::bytea[]) AS g (model, key, data)"
		document = "INSERT INTO @documents_# (model, key, revision, data) SELECT g.model, g.key, nextval('@revisions_#'), g.data FROM " +
			given + " ON CONFLICT (model, key) DO "
	)
	return modelSQL{
		load: db.sql("SELECT key, revision, data FROM @documents_# WHERE model = (SELECT model FROM @models_# WHERE name = $1) " +
			"AND key = ANY ($2::text[])"),
		list: db.sql("SELECT key, revision, data FROM @documents_# WHERE model = (SELECT model FROM @models_# WHERE name = $1) " +
			"AND key > $2 AND key >= $3 AND ($4::text IS NULL OR key < $4) ORDER BY key LIMIT $5"),
		progress: db.sql("SELECT generation, epoch, incarnation, position FROM @progress_# WHERE projection = $1"),

		lockFence:    db.sql("SELECT FROM @leases_# WHERE name = $1 FOR SHARE"),
		fence:        db.sql("SELECT EXISTS (SELECT FROM @leases_# WHERE name = $1 AND owner = $2 AND token = $3 AND until > " + now + ")"),
		lockProgress: db.sql("SELECT generation, epoch, incarnation, position FROM @progress_# WHERE projection = $1 FOR UPDATE"),
		addModels: db.sql("INSERT INTO @models_# (name) SELECT g.name FROM unnest($1::text[]) AS g (name) " +
			"WHERE NOT EXISTS (SELECT FROM @models_# m WHERE m.name = g.name) ORDER BY g.name ON CONFLICT (name) DO NOTHING"),
		lockModels: db.sql("SELECT name, model FROM @models_# WHERE name = ANY ($1::text[]) ORDER BY name FOR KEY SHARE"),
		lockDocuments: db.sql("SELECT m.name, d.key, d.revision FROM unnest($1::text[], $2::text[]) AS g (name, key) " +
			"JOIN @models_# m ON m.name = g.name JOIN @documents_# d ON d.model = m.model AND d.key = g.key " +
			"ORDER BY d.model, d.key FOR UPDATE OF d"),

		put:    db.sql(document + "UPDATE SET revision = excluded.revision, data = excluded.data"),
		create: db.sql("WITH created AS (" + document + "NOTHING RETURNING model, key) SELECT model, key FROM created"),
		remove: db.sql("DELETE FROM @documents_# d USING unnest($1::bigint[], $2::text[]) AS g (model, key) " +
			"WHERE d.model = g.model AND d.key = g.key"),

		moveProgress: db.sql("UPDATE @progress_# SET generation = $2, epoch = $3, incarnation = $4, position = $5 WHERE projection = $1"),
		beginProgress: db.sql("INSERT INTO @progress_# (projection, generation, epoch, incarnation, position) VALUES ($1, $2, $3, $4, $5) " +
			"ON CONFLICT (projection) DO NOTHING"),
		endProgress:    db.sql("DELETE FROM @progress_# WHERE projection = $1"),
		renameProgress: db.sql("UPDATE @progress_# SET projection = $2 WHERE projection = $1"),

		lockAllProgress: db.sql("SELECT FROM @progress_# WHERE projection = ANY ($1::text[]) ORDER BY projection FOR UPDATE"),
		lockAllModels:   db.sql("SELECT FROM @models_# WHERE name = ANY ($1::text[]) ORDER BY name FOR UPDATE"),

		hideModel:   db.sql("UPDATE @models_# SET name = NULL WHERE name = $1"),
		renameModel: db.sql("UPDATE @models_# SET name = $2 WHERE name = $1"),
		any: db.sql("SELECT EXISTS (SELECT FROM @documents_# WHERE model = (SELECT model FROM @models_# WHERE name = $1)) " +
			"OR EXISTS (SELECT FROM @progress_# WHERE projection = $1)"),
		hidden: db.sql("SELECT model FROM @models_# WHERE name IS NULL ORDER BY model LIMIT 1"),
		removeModel: db.sql("DELETE FROM @models_# WHERE model = $1 AND name IS NULL AND " +
			"NOT EXISTS (SELECT FROM @documents_# WHERE model = $1)"),
		sweepOne: db.sql("DELETE FROM @documents_# WHERE model = $1 AND key = ANY (ARRAY (SELECT key FROM @documents_# WHERE model = $1 " +
			"ORDER BY key LIMIT $2 FOR UPDATE SKIP LOCKED))"),
	}
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
	docs, at := make([]es.Document, len(keys)), make(map[string][]int, len(keys))
	for i, key := range keys {
		if err := es.ValidateKey(key); err != nil {
			return nil, err
		}
		docs[i].Key = key
		at[key] = append(at[key], i)
	}
	if len(keys) == 0 {
		return docs, nil
	}
	err := readDocuments(ctx, on, func(d es.Document) {
		for _, i := range at[d.Key] {
			docs[i] = d
		}
	}, r.sql.load, model, keys)
	if err != nil {
		return nil, err
	}
	return docs, nil
}

// readDocuments reads rows of a key, a revision and data. The planner leaves out scans of whole tables, for which it would take them by
// what it knew of a table when that was small.
func readDocuments(ctx context.Context, on querier, see func(d es.Document), query string, arguments ...any) error {
	var b pgx.Batch
	b.Queue(byIndex)
	b.Queue(query, arguments...).Query(func(rows pgx.Rows) error {
		var d es.Document
		_, err := pgx.ForEachRow(rows, []any{&d.Key, &d.Revision, &d.Data}, func() error {
			see(es.Document{Key: d.Key, Revision: d.Revision, Data: nilIfEmpty(d.Data)})
			d.Data = nil
			return nil
		})
		return err
	})
	return fault(on.SendBatch(ctx, &b).Close())
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
	err = readDocuments(ctx, r.db.pool, func(d es.Document) { docs = append(docs, d) }, r.sql.list, q.Model, q.After, q.Prefix,
		behindAll(q.Prefix), q.Limit)
	if err != nil {
		return nil, err
	}
	return docs, nil
}

// behindAll returns the first text, in bytewise order, that comes behind all that begin with a prefix; nil when there is none. The order of
// UTF-8 is that of the code points in it.
func behindAll(prefix string) *string {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		if last == utf8.MaxRune {
			continue
		}
		if last++; !utf8.ValidRune(last) {
			last = 0xE000 // the first one after the surrogates, which no text has
		}
		behind := prefix + string(last)
		return &behind
	}
	return nil
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
	p, _, err = scanProgress(r.db.pool.QueryRow(ctx, r.sql.progress, projection))
	return p, fault(err)
}

// scanProgress reads a row of progress, and tells whether there is one.
func scanProgress(row pgx.Row) (p es.Progress, there bool, err error) {
	err = row.Scan(&p.Generation, &p.Epoch, &p.Incarnation, &p.Position)
	if errors.Is(err, pgx.ErrNoRows) {
		return es.Progress{}, false, nil
	}
	return p, err == nil, err
}
