package sqlite

import (
	"net/url"
	"sync"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// conn is a connection to the file, for one goroutine at a time.
type conn struct {
	texts texts // that were read by the connection
	*lite.Conn
	guard *guard
}

// openConn opens a connection to the file, which must be there unless flags say that it is to be made.
func openConn(c Config, flags lite.OpenFlags) (*conn, error) {
	if c.vfs != "" {
		return openConnAt(c, fileURI(c, url.Values{}), flags|lite.OpenURI)
	}
	return openConnAt(c, c.Path, flags)
}

func openConnAt(c Config, path string, flags lite.OpenFlags) (*conn, error) {
	driver.Lock()
	defer driver.Unlock()
	opened, err := lite.OpenConn(path, flags)
	if err != nil {
		return nil, fault(err)
	}
	opened.SetBusyTimeout(c.BusyTimeout)
	return &conn{Conn: opened, guard: &guard{}}, nil
}

// closeConn closes a connection.
func (c *conn) closeConn() error {
	driver.Lock()
	defer driver.Unlock()
	return fault(c.Close())
}

// driver is held while a connection is opened or closed. The driver keeps authorizers by the address of a connection, and lets go of one
// after the connection is closed, when another may have its address already: that one would be left without, and a statement that is
// prepared then would end the process.
var driver sync.Mutex //nolint:gochecknoglobals // the tables that it guards are global too

// prepare returns a statement that is kept with the connection, ready to be bound.
func (c *conn) prepare(query string) (*lite.Stmt, error) {
	stmt, err := c.Prepare(query)
	if err != nil {
		return nil, fault(err)
	}
	return stmt, nil
}

// query runs a statement and calls row for each of its rows; row may be nil. The arguments are int64, int, float64, string, []byte,
// bool or nil. An error of row ends it.
func (c *conn) query(row func(*lite.Stmt) error, query string, args ...any) error {
	stmt, err := c.prepare(query)
	if err != nil {
		return err
	}
	if err := bind(stmt, args); err != nil {
		return err
	}
	return each(stmt, row)
}

// each steps through a statement that is bound, and leaves it reset.
func each(stmt *lite.Stmt, row func(*lite.Stmt) error) error {
	for {
		more, err := stmt.Step()
		if err != nil {
			return fault(err) // the driver has reset it
		}
		if !more {
			return fault(stmt.Reset())
		}
		if row == nil {
			continue
		}
		if err := row(stmt); err != nil {
			_ = stmt.Reset() // it repeats the error of the last step, which was none
			return err
		}
	}
}

// bind sets the parameters of a statement, in order.
func bind(stmt *lite.Stmt, args []any) error {
	for i, arg := range args {
		switch v := arg.(type) {
		case int64:
			stmt.BindInt64(i+1, v)
		case int:
			stmt.BindInt64(i+1, int64(v))
		case string:
			stmt.BindText(i+1, v)
		case []byte:
			stmt.BindBytes(i+1, v)
		case float64:
			stmt.BindFloat(i+1, v)
		case bool:
			stmt.BindBool(i+1, v)
		case nil:
			stmt.BindNull(i + 1)
		default:
			return es.Invalidf("statement", "has an argument of type %T; it takes int, int64, float64, bool, string, []byte and nil", arg)
		}
	}
	return nil
}

// pragma runs a statement that is not kept, such as a setting.
func (c *conn) pragma(query string) error {
	stmt, _, err := c.PrepareTransient(query)
	if err != nil {
		return fault(err)
	}
	err = each(stmt, nil)
	if final := stmt.Finalize(); err == nil {
		err = fault(final)
	}
	return err
}

// number runs a statement whose result is one integer, and gives 0 when it has no row, or NULL.
func (c *conn) number(query string, args ...any) (int64, error) {
	var n int64
	err := c.query(func(stmt *lite.Stmt) error {
		n = stmt.ColumnInt64(0)
		return nil
	}, query, args...)
	return n, err
}

// columnBytes returns a copy of a column, nil when it is empty or NULL.
func columnBytes(stmt *lite.Stmt, column int) []byte {
	n := stmt.ColumnLen(column)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	stmt.ColumnBytes(column, b)
	return b
}

// timeOf is the time that stands in the file; 0 is the zero time.
func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// timeAt is a time that stands in the file and is always there.
func timeAt(us int64) time.Time { return time.UnixMicro(us).UTC() }
