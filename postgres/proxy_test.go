package postgres_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// proxy stands between a store and its server. It knows nothing of what it passes on, but can cut the way at a chosen moment.
type proxy struct {
	server   *pgconn.Config
	listener net.Listener
	all      sync.WaitGroup

	mu     sync.Mutex
	closed bool
	links  map[*link]struct{}
	trap   *trap
}

// link is a connection that goes through.
type link struct {
	client, server net.Conn
	mute           bool // what the server says is not passed on; with the mutex of the proxy
}

// moment is when a way is cut.
type moment int

const (
	beforeRequest moment = iota // the server gets nothing of it
	beforeAnswer                // the server has done it
	whenTold                    // it has been sent, and the server may be at it; the test cuts
)

// trap waits for a request with certain bytes in it.
type trap struct {
	needle []byte
	pass   int // so many of those requests go by
	when   moment
	sprung chan struct{}
	goOn   chan struct{} // if not nil, the request is held until it is closed
}

// newProxy makes a way to the server of a database, and returns the database's URL by it.
func newProxy(t *testing.T, database string) (*proxy, string) {
	t.Helper()
	c, err := pgconn.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{server: c, links: map[*link]struct{}{}}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.all.Go(p.listen)
	t.Cleanup(p.close)
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(c.User, c.Password), Host: p.listener.Addr().String(), Path: "/" + c.Database,
		RawQuery: "sslmode=disable",
	}
	return p, u.String()
}

func (p *proxy) close() {
	_ = p.listener.Close() // it is closed once
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cut()
	p.all.Wait()
}

func (p *proxy) listen() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		network, address := pgconn.NetworkAddress(p.server.Host, p.server.Port)
		server, err := net.Dial(network, address)
		if err != nil {
			_ = client.Close() // as if it were the server that does not answer
			continue
		}
		p.open(&link{client: client, server: server})
	}
}

func (p *proxy) open(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		l.close()
		return
	}
	p.links[l] = struct{}{}
	p.all.Go(func() { p.carry(l, l.client, l.server, p.request) })
	p.all.Go(func() { p.carry(l, l.server, l.client, p.answer) })
}

func (l *link) close() {
	_, _ = l.client.Close(), l.server.Close() // one of them may be closed already
}

// carry passes on what comes from one side, as long as it may.
func (p *proxy) carry(l *link, from, to net.Conn, may func(l *link, b []byte) bool) {
	defer l.close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil || !may(l, b[:n]) {
			break
		}
		if _, err := to.Write(b[:n]); err != nil {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// cancelRequest is what a connection begins with that a driver opens to have the server cancel what another one is at (PostgreSQL's manual,
// 55.7, CancelRequest). A network that is gone does not bring it there.
var cancelRequest = []byte{0, 0, 0, 16, 4, 210, 22, 46}

// request tells whether something goes to the server.
func (p *proxy) request(l *link, b []byte) bool {
	if bytes.HasPrefix(b, cancelRequest) {
		return false
	}
	p.mu.Lock()
	sprung := p.trap
	if sprung == nil || !bytes.Contains(b, sprung.needle) {
		p.mu.Unlock()
		return true
	}
	if sprung.pass > 0 {
		sprung.pass--
		p.mu.Unlock()
		return true
	}
	p.trap = nil
	l.mute = true
	p.mu.Unlock()
	close(sprung.sprung)
	if sprung.goOn != nil {
		<-sprung.goOn
	}
	return sprung.when != beforeRequest
}

// answer tells whether something comes back.
func (p *proxy) answer(l *link, _ []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !l.mute
}

// cutAt has the way cut on which the next request comes with certain bytes in it. The channel is closed when it has come.
func (p *proxy) cutAt(when moment, needle []byte) <-chan struct{} {
	return p.set(&trap{needle: needle, when: when, sprung: make(chan struct{})})
}

func (p *proxy) set(t *trap) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = t
	return t.sprung
}

// cut cuts all ways that there are.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// cutOne cuts one of the ways, whichever.
func (p *proxy) cutOne() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
		return
	}
}

func (m moment) String() string {
	return [...]string{"before the request", "before the answer", "when told"}[m]
}
