package eshttp

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
)

// MaxBody returns a handler whose requests have bodies of at most so many bytes. Beyond it reading the body fails with an
// *http.MaxBytesError, which [Error] makes a 413. It holds in the place of what [Config].MaxBodyBytes says, and of a MaxBody further
// out, be it more or less: so a route for files takes more than the others. A limit of 0 or less allows no body.
//
// How long the body may take to come is another matter: see [Config].ReadTimeout, and http.ResponseController to set it for a route.
func MaxBody(limit int64, next http.Handler) http.Handler {
	limit = max(limit, 0)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if outer, ok := r.Context().Value(bodyKey{}).(*limitedBody); ok {
			outer.limit = limit
			next.ServeHTTP(w, r)
			return
		}
		body := &limitedBody{w: w, body: r.Body, limit: limit}
		r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// bodyKey is the context key under which a request has its limited body, whatever has been wrapped around it since.
type bodyKey struct{}

// limitedBody is a body that is limited as it was said last before it is read.
type limitedBody struct {
	w     http.ResponseWriter // is told when the body is too large, so that it closes the connection
	body  io.ReadCloser
	limit int64

	limited io.ReadCloser // from the first Read on
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.limited == nil {
		b.limited = http.MaxBytesReader(b.w, b.body, b.limit)
	}
	return b.limited.Read(p)
}

func (b *limitedBody) Close() error { return b.body.Close() }

// limitListener returns a listener that has at most so many connections open at a time.
func limitListener(l net.Listener, most int) net.Listener {
	return &limitedListener{Listener: l, room: make(chan struct{}, most), closed: make(chan struct{})}
}

type limitedListener struct {
	net.Listener

	room   chan struct{} // holds a token for each connection
	once   sync.Once
	closed chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	connection, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &limitedConnection{Conn: connection, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConnection makes room for another when it is closed.
type limitedConnection struct {
	net.Conn

	leave func()
}

func (c *limitedConnection) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// ReadFrom lets files be sent as the system can do best.
func (c *limitedConnection) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite lets the server end an answer before it closes the connection, so that it is not lost with a body that was not read.
func (c *limitedConnection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
