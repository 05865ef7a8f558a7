package postgres_test

import (
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// detour is a way to a server on which requests and answers take longer than others at random, and come in pieces. What happens on the server
// between two statements of a reader, and between a statement and its answer, is more than on a straight way.
type detour struct {
	server   *pgconn.Config
	listener net.Listener
	seed     uint64
	all      sync.WaitGroup
	split    atomic.Int64 // how often something came in pieces
	held     atomic.Int64 // how often something was held up

	mu     sync.Mutex
	closed bool
	links  map[net.Conn]net.Conn // from clients to the server
	begun  uint64                // how many links there were
}

// newDetour makes a detour to a database, and returns the database's URL by it.
func newDetour(t *testing.T, database string, seed uint64) (*detour, string) {
	t.Helper()
	server, err := pgconn.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	d := &detour{server: server, seed: seed, links: map[net.Conn]net.Conn{}}
	if d.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	d.all.Go(d.listen)
	t.Cleanup(d.close)
	u := url.URL{
		Scheme: "postgres", User: url.User(server.User), Host: d.listener.Addr().String(), Path: "/" + server.Database,
		RawQuery: "sslmode=disable",
	}
	return d, u.String()
}

func (d *detour) close() {
	_ = d.listener.Close() // it is closed once
	d.mu.Lock()
	d.closed = true
	for client, server := range d.links {
		_, _ = client.Close(), server.Close() // they may be closed already
	}
	d.mu.Unlock()
	d.all.Wait()
}

func (d *detour) listen() {
	network, address := pgconn.NetworkAddress(d.server.Host, d.server.Port)
	for {
		client, err := d.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(network, address)
		if err != nil {
			_ = client.Close() // as a server does that is not there
			continue
		}
		d.open(client, server)
	}
}

func (d *detour) open(client, server net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		_, _ = client.Close(), server.Close()
		return
	}
	d.links[client] = server
	d.begun++
	there, back := rand.New(rand.NewPCG(d.seed, 2*d.begun)), rand.New(rand.NewPCG(d.seed, 2*d.begun+1))
	d.all.Go(func() { d.carry(client, server, client, there) })
	d.all.Go(func() { d.carry(server, client, client, back) })
}

// carry passes on what comes from one side, until one of them has ended the connection.
func (d *detour) carry(from, to, client net.Conn, random *rand.Rand) {
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if err == nil {
			err = d.pass(b[:n], to, random)
		}
		if err != nil {
			break
		}
	}
	_, _ = from.Close(), to.Close() // the other direction may have closed them
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.links, client)
}

// pass passes something on, in pieces.
func (d *detour) pass(b []byte, to net.Conn, random *rand.Rand) error {
	for len(b) > 0 {
		if pause := delay(random); pause > 0 {
			d.held.Add(1)
			<-time.After(pause)
		}
		n := piece(len(b), random)
		if n < len(b) {
			d.split.Add(1)
		}
		if _, err := to.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// delay is none mostly, and long sometimes.
func delay(random *rand.Rand) time.Duration {
	var longest time.Duration
	switch n := random.IntN(1000); {
	case n < 1:
		longest = 300 * time.Millisecond
	case n < 20:
		longest = 30 * time.Millisecond
	case n < 300:
		longest = 3 * time.Millisecond
	default:
		return 0
	}
	return time.Duration(random.Int64N(int64(longest)))
}

// piece is how many of some bytes go on together: all, or some, or not even as many as a message of the protocol begins with.
func piece(bytes int, random *rand.Rand) int {
	switch random.IntN(8) {
	case 0:
		return 1 + random.IntN(min(bytes, 5))
	case 1, 2:
		return 1 + random.IntN(bytes)
	}
	return bytes
}
