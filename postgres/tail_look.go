package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// How much a look reads.
const (
	pageSize = 1000
	// maxPages is how many pages a look reads one after the other. What is beyond them is left out: somebody who is so far behind reads
	// with statements of its own.
	maxPages = 8
	// maxFills is how many gaps a look looks into, and fillSize how large they may be.
	maxFills, fillSize = 256, 4096
)

// errServers is when each statement reaches another server.
var errServers = fmt.Errorf("%w: statements of one connection reach several servers; DirectURL leads past what is in between",
	ErrUnavailable)

// pages are the statements of a look.
type pages struct {
	positions, events           string // beyond a position
	positionsFills, eventsFills string // in gaps too
	head                        string // with Serial
	last                        string
	holders                     string
}

func newPages(db *DB) pages {
	page := func(columns, fills string) string {
		//nolint:unqueryvet // the columns are those of the innermost statements
		return db.sql(fmt.Sprintf("SELECT e.*, s.edits, s.head FROM @state_# s LEFT JOIN LATERAL (%s(SELECT %s FROM @events_# "+
			"WHERE position > $1 ORDER BY position LIMIT %d)) e ON true", fills, columns, pageSize))
	}
	fills := func(columns string) string {
		//nolint:unqueryvet // as above
		return fmt.Sprintf("SELECT f.* FROM unnest($2::bigint[], $3::bigint[]) AS g(first, last) CROSS JOIN LATERAL (SELECT %s "+
			"FROM @events_# WHERE position BETWEEN g.first AND g.last ORDER BY position LIMIT %d) f UNION ALL ", columns, fillSize)
	}
	return pages{
		positions: page("position", ""), events: page(eventColumns, ""),
		positionsFills: page("position", fills("position")), eventsFills: page(eventColumns, fills(eventColumns)),
		head:    db.sql("SELECT NULL::bigint, edits, head FROM @state_#"),
		last:    db.sql("SELECT coalesce(max(position), 0) FROM @events_#"),
		holders: "SELECT " + serverColumns + ", ARRAY(" + holdersOf(db.sql("@positions_#")) + ")",
	}
}

// page is what one statement has read.
type page struct {
	after       int64 // what was seen before
	whole       bool  // events were read, and not only positions
	begun       bool  // a row was read
	edits, head int64
	positions   []int64       // of events beyond, and in gaps
	beyond      int           // how many of them are beyond
	events      []*es.Message // those that are not hidden
}

// round looks at the end of the log, and settles what can be settled. It is called by one goroutine.
func (t *tail) round(ctx context.Context, l *line) error {
	t.step("read")
	if t.db.serial {
		_, err := t.read(ctx, l)
		return err
	}
	for range 3 {
		same, err := t.roundOn(ctx, l)
		if same || err != nil {
			return err
		}
	}
	return errServers
}

// roundOn is a round, which is void when it turns out that the server is another one than before.
func (t *tail) roundOn(ctx context.Context, l *line) (same bool, err error) {
	// Most gaps fill at once. Where looks follow each other, the next one sees to it.
	calm := time.Since(t.last) >= askPace
	t.last = time.Now()
	fresh, err := t.read(ctx, l)
	if err == nil && fresh && calm {
		t.step("again")
		_, err = t.read(ctx, l)
	}
	if err != nil || !t.mayAsk(calm) {
		return true, err
	}
	t.step("ask")
	now, holders, err := t.ask(ctx, l)
	t.step("asked")
	if err != nil {
		return true, err
	}
	if now != l.server {
		return false, l.greet(ctx)
	}
	t.mu.Lock()
	closed := t.fence.mark(holders)
	t.mu.Unlock()
	if closed == 0 {
		return true, nil
	}
	t.step("close")
	// What the holders have left is there now. The window has to have it, and what is beyond may be read on the way.
	if _, err := t.read(ctx, l); err != nil {
		return true, err
	}
	t.giveUp(closed)
	return true, nil
}

// mayAsk tells whether there is something to ask about the holders, and it is time to ask: a gap has outlived a second look, which a
// calm look has made already.
func (t *tail) mayAsk(calm bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, f := time.Now(), &t.fence
	if len(f.gaps) == 0 || now.Sub(f.asked) < askPace || !calm && now.Sub(f.since) < askPace/2 {
		return false
	}
	f.asked = now
	return true
}

// ask asks who holds the sequence, and which server that is.
func (t *tail) ask(ctx context.Context, l *line) (now server, holders []string, err error) {
	err = l.conn.QueryRow(ctx, t.pages.holders).Scan(&now.Started, &now.Timeline, &holders)
	return now, holders, err
}

// giveUp settles what is at or below a position: what has not appeared there never will.
func (t *tail) giveUp(closed int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.filled < closed {
		t.window.leaveOut(t.fence.seen) // not all gaps were looked into since their holders have ended
	}
	skipped, first, last := t.fence.giveUp(closed, time.Now())
	if skipped > 0 {
		t.skipped += skipped
		t.db.config.Logger.Debug("postgres: appends have given positions up", "positions", skipped, "from", first, "to", last)
	}
	t.window.settle(t.fence.settled, t.fence.seen)
}

// fills returns the gaps to look into, and the position below which these are all.
func (t *tail) fills() (first, last []int64, all int64) {
	all = math.MaxInt64
	for _, g := range t.fence.gaps {
		if len(first) < maxFills && !g.unread && g.to-g.from < fillSize {
			first, last = append(first, g.from), append(last, g.to)
			continue
		}
		all = min(all, g.from)
		if len(first) == maxFills {
			break
		}
	}
	return first, last, all
}

// read reads what is beyond the positions that were seen, and in the gaps between them. It tells whether there are gaps that were not
// there before.
func (t *tail) read(ctx context.Context, l *line) (fresh bool, err error) {
	t.mu.Lock()
	first := t.fence.seen == 0
	t.mu.Unlock()
	for n := range maxPages {
		p, err := t.readPage(ctx, l)
		if err != nil {
			return false, err
		}
		fresh = t.take(p) || fresh
		if p.beyond < pageSize {
			return fresh, nil
		}
		if first && n == 0 {
			break // a long log, of which nothing is known
		}
	}
	return fresh, t.skipAhead(ctx, l)
}

// skipAhead goes to the last event without reading those before it.
func (t *tail) skipAhead(ctx context.Context, l *line) error {
	if t.db.serial {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.fence.seen = t.fence.settled
		t.window.leaveOut(t.fence.seen)
		return nil
	}
	last := int64(0)
	if err := l.conn.QueryRow(ctx, t.pages.last).Scan(&last); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fence.skip(last)
	t.window.leaveOut(last)
	return nil
}

// readPage reads a page: whole events when somebody wants some.
func (t *tail) readPage(ctx context.Context, l *line) (*page, error) {
	p := &page{whole: time.Since(time.Unix(0, t.wanted.Load())) < rowsTime}
	t.mu.Lock()
	p.after = t.fence.seen
	first, last, all := t.fills()
	t.mu.Unlock()
	t.filled = all
	query, args := t.pages.positions, []any{p.after}
	switch {
	case !p.whole && t.db.serial:
		query, args = t.pages.head, nil
	case !p.whole && len(first) > 0:
		query, args = t.pages.positionsFills, []any{p.after, first, last}
	case p.whole && len(first) > 0:
		query, args = t.pages.eventsFills, []any{p.after, first, last}
	case p.whole:
		query = t.pages.events
	}
	rows, err := l.conn.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := p.scan(rows, t.decoder); err != nil {
			return nil, err
		}
	}
	return p, rows.Err()
}

// scan takes in a row: what an event has, or only its position, and then the state, which all rows have. There is one without an event
// when there are none.
func (p *page) scan(rows pgx.Rows, d *decoder) error {
	raw := rows.RawValues()
	fields := make([]any, len(raw)) // what is nil is left out
	if !p.begun {
		p.begun = true
		fields[len(raw)-2], fields[len(raw)-1] = &p.edits, &p.head
	}
	if raw[positionColumn] == nil {
		return rows.Scan(fields...)
	}
	position := int64(0)
	fields[positionColumn] = &position
	if err := rows.Scan(fields...); err != nil {
		return err
	}
	p.positions = append(p.positions, position)
	if position > p.after {
		p.beyond++
	}
	if !p.whole || raw[nameColumn] == nil { // it is hidden
		return nil
	}
	m := &es.Message{}
	if err := d.row(rows, m); err != nil {
		return fmt.Errorf("event at position %d: %w", position, err)
	}
	p.events = append(p.events, m)
	return nil
}

// row reads the columns of an event, which others follow.
func (d *decoder) row(rows pgx.Rows, m *es.Message) error {
	for _, column := range []int{positionColumn, idColumn, tagsColumn, dataColumn} {
		if rows.FieldDescriptions()[column].Format != pgx.BinaryFormatCode {
			return d.scan(firstColumns{rows}, m)
		}
	}
	return d.decode(rows, m)
}

// firstColumns are rows with more columns than those of an event.
type firstColumns struct{ pgx.Rows }

func (r firstColumns) Scan(fields ...any) error {
	return r.Rows.Scan(append(fields, make([]any, len(r.RawValues())-len(fields))...)...)
}

// take takes in a page. It tells whether there are gaps that were not there before.
func (t *tail) take(p *page) (fresh bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	f, w := &t.fence, &t.window
	if p.edits != t.edits { // what is in memory may look different now
		t.edits = p.edits
		w.restart(f.settled)
		w.leaveOut(f.seen)
	}
	for _, m := range p.events {
		w.add(m)
	}
	if t.db.serial {
		f.settled = p.head
		f.seen = p.head
		if p.beyond == pageSize {
			f.seen = slices.Max(p.positions)
		}
	} else {
		slices.Sort(p.positions) // they nearly are
		for _, position := range p.positions {
			fresh = f.found(position) || fresh
		}
		f.settle(now)
	}
	if n := len(f.gaps); n > 0 && f.gaps[n-1].unread {
		w.leaveOut(f.seen)
	}
	if !p.whole {
		w.leaveOut(f.seen)
	}
	w.settle(min(f.settled, f.seen), f.seen)
	return fresh
}
