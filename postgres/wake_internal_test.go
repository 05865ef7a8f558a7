package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// openLineOf opens a connection as the goroutine of the watch has it.
func openLineOf(t *testing.T, db *DB) *line {
	t.Helper()
	l, err := db.openLine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close(t.Context()) })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOthersAreNotifiedWhenTheyListen(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	other := openTail(t, Config{URL: db.config.URL, Namespace: "other"})
	writer, waiter, stranger := openLineOf(t, db), openLineOf(t, db), openLineOf(t, other)
	notified := func(what string, want bool) {
		t.Helper()
		heeded, err := writer.notify(t.Context(), eventsChanged)
		if err != nil || heeded != want {
			t.Fatalf("%s: somebody listens: %t (%v); want %t", what, heeded, err, want)
		}
	}
	must(t, stranger.listen(t.Context()))
	notified("nobody listens but in another namespace", false)
	must(t, writer.listen(t.Context()))
	notified("nobody listens but the writer", false)
	must(t, waiter.listen(t.Context()))
	notified("the other one listens", true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := waiter.await(ctx); err != nil || waiter.heard != eventsChanged {
		t.Errorf("who listens hears of %b (%v), want %b", waiter.heard, err, eventsChanged)
	}
	must(t, waiter.unlisten(t.Context()))
	notified("the other one has gone", false)
	if writer.heard != 0 || stranger.heard != 0 {
		t.Errorf("the writer hears of %b, another namespace of %b", writer.heard, stranger.heard)
	}
	must(t, writer.exec(t.Context(), "SELECT 1")) // it is as good as before
}

// wantWoken has one handle wait and another append, and fails unless the first is woken long before it would look by itself.
func wantWoken(t *testing.T, waiter, writer *DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	head, err := waiter.events.Head(ctx)
	must(t, err)
	for range 20 {
		woken := make(chan error, 1)
		go func() {
			next, err := waiter.events.Wait(ctx, head)
			head = next
			woken <- err
		}()
		_, err := writer.events.Append(ctx, es.AppendTo("some-1", es.Any, es.NewMessage("some-1", "Happened", nil)))
		must(t, err)
		must(t, <-woken)
	}
}

func TestWhoWaitsIsWokenByAnotherProcess(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	began := time.Now()
	wantWoken(t, db, openTail(t, Config{URL: db.config.URL}))
	if took := time.Since(began); took > 10*slowPoll {
		t.Errorf("20 times take %v, as if nobody were notified", took)
	}
}

// TestAPoolerCostsTimeOnly connects through something that says so by the process that it tells of.
func TestAPoolerCostsTimeOnly(t *testing.T) {
	t.Parallel()
	direct := openTail(t, Config{})
	db := openTail(t, Config{URL: direct.config.URL, DirectURL: pooled(t, direct.config.URL)})
	wantWoken(t, db, direct)
	if l := openLineOf(t, db); !l.deaf {
		t.Error("a pooler is not noticed")
	}
	wantWoken(t, direct, db)
}

// pooled listens in front of a server, and lets each connection know of another process than its own, as poolers do.
func pooled(t *testing.T, server string) string {
	t.Helper()
	c, err := pgx.ParseConfig(server)
	must(t, err)
	network, address := pgconn.NetworkAddress(c.Host, c.Port)
	folder := t.TempDir()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(folder, ".s.PGSQL.5432"))
	must(t, err)
	var all sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close() // nobody else has it
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			backend, err := new(net.Dialer).DialContext(context.Background(), network, address)
			if err != nil {
				t.Errorf("dial: %v", err)
				_ = client.Close()
				return
			}
			all.Go(func() {
				_, _ = io.Copy(backend, client) // it ends when either closes
				_ = backend.Close()
			})
			all.Go(func() {
				_ = renameProcess(client, backend)
				_ = client.Close()
			})
		}
	})
	return fmt.Sprintf("host=%s port=5432 user=%s password='%s' database=%s sslmode=disable", folder, c.User, c.Password, c.Database)
}

// renameProcess copies what a server says, and makes the number of the process in its BackendKeyData another one.
func renameProcess(client io.Writer, backend io.Reader) error {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(backend, head); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(backend, body); err != nil {
			return err
		}
		if head[0] == 'K' {
			body[0] ^= 0x40
		}
		if _, err := client.Write(slices.Concat(head, body)); err != nil {
			return err
		}
		if head[0] == 'K' {
			_, err := io.Copy(client, backend)
			return err
		}
	}
}

func TestAConnectionThatNobodyUsesIsClosed(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	db.watch.keep = time.Millisecond
	h := db.hand(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 3 {
		last := h.append()
		db.wantHead(t, last)
		for connections := 1; connections > 0; {
			err := h.conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%LEFT JOIN LATERAL%' "+
				"AND pid <> pg_backend_pid()").Scan(&connections)
			must(t, err)
		}
	}
}

func TestCloseEndsWhoWaits(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	db.wantHead(t, 0)
	waits := make(chan error, 2)
	go func() {
		_, err := db.events.Wait(context.Background(), es.Checkpoint{})
		waits <- err
	}()
	h := db.hand(t)
	h.do("BEGIN")
	h.do("LOCK TABLE @state_# IN ACCESS EXCLUSIVE MODE") // a look does not end
	go func() {
		_, err := db.events.Head(context.Background())
		waits <- err
	}()
	must(t, db.Close())
	for range 2 {
		if err := <-waits; !errors.Is(err, es.ErrClosed) {
			t.Errorf("who waited gets %v, want ErrClosed", err)
		}
	}
	<-db.watch.ended
	if _, err := db.events.Head(t.Context()); !errors.Is(err, es.ErrClosed) {
		t.Errorf("after Close the head is %v, want ErrClosed", err)
	}
	if err := db.watch.begin(); !errors.Is(err, es.ErrClosed) {
		t.Errorf("after Close, waiting begins with %v, want ErrClosed", err)
	}
	db.tell(everything) // is of no use, and does no harm
}

func TestAServerThatIsAwayIsAnErrorAndIsFoundAgain(t *testing.T) {
	t.Parallel()
	s := pgserver.ForTest(t, pgserver.Config{NoSync: true})
	name, err := s.CreateDatabase(t.Context())
	must(t, err)
	db := openTail(t, Config{URL: s.URL(name)})
	last := db.hand(t).append()
	db.wantHead(t, last)
	must(t, s.Kill())
	for range 3 {
		if _, err := db.events.Head(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("without a server the head is %v, want ErrUnavailable", err)
		}
	}
	if _, err := db.events.Wait(t.Context(), es.Checkpoint{Position: last}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a server Wait gives %v, want ErrUnavailable", err)
	}
	must(t, s.Restart(t.Context()))
	db.wantHead(t, last)
}

func BenchmarkTell(b *testing.B) {
	db := &DB{config: Config{}.withDefaults(), handle: &handle{done: make(chan struct{})}}
	db.watch = newWatch(db)
	db.watch.ended = make(chan struct{}) // nobody takes notice
	b.ReportAllocs()
	for b.Loop() {
		db.tell(eventsChanged)
	}
}

// BenchmarkHead measures a look, alone and shared.
func BenchmarkHead(b *testing.B) {
	db, err := Open(b.Context(), Config{URL: pgserver.Database(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() }) // what it tells is tested
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := db.events.Head(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by 100", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(50)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := db.events.Head(b.Context()); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
