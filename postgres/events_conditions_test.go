package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// taking is an append of an event with a tag, unless another event has it.
func taking(stream, tag string) es.Append {
	a := es.AppendTo(stream, es.Any, event(stream, "SeatTaken", tag))
	a.Unless = []es.Condition{{Match: []es.Criterion{{Tags: []string{tag}}}}}
	return a
}

// winners counts those who have succeeded, and fails the test when another one has another error than a conflict.
func (b *appendBench) winners(errs []error) (n int) {
	b.Helper()
	for _, err := range errs {
		switch {
		case err == nil:
			n++
		case !errors.Is(err, es.ErrConflict):
			b.Errorf("a loser gets %v, want a conflict", err)
		}
	}
	return n
}

func TestOneOfTwoWithTheSameConditionInABatchWins(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	tag, err := b.conn.Exec(b.ctx, `INSERT INTO eventsourcing.events_1 (position, version, id, stream, category, tags)
		SELECT nextval('eventsourcing.positions_1'), 1, gen_random_uuid(), stream, '', '{naive}' FROM unnest('{naive-1,naive-2}'::text[]) AS stream
		WHERE (SELECT count(*) FROM eventsourcing.events_1 WHERE tags = '{naive}') = 0`)
	b.must(err)
	if tag.RowsAffected() != 2 {
		t.Fatalf("the obvious statement has %d winners; this test is about one that has 2", tag.RowsAffected())
	}
	for round := range 20 {
		seat := fmt.Sprintf("seat:%d", round)
		var batch []es.Append
		for i := range 8 {
			batch = append(batch, taking(fmt.Sprintf("person-%d-%d", round, i), seat))
		}
		var errs []error
		for _, outcome := range b.one.AppendEach(b.ctx, batch) {
			errs = append(errs, outcome.Err)
		}
		if n := b.winners(errs); n != 1 {
			t.Errorf("%s: %d winners of a batch, want 1", seat, n)
		}
	}
}

func TestAConditionNeedsToSeeWhatWasCommitted(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		seat := "seat:" + string(level)
		naive, err := b.conn.BeginTx(b.ctx, pgx.TxOptions{IsoLevel: level})
		b.must(err)
		_, err = naive.Exec(b.ctx, "SELECT pg_advisory_xact_lock_shared(1)") // from now on it sees what was there
		b.must(err)
		b.append(b.one, taking("person-1", seat))
		_, err = naive.Exec(b.ctx, "SELECT pg_advisory_xact_lock(2)") // nobody has it any more
		b.must(err)
		var taken int
		b.must(naive.QueryRow(b.ctx, "SELECT count(*) FROM eventsourcing.tags_1 WHERE tag = $1", seat).Scan(&taken))
		if taken != 0 {
			t.Fatalf("a lock and then a look see the event; this test is about one that does not")
		}
		_, err = b.one.AppendTx(b.ctx, naive, taking("person-2", seat))
		wantError(t, "condition in a transaction of level "+string(level), err, es.ErrInvalid)
		_, err = b.one.AppendTx(b.ctx, naive, events("plain-"+string(level), 1, es.NoStream)) // it goes on
		b.must(err)
		b.must(naive.Commit(b.ctx))
		b.wantVersions("person-2")
		b.wantVersions("plain-"+string(level), 1)
	}
}

func TestAPlainAppendInAnOldSnapshotLosesByTheKeys(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	for _, c := range []struct {
		expect es.Expectation
		want   error
	}{{es.Exactly(1), es.ErrConflict}, {es.Any, postgres.ErrBusy}} {
		stream := fmt.Sprintf("order-%d", c.expect)
		b.append(b.one, events(stream, 1, es.NoStream))
		tx, err := b.begin(b.conn, pgx.RepeatableRead, events("other-"+stream, 1, es.NoStream))
		b.must(err)
		b.append(b.two, events(stream, 1, es.Any))
		_, err = b.one.AppendTx(b.ctx, tx, events(stream, 2, c.expect))
		wantError(t, "append that expects "+c.expect.String(), err, c.want)
		b.must(tx.Commit(b.ctx)) // it goes on all the same
		b.wantVersions(stream, 1, 2)
		b.wantVersions("other-"+stream, 1)
	}
}

func TestAnEventDrawnBeforeTheDecisionAndCommittedAfterItIsAConflict(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	for _, match := range []es.Criterion{{Tags: []string{"seat:1"}}, {Names: []string{"SeatTaken"}}, {}} {
		drawn := b.held(es.AppendTo("person-1", es.Any, event("person-1", "SeatTaken", "seat:1")))
		b.append(b.two, events("later-1", 1, es.Any)) // so that the last position is one beyond it
		seen, err := es.ReadForDecision(b.ctx, b.one, []es.Criterion{match}, func(*es.Message) error { return nil })
		b.must(err)
		a := es.AppendTo("person-2", es.Any, event("person-2", "SeatTaken", "seat:1"))
		a.Unless = []es.Condition{seen}
		decided := b.send(b.ctx, b.one, a)
		b.untilWaiting(1)
		b.must(drawn.Commit(b.ctx))
		b.wantConflict(fmt.Sprintf("decision over %+v", match), (<-decided).err)
		b.wantVersions("person-2")
	}
}

func TestOneOfManyTakesASeatAtEachLevel(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	const writers = 32
	for _, level := range []pgx.TxIsoLevel{"", pgx.ReadCommitted, pgx.ReadUncommitted} {
		seat := "seat:" + string(level)
		errs := make(chan error, writers)
		for i := range writers {
			a := taking(fmt.Sprintf("person-%d", i), seat)
			if level == "" {
				s := []*postgres.EventStore{b.one, b.two}[i%2]
				go func() {
					_, err := s.Append(b.ctx, a)
					errs <- err
				}()
				continue
			}
			c := b.connect()
			go func() {
				tx, err := b.begin(c, level, a)
				if err != nil {
					_ = tx.Rollback(b.ctx)
				} else {
					err = tx.Commit(b.ctx)
				}
				errs <- err
			}()
		}
		var all []error
		for range writers {
			all = append(all, <-errs)
		}
		if n := b.winners(all); n != 1 {
			t.Errorf("level %q: %d winners, want 1", level, n)
		}
	}
}

func TestTheLevelThatADatabaseHasByDefaultChangesNothing(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"repeatable read", "serializable"} {
		b := newAppendBench(t)
		var name string
		b.must(b.conn.QueryRow(b.ctx, "SELECT current_database()").Scan(&name))
		run(t, b.url, `ALTER DATABASE "`+name+`" SET default_transaction_isolation = '`+level+`'`)
		run(t, b.url, `ALTER DATABASE "`+name+`" SET synchronous_commit = off`)
		stores := []*postgres.EventStore{b.open(), b.open()}
		errs := make(chan error, 16)
		for i := range cap(errs) {
			go func() {
				_, err := stores[i%2].Append(b.ctx, taking(fmt.Sprintf("person-%d", i), "seat:1"))
				errs <- err
			}()
		}
		var all []error
		for range cap(errs) {
			all = append(all, <-errs)
		}
		if n := b.winners(all); n != 1 {
			t.Errorf("%s: %d winners, want 1", level, n)
		}
	}
}

func TestSeatsThatAreNotTheSameDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	tx := b.held(taking("person-1", "seat:1"))
	foreign, err := b.other.Begin(b.ctx) // somebody else's, which has written something
	b.must(err)
	_, err = foreign.Exec(b.ctx, "CREATE TABLE something (n int)")
	b.must(err)
	b.append(b.one, taking("person-2", "seat:2"))
	b.append(b.two, es.AppendTo("person-3", es.Any, event("person-3", "SeatTaken", "seat:3")))
	b.must(foreign.Rollback(b.ctx))
	waiting := b.send(b.ctx, b.one, taking("person-4", "seat:1"))
	b.untilWaiting(1)
	b.append(b.one, taking("person-5", "seat:5"))
	b.must(tx.Commit(b.ctx))
	b.wantConflict("the same seat", (<-waiting).err)
}
