package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	es "github.com/eventsourcing-go/eventsourcing"
)

// appendStatements are the statements of appends in a namespace.
type appendStatements struct {
	lock, isolation, existing, heads, countMatches, insert string
}

func newAppendStatements(db *DB) appendStatements {
	return appendStatements{
		// A function scan gives its rows in the order of the arrays, so the locks are taken in this order.
		lock: "SELECT CASE WHEN exclusive THEN pg_advisory_xact_lock(key)::text ELSE pg_advisory_xact_lock_shared(key)::text END " +
			"FROM unnest($1::bigint[], $2::boolean[]) AS l (key, exclusive)",
		isolation: "SELECT current_setting('transaction_isolation')",
		existing:  db.sql("SELECT " + storedColumns + " FROM @events_# WHERE id = ANY ($1::text[]::uuid[])"),
		heads: db.sql("SELECT coalesce((SELECT e.version FROM @events_# e WHERE e.stream = s.stream ORDER BY e.version DESC LIMIT 1), 0), " +
			"coalesce(d.hidden, 0), coalesce(d.deleted, 0) FROM unnest($1::text[]) WITH ORDINALITY AS s (stream, number) " +
			"LEFT JOIN @edits_# d ON d.stream = s.stream ORDER BY s.number"),
		// The append's own events, which are there already, do not count.
		countMatches: db.sql("SELECT " + countMatches("$1", "$2", "$3", " AND e.id <> ALL ($4::text[]::uuid[])") + ", " + lastHidden),
		insert:       insertStatement(db),
	}
}

// appending is an append on its way through a transaction.
type appending struct {
	lanes  *lanes
	append *es.Append
	ids    []string

	existing []storedEvent // that have one of the IDs
	found    []es.Place    // of each event, the place it has already; zero for one that is new
	heads    []streamHead
	broken   []error // a verdict for each condition
}

func (s *EventStore) newAppending(a *es.Append) *appending {
	return &appending{lanes: s.lanes, append: a, ids: idTexts(a)}
}

// streamHead is what an append must know of a stream.
type streamHead struct{ version, hidden, deleted int64 }

// The values of edits.deleted. A stream that was deleted softly and appended to since, so that its version is beyond what is hidden, is
// as any other.
const (
	notDeleted int64 = iota
	deletedSoftly
	deletedForGood
)

// meets tells whether a stream is as expected. One that was deleted counts as empty, but its versions go on, so that Exactly takes the
// last one.
func (h *streamHead) meets(expect es.Expectation) bool {
	gone := h.deleted == deletedForGood || h.deleted == deletedSoftly && h.hidden == h.version
	if _, exactly := expect.Version(); !exactly && gone {
		return expect.Holds(0)
	}
	return expect.Holds(h.version)
}

// appendIn appends in a transaction, which waits for others who have the same streams, IDs or condition keys in hand. The append is
// valid. With an error that is not of the database nothing was written, and the transaction goes on.
//
// In READ COMMITTED each statement sees what was committed before it began: the locks come first, then what is there is looked at, and
// then it is written. A transaction that keeps the snapshot of its beginning cannot see what those have written that it has waited for:
// there conditions are [es.ErrInvalid], and an append that is late fails by the unique keys.
func (s *EventStore) appendIn(ctx context.Context, tx pgx.Tx, a *es.Append) (es.Appended, error) {
	p := s.newAppending(a)
	for try := 1; ; try++ {
		done, err := p.attempt(ctx, tx)
		if unique := violatedKey(err); unique != "" {
			// Another transaction had the same ID under way, in another stream.
			if err = p.takenMeanwhile(ctx, tx, unique, err); err == nil && try < tries {
				continue
			}
		}
		if err != nil {
			return es.Appended{}, err
		}
		return done, nil
	}
}

func (p *appending) attempt(ctx context.Context, tx pgx.Tx) (es.Appended, error) {
	var look pgx.Batch
	p.queueLook(&look)
	if err := tx.SendBatch(ctx, &look).Close(); err != nil {
		return es.Appended{}, verdictOr(err)
	}
	rows, done, err := p.judge()
	if err != nil || len(rows.ids) == 0 {
		return done, err
	}
	var insert pgx.Batch // a savepoint lets the transaction go on when one of the keys is taken
	insert.Queue("SAVEPOINT eventsourcing")
	p.queueInsert(&insert, rows, &done)
	insert.Queue("RELEASE SAVEPOINT eventsourcing")
	return done, fault(tx.SendBatch(ctx, &insert).Close())
}

// queueLook adds the statements to a batch that take the locks and then look at what is there.
func (p *appending) queueLook(b *pgx.Batch) {
	a := p.append
	b.Queue(p.lanes.sql.lock, p.lanes.lockArguments(p.lanes.claimsOf(a))...)
	if len(a.Unless) > 0 {
		b.Queue(p.lanes.sql.isolation).QueryRow(needsReadCommitted)
	}
	p.found = make([]es.Place, len(p.ids))
	b.Queue(p.lanes.sql.existing, p.ids).Query(func(rows pgx.Rows) (err error) {
		p.existing, err = storedEvents(rows)
		return err
	})
	streams := make([]string, len(a.Streams))
	for i := range a.Streams {
		streams[i] = a.Streams[i].Stream
	}
	b.Queue(p.lanes.sql.heads, streams).Query(func(rows pgx.Rows) (err error) {
		p.heads, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (h streamHead, err error) {
			return h, row.Scan(&h.version, &h.hidden, &h.deleted)
		})
		return err
	})
	p.broken = make([]error, len(a.Unless))
	for i := range a.Unless {
		p.lanes.queueCondition(b, &a.Unless[i], p.ids, &p.broken[i])
	}
}

// judge decides from what is there whether the append may be done, and returns the events that are to be inserted, of which there may be
// none, and the places of all but for the positions of those.
func (p *appending) judge() (rows *eventRows, done es.Appended, err error) {
	if err := p.resolve(); err != nil {
		return nil, es.Appended{}, err
	}
	done.Places = slices.Clone(p.found)
	for _, place := range p.found {
		if place.Position != 0 {
			done.Existing++
			done.Position = max(done.Position, place.Position)
		}
	}
	rows = &eventRows{}
	if done.Existing > 0 && done.Existing == len(p.found) {
		return rows, done, nil
	}
	if err := p.check(); err != nil {
		return nil, es.Appended{}, err
	}
	event := 0
	for i := range p.append.Streams {
		version := p.heads[i].version
		for _, m := range p.append.Streams[i].Events {
			if done.Places[event].Position == 0 {
				version++
				done.Places[event].Version = version
				rows.add(m, version)
			}
			event++
		}
	}
	return rows, done, nil
}

// queueInsert adds the statement to a batch that writes events, and fills in their positions.
func (p *appending) queueInsert(b *pgx.Batch, rows *eventRows, done *es.Appended) {
	b.Queue(p.lanes.sql.insert, rows.arguments()...).Query(func(rows pgx.Rows) error {
		positions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		for i, n := 0, 0; i < len(done.Places) && n < len(positions); i++ {
			if done.Places[i].Position == 0 {
				done.Places[i].Position = positions[n]
				done.Position = max(done.Position, positions[n])
				n++
			}
		}
		return err
	})
}

// needsReadCommitted reads the isolation level, and fails when it is another one.
func needsReadCommitted(row pgx.Row) error {
	var level string
	if err := row.Scan(&level); err != nil {
		return err
	}
	if level == "read committed" || level == "read uncommitted" { // which is the same in PostgreSQL
		return nil
	}
	return es.Invalidf("transaction", "is one of level %s; an append with a condition needs READ COMMITTED, where a statement sees what was "+
		"committed before it", level)
}

// verdictOr returns an error as it is when it says what is wrong with the call, and otherwise that of the database.
func verdictOr(err error) error {
	if errors.Is(err, es.ErrInvalid) {
		return err
	}
	return fault(err)
}

// resolve finds the events of the append that are there already. One that stands in another stream, or says something else, is an
// [es.DuplicateError].
func (p *appending) resolve() error {
	if len(p.existing) == 0 {
		return nil
	}
	existing := make(map[uuid.UUID]*storedEvent, len(p.existing))
	for i := range p.existing {
		existing[p.existing[i].ID] = &p.existing[i]
	}
	event := 0
	for i := range p.append.Streams {
		for _, m := range p.append.Streams[i].Events {
			stored := existing[m.ID]
			switch {
			case stored == nil:
			case stored.Stream != m.Stream:
				return &es.DuplicateError{ID: m.ID, Stream: stored.Stream, Reason: fmt.Sprintf("and not in %q", m.Stream)}
			case !stored.says(m):
				return &es.DuplicateError{ID: m.ID, Stream: m.Stream, Reason: "with other content"}
			default:
				p.found[event] = es.Place{Version: stored.Version, Position: stored.Position}
			}
			event++
		}
	}
	return nil
}

// check returns an error when a stream is not as expected, or a condition does not hold. A stream that was closed for good comes before
// what may only have to be tried again.
func (p *appending) check() error {
	var conflict error
	event := 0
	for i := range p.append.Streams {
		s, h := &p.append.Streams[i], &p.heads[i]
		found := p.found[event : event+len(s.Events)]
		event += len(s.Events)
		if h.deleted == deletedForGood && slices.Contains(found, es.Place{}) {
			return fmt.Errorf("append to stream %q: %w", s.Stream, es.ErrStreamDeleted)
		}
		if s.Expect == es.Any || conflict != nil {
			continue
		}
		some := slices.ContainsFunc(found, func(place es.Place) bool { return place.Position != 0 })
		if some || !h.meets(s.Expect) {
			conflict = &es.ConflictError{Stream: s.Stream, Expected: s.Expect, Actual: h.version}
		}
	}
	if conflict != nil {
		return conflict
	}
	for _, err := range p.broken {
		if err != nil {
			return err
		}
	}
	return nil
}

// violatedKey returns which unique key of the events a statement has violated, if that is what its error says: "version" or "id".
func violatedKey(err error) string {
	server, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || server.Code != "23505" { // unique_violation
		return ""
	}
	return keyOfConstraint(server.ConstraintName)
}

// takenMeanwhile undoes an insert that has met a unique key of somebody else, so that the append can be judged again. In a transaction
// that cannot see what the other one has written, it is judged here: who expected a version has a conflict, and for the others the
// transaction has to be done again.
func (p *appending) takenMeanwhile(ctx context.Context, tx pgx.Tx, key string, violation error) error {
	if _, err := tx.Exec(ctx, "ROLLBACK TO SAVEPOINT eventsourcing"); err != nil {
		return fault(err)
	}
	if err := needsReadCommitted(tx.QueryRow(ctx, p.lanes.sql.isolation)); err == nil || !errors.Is(err, es.ErrInvalid) {
		return fault(err)
	}
	for i := range p.append.Streams {
		if s := &p.append.Streams[i]; key == "version" && s.Expect != es.Any && len(s.Events) > 0 {
			return &es.ConflictError{Stream: s.Stream, Expected: s.Expect, Actual: p.heads[i].version + 1} // or more, which cannot be seen
		}
	}
	return &engineError{kind: ErrBusy, err: violation}
}
