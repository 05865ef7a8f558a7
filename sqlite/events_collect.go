package sqlite

import (
	"strings"

	lite "zombiezen.com/go/sqlite"
)

// rowsAtOnce is how many rows a statement reads by their positions. One for each row would have SQLite begin anew each time.
const rowsAtOnce = 64

// rowsQuery returns the statement that reads rows by their positions, in the order in which these are given.
func rowsQuery(columns, table string) string {
	return "SELECT " + columns + " FROM (VALUES " + strings.TrimSuffix(strings.Repeat("(?),", rowsAtOnce), ",") +
		") AS wanted CROSS JOIN " + table + " ON position = wanted.column1"
}

// collect reads the events that next finds, one after the other: each is the next one to look at, and where it stands. Both are 0 when
// there is none.
func (r *logReader) collect(c *conn, next func() (at, position int64, err error)) error {
	rows, err := c.prepare(r.log.sql.rows)
	if err != nil {
		return err
	}
	bytes := 0
	for scanned := 0; scanned < scanEvents; {
		n, err := r.wanted(rows, next)
		if err != nil || n == 0 {
			return err
		}
		scanned += n
		full, err := r.collectRows(c, rows, &bytes)
		if err != nil || full {
			return err
		}
	}
	return nil
}

// wanted binds the positions of the next events to a statement, and passes them. It returns how many there are.
func (r *logReader) wanted(rows *lite.Stmt, next func() (at, position int64, err error)) (n int, err error) {
	room := min(rowsAtOnce, cap(r.page)-len(r.page))
	for ; n < room && r.low <= r.high; n++ {
		at, position, err := next()
		if err != nil {
			return 0, err
		}
		if position == 0 {
			r.low, r.high = 1, 0
			break
		}
		rows.BindInt64(n+1, position)
		r.passed(at)
	}
	for unused := n; unused < rowsAtOnce; unused++ {
		rows.BindNull(unused + 1)
	}
	return n, nil
}

// collectRows adds to the page what the statement gives and the query selects. When the page is full before the rows are at an end, the
// rest is read another time.
func (r *logReader) collectRows(c *conn, rows *lite.Stmt, bytes *int) (full bool, err error) {
	var stored storedEvent
	for {
		more, err := rows.Step()
		if err != nil {
			return false, fault(err)
		}
		if !more {
			return false, fault(rows.Reset())
		}
		if err := readEvent(rows, &stored, &c.texts); err != nil {
			_ = rows.Reset() // it repeats the error of the last step, which was none
			return false, err
		}
		if *bytes >= pageBytes {
			r.rewind(&stored.Message)
			return true, fault(rows.Reset())
		}
		if r.log.visible(&stored) && r.query.Matches(&stored.Message) {
			*bytes += len(stored.Data)
			r.page = append(r.page, stored.Message)
		}
	}
}
