package postgres_test

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// secret is what must not be found in any table afterwards.
const secret = "Countess-of-Lovelace"

// confidential makes an event that has the secret in everything that can be hidden.
func confidential(stream string, n int) *es.Message {
	m := numbered(stream, n)
	m.Name, m.CorrelationID, m.CausationID, m.ContentType = secret, secret, secret, "text/"+secret
	m.Tags, m.Metadata, m.Data = []string{"tag-" + secret}, map[string]string{"who": secret}, []byte(secret)
	return m
}

// secrets counts the rows of all tables of the store that have the secret in them.
func (p *program) secrets() (n int) {
	p.Helper()
	rows, err := p.own.Query(p.ctx, "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'eventsourcing'::regnamespace AND relkind = 'r'")
	p.must(err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	p.must(err)
	for _, table := range tables {
		count := p.value("SELECT count(*) FROM "+table+" AS row WHERE (row::text LIKE '%' || $1 || '%' "+
			"OR row::text LIKE '%' || $2 || '%')", secret, hex.EncodeToString([]byte(secret)))
		found, err := strconv.Atoi(count)
		p.must(err)
		n += found
	}
	return n
}

func TestWhatIsHiddenIsGoneFromTheTables(t *testing.T) {
	t.Parallel()
	for name, hide := range map[string]func(p *program) error{
		"Truncate":   func(p *program) error { return p.events.Truncate(p.ctx, "order-1", 4) },
		"SoftDelete": func(p *program) error { return p.events.Delete(p.ctx, "order-1", es.SoftDelete) },
		"Tombstone":  func(p *program) error { return p.events.Delete(p.ctx, "order-1", es.Tombstone) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, postgres.Config{})
			events := []*es.Message{confidential("order-1", 1), confidential("order-1", 2), confidential("order-1", 3)}
			_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, events...))
			p.must(err)
			if p.secrets() == 0 {
				t.Fatal("the secret is not found where it is")
			}
			p.must(hide(p))
			if n := p.secrets(); n != 0 {
				t.Errorf("the secret is in %d rows", n)
			}
			done, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, events...))
			if p.must(err); done.Existing != 3 {
				t.Errorf("appended again, %d of 3 events are known", done.Existing)
			}
		})
	}
}

func TestWhatIsErasedIsGoneFromTheTables(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	m := numbered("order-1", 1)
	m.Data, m.Metadata = []byte(secret), map[string]string{"who": secret}
	_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, m))
	p.must(err)
	if p.secrets() != 1 {
		t.Fatal("the secret is not found where it is")
	}
	_, err = p.events.Erase(p.ctx, es.Erasure{Stream: "order-1", Audit: numbered("audit-1", 1)})
	p.must(err)
	if n := p.secrets(); n != 0 {
		t.Errorf("the secret is in %d rows", n)
	}
}

// Many events, and large ones, are cleared part by part.
func TestALongStreamIsClearedWhole(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{Limits: es.Limits{EventsPerAppend: 2000}})
	events := make([]*es.Message, 1200)
	for i := range events {
		events[i] = confidential("order-1", i)
		if i%200 == 0 {
			events[i].Data = bytes.Repeat([]byte(secret), 1<<20/len(secret))
		}
	}
	_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, events...))
	p.must(err)
	p.must(p.events.Truncate(p.ctx, "order-1", 1200))
	if n := p.secrets(); n != 2 { // the last event, and its tag
		t.Errorf("the secret is in %d rows, and not 2", n)
	}
	if got := p.value("SELECT count(*) FROM eventsourcing.events_1 WHERE name IS NULL AND octet_length(data) = 32"); got != "1199" {
		t.Errorf("%s events are cleared", got)
	}
}

// An edit takes what is there when it is done, and not when it is called: an append that is open has its stream.
func TestAnEditWaitsForAnOpenAppendAndTakesIt(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	tx := p.begin(pgx.TxOptions{})
	_, err := p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.Any, confidential("order-1", 1)))
	p.must(err)
	edited := make(chan error)
	go func() { edited <- p.events.Delete(p.ctx, "order-1", es.Tombstone) }()
	p.until("1", waiting)
	p.must(tx.Commit(p.ctx))
	p.must(<-edited)
	if n := p.secrets(); n != 0 || p.history() != "" {
		t.Errorf("the secret is in %d rows, and the events are %q", n, p.history())
	}
}

// An append that comes while a stream is being closed finds it closed. The edit is held up behind everything that it does.
func TestAnAppendWaitsForAnOpenEditAndHeedsIt(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, numbered("order-1", 1)))
	p.must(err)
	holder := p.begin(pgx.TxOptions{})
	_, err = holder.Exec(p.ctx, "SELECT FROM eventsourcing.state_1 FOR UPDATE")
	p.must(err)
	edited, appended := make(chan error), make(chan error)
	go func() { edited <- p.events.Delete(p.ctx, "order-1", es.Tombstone) }()
	p.until("1", waiting)
	go func() {
		_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.Exactly(1), numbered("order-1", 2)))
		appended <- err
	}()
	p.until("2", waiting)
	if got := p.history(); got != "order-1 1" {
		t.Errorf("the events are %q while the edit is not committed", got)
	}
	p.must(holder.Rollback(p.ctx))
	p.must(<-edited)
	wantError(t, "the append", <-appended, es.ErrStreamDeleted)
}

// Edits, erasures and appends of several handles meet in the same streams, whose audit events are in each other's.
func TestEditsThatMeetAreDoneOneAfterTheOther(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	stores := []es.EventStore{p.events, openDB(t, postgres.Config{URL: p.url}).Events()}
	const workers, rounds = 4, 25
	var wait sync.WaitGroup
	for i := range workers {
		wait.Go(func() {
			for n := range rounds {
				store := stores[i%len(stores)]
				stream, other := "order-"+strconv.Itoa(rand.IntN(2)), "order-"+strconv.Itoa(rand.IntN(2))
				_, err := store.Append(p.ctx, es.AppendTo(stream, es.Any, confidential(stream, n)))
				if err == nil {
					_, err = store.Erase(p.ctx, es.Erasure{Stream: stream, Audit: numbered(other, n)})
				}
				if err == nil && n%5 == 0 {
					err = store.Truncate(p.ctx, other, int64(n))
				}
				if err == nil && n%9 == 0 {
					err = store.Delete(p.ctx, stream, es.SoftDelete)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if got := p.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); got != "0" {
		t.Errorf("there were %s deadlocks", got)
	}
	if got := p.value("SELECT count(*) = 2 * $1 AND sum(version) = (SELECT sum(n * (n + 1) / 2) FROM (SELECT max(version) AS n FROM "+
		"eventsourcing.events_1 GROUP BY stream) AS s) FROM eventsourcing.events_1", workers*rounds); got != "true" {
		t.Error("there are holes in the versions")
	}
	if got := p.value("SELECT count(*) FROM eventsourcing.events_1 e JOIN eventsourcing.edits_1 d USING (stream) " +
		"WHERE e.version <= d.hidden AND e.name IS NOT NULL"); got != "0" {
		t.Errorf("%s events that are hidden have not been cleared", got)
	}
}

// Who has read something, and keeps it, finds out by the number of edits that it may look different now.
func TestEditsAreCounted(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, numbered("order-1", 1), numbered("order-1", 2)))
	p.must(err)
	erasure := es.Erasure{Stream: "order-1", Versions: []int64{2}, Audit: numbered("audit-1", 1)}
	for i, step := range []struct {
		what string
		do   func() error
		want string
	}{
		{"truncating nothing", func() error { return p.events.Truncate(p.ctx, "order-1", 1) }, "0"},
		{"truncating", func() error { return p.events.Truncate(p.ctx, "order-1", 2) }, "1"},
		{"erasing", func() error { _, err := p.events.Erase(p.ctx, erasure); return err }, "2"},
		{"erasing again", func() error { _, err := p.events.Erase(p.ctx, erasure); return err }, "2"},
		{"deleting", func() error { return p.events.Delete(p.ctx, "order-1", es.SoftDelete) }, "3"},
		{"deleting again", func() error { return p.events.Delete(p.ctx, "order-1", es.SoftDelete) }, "3"},
		{"closing", func() error { return p.events.Delete(p.ctx, "order-1", es.Tombstone) }, "4"},
	} {
		p.must(step.do())
		if got := p.value("SELECT edits FROM eventsourcing.state_1"); got != step.want {
			t.Errorf("%d, %s: there are %s edits, and not %s", i, step.what, got, step.want)
		}
	}
}

// What has been read and was not handed out yet is not handed out any more when it was taken away meanwhile.
func TestAReaderDoesNotGetWhatIsTakenAwayMeanwhile(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	for n := range 10 {
		_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.Any, numbered("order-1", n)))
		p.must(err)
	}
	for name, q := range map[string]es.Query{"of the stream": {Stream: "order-1"}, "of all": {Unsettled: true}} {
		p.must(p.events.Delete(p.ctx, "order-2", es.SoftDelete))
		_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.Any, numbered("order-1", 1), numbered("order-1", 2)))
		p.must(err)
		got := 0
		for _, err := range p.events.Read(p.ctx, q) {
			p.must(err)
			if got++; got == 1 {
				p.must(p.events.Delete(p.ctx, "order-1", es.SoftDelete))
			}
		}
		if got != 1 {
			t.Errorf("a read %s gives %d events, after all but the first were taken away", name, got)
		}
	}
}
