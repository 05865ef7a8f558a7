package sqlite

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/index"
)

// edit is what was taken away of a stream.
type edit struct {
	hidden   int64 // nobody reads the versions up to this one
	cleared  int64 // and up to this one they are gone from the file
	deleted  int64
	position int64 // of the last event that is hidden
}

// The values of edit.deleted. A stream that was deleted softly and appended to since, so that its version is beyond what is hidden, is
// as any other.
const (
	notDeleted int64 = iota
	deletedSoftly
	deletedForGood
)

// editTable has the edits of all streams that were ever edited. There are few.
type editTable struct {
	count atomic.Uint64 // changes with each edit, also an erasure, that this handle has made or learnt of

	mu      sync.RWMutex
	last    int64 // the largest edit that is here
	highest int64 // position that was ever hidden
	streams map[string]edit
}

func (t *editTable) get(stream string) (edit, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.streams[stream]
	return e, ok
}

// high returns the largest position that was ever hidden.
func (t *editTable) high() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.highest
}

// load takes in the edits up to one.
func (t *editTable) load(c *conn, query string, upTo int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if upTo <= t.last {
		return nil
	}
	err := c.query(func(stmt *lite.Stmt) error {
		e := edit{
			hidden: stmt.ColumnInt64(2), cleared: stmt.ColumnInt64(3), deleted: stmt.ColumnInt64(4), position: stmt.ColumnInt64(5),
		}
		t.streams[stmt.ColumnText(0)] = e
		t.highest = max(t.highest, e.position)
		return nil
	}, query, t.last)
	t.last = upTo
	t.count.Add(1)
	return err
}

// apply takes in an edit of this handle, when it is committed. Of an erasure there is only the number.
func (t *editTable) apply(stream string, e edit, number int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e != (edit{}) {
		t.streams[stream] = e
		t.highest = max(t.highest, e.position)
	}
	t.last = max(t.last, number)
	t.count.Add(1)
}

// edit changes what is hidden of a stream, and then clears what is hidden.
func (l *eventLog) edit(ctx context.Context, stream string, change func(e *edit, version int64)) error {
	var now edit
	var number int64
	err := l.db.write(ctx, &op{how: alone, run: func(tx *txn) error {
		view, err := l.writerView(tx)
		if err != nil {
			return err
		}
		number = 0
		h := streamHead{key: index.KeyOf(index.KindStream, stream)}
		if err := l.head(tx, view, stream, &h); err != nil {
			return err
		}
		now = h.edit
		if now.deleted == deletedSoftly && now.hidden < h.version {
			now.deleted = notDeleted // it was appended to since
		}
		change(&now, h.version)
		if now == h.edit {
			return nil
		}
		if now.hidden > h.edit.hidden {
			if _, now.position, err = view.Stream(h.key, index.Forward).SeekVersion(now.hidden); err != nil {
				return damaged(err)
			}
		}
		number, err = l.nextEdit(tx)
		if err != nil {
			return err
		}
		return tx.write(l.sql.putEdit, stream, number, now.hidden, now.cleared, now.deleted, now.position)
	}, committed: func() {
		if number != 0 {
			l.edits.apply(stream, now, number)
		}
	}})
	if err != nil {
		return err
	}
	return l.clear(ctx, stream)
}

// nextEdit returns the number of an edit, which it writes down as the last.
func (l *eventLog) nextEdit(tx *txn) (int64, error) {
	_, last, err := l.readState(tx.conn)
	if err != nil {
		return 0, err
	}
	return last + 1, tx.write(l.sql.setEdits, last+1)
}

// clearEvents is how many hidden events are cleared in a transaction.
const clearEvents = 256

// clear takes what is hidden of a stream out of the file, in small steps: what remains of an event is its place, its ID and a hash of
// what it said, to know it by when it is appended again. What is left undone when the process dies, the next one does.
func (l *eventLog) clear(ctx context.Context, stream string) error {
	for {
		more := false
		var at edit
		err := l.db.write(ctx, &op{how: alone, run: func(tx *txn) error {
			var err error
			at, more, err = l.clearSome(tx, stream)
			return err
		}, committed: func() { l.edits.clearedTo(stream, at.cleared) }})
		if err != nil || !more {
			return err
		}
	}
}

func (t *editTable) clearedTo(stream string, version int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.streams[stream]; ok {
		e.cleared = max(e.cleared, version)
		t.streams[stream] = e
	}
}

func (l *eventLog) clearSome(tx *txn, stream string) (at edit, more bool, err error) {
	at, _ = l.edits.get(stream)
	if at.cleared >= at.hidden {
		return at, false, nil
	}
	view, err := l.writerView(tx)
	if err != nil {
		return at, false, err
	}
	if err := tx.pragma("PRAGMA secure_delete=ON"); err != nil { // what is cleared is overwritten in the file
		return at, false, err
	}
	cursor := view.Stream(index.KeyOf(index.KindStream, stream), index.Forward)
	var stored storedEvent
	for range clearEvents {
		version, position, err := cursor.SeekVersion(at.cleared + 1)
		if err != nil {
			return at, false, damaged(err)
		}
		if position == 0 || version > at.hidden {
			at.cleared = at.hidden
			break
		}
		if err := l.event(tx.conn, position, &stored); err != nil {
			return at, false, err
		}
		if !stored.stub {
			if err := tx.write(l.sql.clear, stored.fingerprint(), position); err != nil {
				return at, false, err
			}
		}
		at.cleared = version
	}
	if err := tx.write(l.sql.cleared, at.cleared, stream); err != nil {
		return at, false, err
	}
	return at, at.cleared < at.hidden, tx.pragma("PRAGMA secure_delete=OFF")
}

// clearLeftovers clears what a process that died has left hidden and not cleared.
func (l *eventLog) clearLeftovers(ctx context.Context) error {
	for {
		var streams []string
		err := l.db.read(ctx, func(c *conn) error {
			streams = nil
			return c.query(func(stmt *lite.Stmt) error {
				streams = append(streams, stmt.ColumnText(0))
				return nil
			}, l.sql.uncleared)
		})
		if err != nil || len(streams) == 0 {
			return err
		}
		for _, stream := range streams {
			if err := l.clear(ctx, stream); err != nil {
				return err
			}
		}
	}
}

// erase removes data and metadata from events of a stream, and appends the audit event, in one transaction.
func (l *eventLog) erase(ctx context.Context, e es.Erasure) (es.Appended, error) {
	p, err := l.plan(es.AppendTo(e.Audit.Stream, es.Any, e.Audit), l.db.config.Limits)
	if err != nil {
		return es.Appended{}, err
	}
	defer p.release()
	var number int64
	err = l.db.write(ctx, &op{how: alone, run: func(tx *txn) error {
		number = 0
		view, err := l.writerView(tx)
		if err != nil {
			return err
		}
		place, err := l.sameEvent(tx, view, e.Audit)
		if err != nil {
			return err
		}
		if place.Position != 0 {
			return l.append(tx, p) // which finds it there
		}
		positions, err := l.erasable(tx, view, e)
		if err != nil {
			return err
		}
		if err := l.append(tx, p); err != nil {
			return err
		}
		if number, err = l.nextEdit(tx); err != nil {
			return err
		}
		return l.eraseAt(tx, positions, e.Audit.ID.String())
	}, committed: func() {
		if number != 0 {
			l.edits.apply(e.Stream, edit{}, number)
		}
	}})
	if err != nil {
		return es.Appended{}, err
	}
	return p.done, nil
}

// erasable returns the positions of the events that are to be erased.
func (l *eventLog) erasable(tx *txn, view *index.View, e es.Erasure) ([]int64, error) {
	h := streamHead{key: index.KeyOf(index.KindStream, e.Stream)}
	if err := l.head(tx, view, e.Stream, &h); err != nil {
		return nil, err
	}
	versions := slices.Sorted(slices.Values(e.Versions))
	if len(versions) == 0 {
		for version := h.edit.hidden + 1; version <= h.version; version++ {
			versions = append(versions, version)
		}
	}
	var positions []int64
	cursor := view.Stream(h.key, index.Forward)
	for _, version := range versions {
		if version <= h.edit.hidden || version > h.version {
			return nil, fmt.Errorf("version %d: %w", version, es.ErrNotFound)
		}
		_, position, err := cursor.SeekVersion(version)
		if err != nil {
			return nil, damaged(err)
		}
		positions = append(positions, position)
	}
	return positions, nil
}

// eraseAt erases events. Those that were erased before stay as they are.
func (l *eventLog) eraseAt(tx *txn, positions []int64, audit string) error {
	if err := tx.pragma("PRAGMA secure_delete=ON"); err != nil { // what is erased is overwritten in the file
		return err
	}
	metadata := encodeMetadata(map[string]string{es.MetadataErased: audit})
	var stored storedEvent
	for _, position := range positions {
		if err := l.event(tx.conn, position, &stored); err != nil {
			return err
		}
		if _, before := stored.Metadata[es.MetadataErased]; before {
			continue
		}
		if err := tx.write(l.sql.erase, metadata, position); err != nil {
			return err
		}
	}
	return tx.pragma("PRAGMA secure_delete=OFF")
}
