package sqlite

import (
	"context"
	"errors"
	"sync"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// readers is a pool of connections that read.
type readers struct {
	config Config
	places chan struct{} // one in it for each connection that may be in use

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

func newReaders(c Config) *readers {
	return &readers{config: c, places: make(chan struct{}, c.Readers)}
}

// read has do read the file, in one snapshot. It is to be short: while it lasts, the write-ahead log cannot begin anew. When do
// fails, so does read.
func (r *readers) read(ctx context.Context, do func(c *conn) error) (err error) {
	c, err := r.take(ctx)
	if err != nil {
		return err
	}
	defer func() { // also when do panics: it may be the program's own function
		if end := r.end(c); end != nil {
			err = errors.Join(err, end)
		}
	}()
	if err := c.query(nil, "BEGIN"); err != nil {
		return err
	}
	return do(c)
}

// take waits for a connection.
func (r *readers) take(ctx context.Context) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case r.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := r.idleOne()
	if err == nil && c == nil {
		c, err = openReader(r.config)
	}
	if err != nil {
		<-r.places
		return nil, err
	}
	return c, nil
}

// idleOne returns a connection that is not in use, and nil when there is none.
func (r *readers) idleOne() (*conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, es.ErrClosed
	}
	n := len(r.idle)
	if n == 0 {
		return nil, nil //nolint:nilnil // there is none, and that is fine
	}
	c := r.idle[n-1]
	r.idle = r.idle[:n-1]
	return c, nil
}

// end ends the snapshot of a connection and gives the connection back.
func (r *readers) end(c *conn) error {
	if !c.AutocommitEnabled() {
		if err := c.query(nil, "ROLLBACK"); err != nil { // it has written nothing
			<-r.places
			return errors.Join(err, c.closeConn())
		}
	}
	return r.give(c)
}

// give gives a connection back.
func (r *readers) give(c *conn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { <-r.places }()
	if r.closed {
		return c.closeConn()
	}
	r.idle = append(r.idle, c)
	return nil
}

// close closes the connections that are idle, and lets the others be closed when they are given back.
func (r *readers) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	var errs []error
	for _, c := range r.idle {
		errs = append(errs, c.closeConn())
	}
	r.idle = nil
	return errors.Join(errs...)
}

// pageCache lets a connection keep 8 MiB of pages, where 2 are usual: who reads a stream goes to and fro in the file.
const pageCache = "PRAGMA cache_size=-8192"

// openReader opens a connection that cannot write.
func openReader(config Config) (*conn, error) {
	c, err := openConn(config, lite.OpenReadWrite) // one that is read-only could not make the shared memory of the log
	if err != nil {
		return nil, err
	}
	for _, setting := range []string{"PRAGMA query_only=1", pageCache} {
		if err := c.pragma(setting); err != nil {
			return nil, errors.Join(err, c.closeConn())
		}
	}
	return c, nil
}
