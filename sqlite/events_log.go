package sqlite

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/index"
)

// eventLog is what a handle keeps in memory of the events of its namespace, so that an append need not ask the file: where the log
// ends, the index of its newest part, the versions of streams that were written to lately, and what was edited. All of it follows
// from the file. It is a [state] of the writer.
type eventLog struct {
	db      *DB
	sql     eventQueries
	blocks  *index.Cache
	indexer *indexer
	edits   editTable
	plans   sync.Pool // of *appendPlan

	// mu is held by who may change what is below: the writer during a transaction, and a reader that has found events of
	// others. The tail and the runs are read without it.
	mu        sync.Mutex
	last      int64        // the position of the newest event, of the open transaction too
	committed atomic.Int64 // the position of the newest event that is on the disk
	recorded  int64        // when that was, in microseconds; clocks may step back, Recorded does not
	tail      *index.Tail
	runs      atomic.Pointer[runSet]
	heads     headCache
	pending   []pendingEvent // of the open transaction
	insert    *lite.Stmt     // of the connection that writes; made when it is needed first

	view       index.View // of the writer, as it was when runs and last position were these
	viewLast   int64
	viewRuns   *runSet
	viewBlocks *index.Cache  // by the connection that writes; made when it is needed first
	viewSpan   [1]index.Span // room for what the view has of the tail
}

// runSet is the runs of the index as they were at one moment. It is not changed.
type runSet struct {
	generation int64 // the number in the file that rises when the runs change
	runs       []index.Run
	last       int64 // the last position that is in a run
}

// pendingEvent is an event of the open transaction: what is to be undone with it.
type pendingEvent struct {
	position int64
	stream   index.Key
}

// eventQueries are the statements of the event store in its namespace.
type eventQueries struct {
	last, state, runs, scan, insert, identity, row, rows, pageForward, pageBackward string
	block, putBlock, dropBlocks, putRun, dropRun, setRuns, firstBlock               string
	lastRun, setLastRun                                                             string
	edits, putEdit, setEdits, clear, cleared, uncleared, erase                      string
}

func newEventLog(db *DB) *eventLog {
	l := &eventLog{db: db, tail: index.NewTail(0), heads: newHeadCache()}
	l.sql = eventQueries{
		last:  db.sql("SELECT max(position) FROM es_events_$"),
		state: db.sql("SELECT runs, edits FROM es_state_$"),
		runs:  db.sql("SELECT run, base, last, level, events, blocks, root FROM es_runs_$ ORDER BY base"),
		scan: db.sql("SELECT position, version, id, stream, name, recorded, tags FROM es_events_$ " +
			"WHERE position BETWEEN ? AND ? ORDER BY position"),
		identity: db.sql("SELECT version, id, stream FROM es_events_$ WHERE position = ?"),
		insert: db.sql("INSERT INTO es_events_$ (position, version, recorded, " + messageColumns + ") VALUES (?, ?, ?, " +
			messagePlaces + ")"),
		rows: db.sql(rowsQuery("position, version, recorded, "+messageColumns, "es_events_$")),
		row:  db.sql("SELECT position, version, recorded, " + messageColumns + " FROM es_events_$ WHERE position = ?"),
		pageForward: db.sql("SELECT position, version, recorded, " + messageColumns +
			" FROM es_events_$ WHERE position BETWEEN ? AND ? ORDER BY position LIMIT +?"),
		pageBackward: db.sql("SELECT position, version, recorded, " + messageColumns +
			" FROM es_events_$ WHERE position BETWEEN ? AND ? ORDER BY position DESC LIMIT +?"),
		block:      db.sql("SELECT data FROM es_blocks_$ WHERE block = ?"),
		putBlock:   db.sql("INSERT OR REPLACE INTO es_blocks_$ (block, data) VALUES (?, ?)"),
		dropBlocks: db.sql("DELETE FROM es_blocks_$ WHERE block BETWEEN ? AND ?"),
		firstBlock: db.sql("SELECT min(block) FROM es_blocks_$ WHERE block >= ?"),
		putRun:     db.sql("INSERT INTO es_runs_$ (run, base, last, level, events, blocks, root) VALUES (?, ?, ?, ?, ?, ?, ?)"),
		dropRun:    db.sql("DELETE FROM es_runs_$ WHERE run = ?"),
		setRuns:    db.sql("UPDATE es_state_$ SET runs = ?"),
		lastRun:    db.sql("SELECT run FROM es_state_$"),
		setLastRun: db.sql("UPDATE es_state_$ SET run = ?"),
		edits:      db.sql("SELECT stream, edit, hidden, cleared, deleted, position FROM es_edits_$ WHERE edit > ? ORDER BY edit"),
		putEdit: db.sql("INSERT OR REPLACE INTO es_edits_$ (stream, edit, hidden, cleared, deleted, position) " +
			"VALUES (?, ?, ?, ?, ?, ?)"),
		setEdits: db.sql("UPDATE es_state_$ SET edits = ?"),
		clear: db.sql("UPDATE es_events_$ SET name = NULL, schema = NULL, time = NULL, correlation = NULL, causation = NULL, " +
			"content_type = NULL, tags = NULL, metadata = NULL, data = ? WHERE position = ?"),
		cleared:   db.sql("UPDATE es_edits_$ SET cleared = max(cleared, ?) WHERE stream = ?"),
		uncleared: db.sql("SELECT stream FROM es_edits_$ WHERE cleared < hidden LIMIT 100"),
		erase:     db.sql("UPDATE es_events_$ SET metadata = ?, data = NULL WHERE position = ?"),
	}
	l.runs.Store(&runSet{})
	l.edits.streams = map[string]edit{}
	l.blocks = index.NewCache(nil, db.config.IndexCache)
	l.indexer = newIndexer(l)
	return l
}

// enter, refresh, mark, undo, commit and leave make it a [state] of the writer.
func (l *eventLog) enter() { l.mu.Lock() }

func (l *eventLog) leave() {
	l.pending = l.pending[:0]
	l.mu.Unlock()
}

func (l *eventLog) refresh(tx *txn) error { return l.catchUp(tx.conn) }

func (l *eventLog) mark() int64 { return l.last }

func (l *eventLog) undo(mark int64) {
	if l.last == mark {
		return
	}
	for i := len(l.pending) - 1; i >= 0 && l.pending[i].position > mark; i-- {
		l.heads.forget(l.pending[i].stream)
		l.pending = l.pending[:i]
	}
	l.tail.Undo(mark)
	l.last = mark
	l.viewRuns = nil
}

func (l *eventLog) commit() {
	l.committed.Store(l.last)
	if _, due := l.nextRun(); due {
		l.indexer.wake()
	}
}

// nextRun returns up to which position the next run is to go, and whether it is time to make it.
func (l *eventLog) nextRun() (to int64, due bool) {
	committed, last := l.committed.Load(), l.runs.Load().last
	if few := l.db.config.runEvents; few > 0 {
		return committed, committed-last >= few
	}
	_, to, full := l.tail.Sealed()
	return to, full && to <= committed && to > last
}

// catchUp takes in what others have written. The connection is in a transaction that sees at least what this handle has seen, and
// nobody else is changing the log: l.mu is held, and no transaction of the writer is open, or it is its own that begins.
func (l *eventLog) catchUp(c *conn) error {
	generation, edit, err := l.readState(c)
	if err != nil {
		return err
	}
	runs := l.runs.Load()
	if generation > runs.generation {
		if runs, err = l.readRuns(c, generation); err != nil {
			return err
		}
		l.runs.Store(runs)
		l.cut(runs.last)
	}
	if err := l.edits.load(c, l.sql.edits, edit); err != nil {
		return err
	}
	err = l.scan(c, l.tail.Last(), noVersion, func(e *index.Event, recorded int64, keys *index.Keys) {
		l.tail.Add(keys)
		l.heads.put(keys.Stream, e.Version)
		l.last = e.Position
		l.recorded = max(l.recorded, recorded)
	})
	l.committed.Store(l.last)
	return err
}

// cut lets go of the part of the tail that is in runs now. A log that was behind begins again where the runs end.
func (l *eventLog) cut(last int64) {
	if last > l.last { // others have written so much that it is in runs already: what the cache says of versions is old
		l.heads.clear()
		l.last = last
	}
	l.tail.Cut(last)
}

// readState returns the numbers that rise when the runs change, and when something is edited.
func (l *eventLog) readState(c *conn) (runs, edits int64, err error) {
	err = c.query(func(stmt *lite.Stmt) error {
		runs, edits = stmt.ColumnInt64(0), stmt.ColumnInt64(1)
		return nil
	}, l.sql.state)
	return runs, edits, err
}

// readRuns reads the runs that a snapshot has.
func (l *eventLog) readRuns(c *conn, generation int64) (*runSet, error) {
	set := &runSet{generation: generation}
	err := c.query(func(stmt *lite.Stmt) error {
		run := readRun(stmt)
		if err := run.Open(); err != nil {
			return damaged(err)
		}
		if run.Base != set.last {
			return damaged(fmt.Errorf("run %d begins at position %d, and the one before it ends at %d", run.ID, run.Base, set.last))
		}
		set.runs, set.last = append(set.runs, run), run.Last
		return nil
	}, l.sql.runs)
	return set, err
}

// scan reads what the index must know of the events beyond a position, up to another.
func (l *eventLog) scan(c *conn, after, upTo int64, found func(e *index.Event, recorded int64, keys *index.Keys)) error {
	var e index.Event
	var keys index.Keys
	last := after
	return c.query(func(stmt *lite.Stmt) error {
		var id uuid.UUID
		stmt.ColumnBytes(2, id[:])
		e = index.Event{
			Position: stmt.ColumnInt64(0), Version: stmt.ColumnInt64(1), ID: id, Stream: stmt.ColumnText(3), Name: stmt.ColumnText(4),
		}
		if e.Position <= last || e.Position > upTo { // as a damaged page may have it
			return damaged(fmt.Errorf("SQLite finds position %d after %d", e.Position, last))
		}
		last = e.Position
		if !stmt.ColumnIsNull(6) {
			tags, err := decodeTags(stmt.ColumnText(6))
			if err != nil {
				return damaged(fmt.Errorf("event at position %d: %w", e.Position, err))
			}
			e.Tags = tags
		}
		keys.Set(&e)
		keys.Position, keys.Version = e.Position, e.Version
		found(&e, stmt.ColumnInt64(5), &keys)
		return nil
	}, l.sql.scan, after+1, upTo)
}

// damaged says that what stands in the file cannot be so.
func damaged(err error) error { return &engineError{kind: ErrCorrupt, err: err} }

// writerView returns the index as the writer sees it, with what the open transaction has added.
func (l *eventLog) writerView(tx *txn) (*index.View, error) {
	runs := l.runs.Load()
	if l.viewRuns == runs && l.viewLast == l.last {
		return &l.view, nil
	}
	span, ok := l.tail.Span(runs.last, l.last)
	if !ok {
		return nil, damaged(fmt.Errorf("the index in memory begins at position %d, and the runs end at %d", l.tail.Base(), runs.last))
	}
	if l.viewBlocks == nil {
		l.viewBlocks = l.blocks.With(&blockReader{log: l, conn: tx.conn})
	}
	l.viewSpan[0], l.viewRuns = span, nil // the view that was is no more
	view, err := index.NewView(runs.runs, l.viewBlocks, l.viewSpan[:]...)
	if err != nil {
		return nil, damaged(err)
	}
	l.view, l.viewRuns, l.viewLast = view, runs, l.last
	return &l.view, nil
}

// blockReader reads blocks of the index by a connection.
type blockReader struct {
	log  *eventLog
	conn *conn
}

// Block is that of [index.Blocks].
func (b *blockReader) Block(run int64, number int) ([]byte, error) {
	var data []byte
	err := b.conn.query(func(stmt *lite.Stmt) error {
		data = columnBytes(stmt, 0)
		return nil
	}, b.log.sql.block, blockNumber(run, number))
	if err == nil && data == nil {
		err = damaged(fmt.Errorf("block %d of run %d of the index is not there", number, run))
	}
	return data, err
}

// blockNumber is under which number a block of a run stands in the file.
func blockNumber(run int64, number int) int64 { return run<<24 | int64(number) }

// headCache has the versions of streams that were written to lately. What it says is right: who writes tells it, and what was rolled
// back is forgotten. It has two halves; when one is full the older one goes.
type headCache struct{ young, old map[index.Key]int64 }

const headCacheEntries = 100_000

func newHeadCache() headCache {
	return headCache{young: map[index.Key]int64{}, old: map[index.Key]int64{}}
}

func (h *headCache) get(stream index.Key) (version int64, ok bool) {
	if version, ok = h.young[stream]; ok {
		return version, true
	}
	if version, ok = h.old[stream]; ok {
		h.put(stream, version)
	}
	return version, ok
}

func (h *headCache) put(stream index.Key, version int64) {
	if len(h.young) >= headCacheEntries {
		h.old, h.young = h.young, make(map[index.Key]int64, headCacheEntries)
	}
	h.young[stream] = version
}

func (h *headCache) forget(stream index.Key) {
	delete(h.young, stream)
	delete(h.old, stream)
}

func (h *headCache) clear() {
	clear(h.young)
	clear(h.old)
}
