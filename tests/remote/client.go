package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Client is the roles that a server serves, by a connection of its own. It is an [es.Backend].
type Client struct {
	*wire

	conn   net.Conn
	read   chan struct{} // closed when the connection has ended
	closed chan struct{} // closed when Close was called
	once   sync.Once

	mu      sync.Mutex
	calls   map[uint64]chan frame // those under way
	running sync.WaitGroup        // counts them; it rises while the client is not closed
	last    uint64
	ended   bool // there is no answer any more
}

var _ es.Backend = (*Client)(nil)

// Open opens a namespace of what the server at an address serves.
func Open(address, namespace string) (*Client, error) {
	return open(address, opening{Namespace: namespace})
}

// OpenBounded is [Open] with bounds for dedupe: how many handled messages it remembers in each group, and for how long.
func OpenBounded(address, namespace string, entries int, ttl time.Duration) (*Client, error) {
	return open(address, opening{namespace, entries, ttl})
}

func open(address string, o opening) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(context.Background(), "unix", address)
	if err != nil {
		return nil, err
	}
	c := &Client{
		wire: newWire(conn), conn: conn, read: make(chan struct{}), closed: make(chan struct{}), calls: map[uint64]chan frame{},
	}
	go c.receiveAll()
	body, err := pack(o)
	if err == nil {
		_, err = c.ask(context.Background(), "open", body)
	}
	if err != nil {
		c.Drop()
		return nil, err
	}
	return c, nil
}

// Drop ends the connection as kill -9 of its process does.
func (c *Client) Drop() {
	_ = c.conn.Close()
	<-c.read
}

// Close waits for the writes that are under way, and ends the calls that wait.
func (c *Client) Close() error {
	var err error
	c.once.Do(func() {
		c.mu.Lock()
		close(c.closed)
		c.mu.Unlock()
		var body []byte
		if body, err = pack(one[bool]{}); err == nil {
			_, err = c.exchange(context.Background(), "close", body)
		}
		if errors.Is(err, es.ErrClosed) {
			err = nil // the connection has ended before, and all calls with it
		}
		c.running.Wait() // for the answers, which say what was done
		c.Drop()
	})
	<-c.read
	return err
}

func (c *Client) receiveAll() {
	defer close(c.read)
	for {
		f, err := c.receive()
		c.mu.Lock()
		if err != nil {
			c.ended = true
			for _, answer := range c.calls {
				close(answer)
			}
			clear(c.calls)
			c.mu.Unlock()
			return
		}
		if answer, ok := c.calls[f.ID]; ok {
			delete(c.calls, f.ID)
			answer <- f
		}
		c.mu.Unlock()
	}
}

// lost is the error of a call that has no answer, because the connection ended.
func (c *Client) lost() error {
	select {
	case <-c.closed:
		return es.ErrClosed
	default:
		return fmt.Errorf("the connection has ended: %w", net.ErrClosed)
	}
}

// ask makes a call, unless the client is closed.
func (c *Client) ask(ctx context.Context, name string, body []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	select {
	case <-c.closed:
		c.mu.Unlock()
		return nil, es.ErrClosed
	default:
		c.running.Add(1)
		defer c.running.Done()
	}
	c.mu.Unlock()
	return c.exchange(ctx, name, body)
}

// exchange makes a call, and takes it back when ctx ends. It returns when the server has answered, so that the outcome is known
// whenever it can be.
func (c *Client) exchange(ctx context.Context, name string, body []byte) ([]byte, error) {
	answer := make(chan frame, 1)
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return nil, c.lost()
	}
	c.last++
	id := c.last
	c.calls[id] = answer
	c.mu.Unlock()
	if err := c.send(frame{ID: id, Name: name, Body: body}); err != nil {
		_ = c.conn.Close() // the rest of the frame cannot follow; the answer is that there is none
	}
	takeBack := context.AfterFunc(ctx, func() { _ = c.send(frame{ID: id}) })
	defer takeBack()
	f, ok := <-answer
	if !ok {
		return nil, c.lost()
	}
	err := f.Err.err()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = ctx.Err()
	}
	return f.Body, err
}

// asking makes a call that has a result. There may be one beside an error.
func asking[Out any](ctx context.Context, c *Client, name string, in any) (Out, error) {
	var out one[Out]
	body, err := pack(in)
	if err != nil {
		return out.V, err
	}
	result, failed := c.ask(ctx, name, body)
	if len(result) > 0 {
		err = unpack(result, &out)
	}
	if failed != nil {
		err = failed
	}
	return out.V, err
}

// tell makes a call that has no result.
func (c *Client) tell(ctx context.Context, name string, in any) error {
	body, err := pack(in)
	if err != nil {
		return err
	}
	_, err = c.ask(ctx, name, body)
	return err
}

// Events returns the event store of the server.
func (c *Client) Events() es.EventStore { return events{c} }

// Outbox returns the outbox of the server.
func (c *Client) Outbox() es.Outbox { return outbox{c} }

// ReadModels returns the read models of the server.
func (c *Client) ReadModels() es.ReadModels { return readModels{c} }

// Dedupe returns the memory of handled messages of the server.
func (c *Client) Dedupe() es.Dedupe { return dedupe{c} }

// Leases returns the leases of the server.
func (c *Client) Leases() es.Leases { return leases{c} }

// Snapshots is nil: this backend does not play the role.
func (*Client) Snapshots() es.Snapshots { return nil }

// Capabilities says what a server can do. Nothing outlives it.
func (*Client) Capabilities() es.Capabilities {
	return es.Capabilities{Name: "remote", Shared: true, WakeUp: 20 * time.Millisecond, Limits: es.Limits{}.WithDefaults()}
}
