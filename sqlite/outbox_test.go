package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

func TestOutbox(t *testing.T) {
	t.Parallel()
	estest.RunOutbox(t, outboxHarness())
}

func TestOutboxMessages(t *testing.T) {
	t.Parallel()
	estest.RunMessage(t, estest.OutboxHop(outboxHarness()))
}

func outboxHarness() estest.Harness[es.Outbox] {
	return harness[es.Outbox]{
		role: (*sqlite.DB).Outbox,
		with: func(s *storage[es.Outbox]) estest.Storage[es.Outbox] { return outboxStorage{s} },
	}
}

type outboxStorage struct{ *storage[es.Outbox] }

func (s outboxStorage) OpenForwarder(t testing.TB, namespace string) (es.Outbox, es.EventStore) {
	t.Helper()
	db := s.openDB(t, sqlite.Config{Namespace: namespace})
	return db.Outbox(), db.Events()
}

var errBoom = errors.New("boom")

// outboxUser works on the outbox of a file; what must not fail fails the test. At the end of the test the outbox must be whole.
type outboxUser struct {
	es.Outbox

	t  testing.TB
	db *sqlite.DB
}

func newOutboxUser(t testing.TB) outboxUser {
	t.Helper()
	return useOutbox(t, newStore(t))
}

func useOutbox(t testing.TB, db *sqlite.DB) outboxUser {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			wantWholeOutbox(t, db)
		}
	})
	return outboxUser{db.Outbox(), t, db}
}

// wantWholeOutbox fails the test unless the tables of the outbox say the same, however they came to say it.
func wantWholeOutbox(t testing.TB, db *sqlite.DB) {
	t.Helper()
	for _, c := range []struct{ what, query string }{
		{"the depth", "SELECT depth - (SELECT count(*) FROM es_outbox_1) FROM es_outbox_state_1"},
		{"those retrying", "SELECT retrying - (SELECT count(*) FROM es_outbox_tries_1 WHERE failed = 1) FROM es_outbox_state_1"},
		{"the dead", "SELECT dead - (SELECT count(*) FROM es_outbox_dead_1) FROM es_outbox_state_1"},
		{"the parked", "SELECT parked - (SELECT count(DISTINCT stream) FROM es_outbox_dead_1 WHERE parked = 1) FROM es_outbox_state_1"},
		{"numbers beyond the last", "SELECT count(*) FROM es_outbox_1 e, es_outbox_state_1 s WHERE max(e.entry, e.place, s.sorted) > s.entry"},
		{"what is sorted in", "SELECT count(*) FROM es_outbox_1 e, es_outbox_state_1 s WHERE (e.entry <= s.sorted OR e.entry <> e.place) <> " +
			"EXISTS (SELECT 1 FROM es_outbox_order_1 r WHERE r.stream = e.stream AND r.place = e.place AND r.entry = e.entry)"},
		{"what is sorted in and gone", "SELECT (SELECT count(*) FROM es_outbox_order_1) - (SELECT count(*) FROM es_outbox_1 e, es_outbox_state_1 s " +
			"WHERE e.entry <= s.sorted OR e.entry <> e.place)"},
		{"tries of nothing", "SELECT count(*) FROM es_outbox_tries_1 WHERE entry NOT IN (SELECT entry FROM es_outbox_1)"},
		{"entries without a stream", "SELECT count(*) FROM es_outbox_order_1 WHERE stream NOT IN (SELECT stream FROM es_outbox_streams_1)"},
		{"streams of nothing", "SELECT count(*) FROM es_outbox_streams_1 WHERE parked = 0 AND stream NOT IN (SELECT stream FROM es_outbox_order_1)"},
		{"where streams are parked", "SELECT count(*) FROM es_outbox_streams_1 s WHERE parked <> " +
			"(SELECT coalesce(min(place), 0) FROM es_outbox_dead_1 d WHERE d.stream = s.stream AND d.parked = 1)"},
		{"parked streams without a row", "SELECT count(*) FROM es_outbox_dead_1 WHERE parked = 1 AND " +
			"stream NOT IN (SELECT stream FROM es_outbox_streams_1)"},
		{"what claims have in hand", "SELECT count(*) FROM es_outbox_streams_1 s WHERE open > 0 AND open <> (SELECT count(*) " +
			"FROM es_outbox_order_1 e LEFT JOIN es_outbox_tries_1 t ON t.entry = e.entry " +
			"WHERE e.stream = s.stream AND e.place <= s.last AND coalesce(t.back, 0) <> s.token)"},
		{"claims that nobody waits for", "SELECT count(*) FROM es_outbox_streams_1 WHERE open > 0 AND ready IS NOT until"},
		{"streams that nobody sees", "SELECT count(*) FROM es_outbox_streams_1 s WHERE open = 0 AND (ready IS NULL) <> " +
			"coalesce((SELECT parked <> 0 AND parked < min(place) FROM es_outbox_order_1 e WHERE e.stream = s.stream HAVING count(*) > 0), 1)"},
	} {
		if got := rows(t, db, 1, c.query); got != "0" {
			t.Errorf("the outbox is not whole, as to %s: %s", c.what, got)
		}
	}
}

// add enqueues n messages of a stream, named stream/0, stream/1 and so on.
func (u outboxUser) add(stream string, n int) []*es.Message {
	u.t.Helper()
	msgs := make([]*es.Message, n)
	for i := range msgs {
		msgs[i] = es.NewMessage(stream, fmt.Sprintf("%s/%d", stream, i), nil)
	}
	must(u.t, u.Enqueue(u.t.Context(), msgs...))
	return msgs
}

// take claims as owner A.
func (u outboxUser) take(most int, lease time.Duration) []es.Entry {
	u.t.Helper()
	dst := make([]es.Entry, most)
	n, err := u.Claim(u.t.Context(), dst, es.ClaimOptions{Owner: "A", Lease: lease})
	must(u.t, err)
	return dst[:n]
}

// taken claims, and fails the test unless these are what it got: name#attempt, in this order.
func (u outboxUser) taken(most int, want ...string) []es.Entry {
	u.t.Helper()
	entries := u.take(most, time.Hour)
	if got := entryNames(entries); !slices.Equal(got, want) {
		u.t.Fatalf("claimed %v, want %v", got, want)
	}
	return entries
}

// wait waits until there is something to claim.
func (u outboxUser) wait() {
	u.t.Helper()
	must(u.t, u.Wait(u.t.Context()))
}

func entryNames(entries []es.Entry) []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = fmt.Sprintf("%s#%d", e.Name, e.Attempt)
	}
	return names
}

func TestClaimSharesAmongStreams(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what string
		most int
		want []string
	}{
		{"an equal share each", 6, []string{"busy/0#1", "busy/1#1", "busy/2#1", "x/0#1", "x/1#1", "y/0#1"}},
		{"one each when there are more", 2, []string{"busy/0#1", "x/0#1"}},
		{"what some do not need", 9, []string{
			"busy/0#1", "busy/1#1", "busy/2#1", "busy/3#1", "busy/4#1", "x/0#1", "x/1#1", "x/2#1", "y/0#1",
		}},
		{"all there is", 200, append(func() (all []string) {
			for i := range 100 {
				all = append(all, fmt.Sprintf("busy/%d#1", i))
			}
			return all
		}(), "x/0#1", "x/1#1", "x/2#1", "y/0#1")},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			u := newOutboxUser(t)
			u.add("busy", 100)
			u.add("x", 3)
			u.add("y", 1)
			u.taken(c.most, c.want...)
		})
	}
}

func TestBusyStreamStarvesNobody(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	u.add("busy", 1000)
	for i := range 10 {
		u.add(fmt.Sprint("quiet-", i), 1)
	}
	quiet := 0
	for range 11 { // each claim has room for one, and each stream is to have its turn
		entries := u.take(1, time.Minute)
		must(t, u.Complete(t.Context(), entries))
		if entries[0].Stream != "busy" {
			quiet++
		}
	}
	if quiet != 10 {
		t.Errorf("of 10 quiet streams %d had their turn in 11 claims", quiet)
	}
}

// TestReplayKeepsTheTurn: a stream that can be claimed from does not go to the end of the queue by what comes back to it.
func TestReplayKeepsTheTurn(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	dead := u.add("a", 3)
	entries := u.take(1, time.Minute)
	must(t, u.Fail(t.Context(), entries, es.Failure{Err: errBoom, Dead: true}))
	u.add("b", 1)
	must(t, u.Replay(t.Context(), dead[0].ID))
	u.taken(1, "a/0#1")
}

// TestEndOfLeaseIsAnAttempt lets a lease end. The machine may sleep as it does in the next test.
func TestEndOfLeaseIsAnAttempt(t *testing.T) {
	t.Parallel()
	for lease := 100 * time.Millisecond; ; lease *= 2 {
		u := newOutboxUser(t)
		u.add("a", 4)
		entries := u.take(4, lease)
		complete, release := u.Complete(t.Context(), entries[1:2]), u.Release(t.Context(), entries[2:3])
		more := u.take(4, time.Hour)
		if !time.Now().Before(entries[0].Deadline) {
			continue
		}
		must(t, complete)
		must(t, release)
		if len(more) != 0 {
			t.Fatalf("claimed %v of a stream that is with a claim", entryNames(more))
		}
		u.wait()
		u.taken(4, "a/0#2", "a/2#1", "a/3#2")
		stats, err := u.Stats(t.Context())
		must(t, err)
		if stats.Retrying != 0 || stats.Failures != 0 || stats.Depth != 3 {
			t.Errorf("the stats are %+v; a lease that ends is no failure", stats)
		}
		return
	}
}

// TestExtendKeepsTheStream extends the lease of one stream of two. When the machine sleeps for longer than the lease, the round says
// nothing, and another follows with a longer one.
func TestExtendKeepsTheStream(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for lease := 200 * time.Millisecond; ; lease *= 2 {
		u := newOutboxUser(t)
		u.add("a", 2)
		u.add("b", 1)
		entries := u.take(3, lease)
		first := entries[0].Deadline
		var extended error
		for extended == nil && entries[0].Deadline.Sub(first) < lease/2 { // so that there is time between the ends of the two leases
			extended = u.Extend(ctx, entries[:1])
		}
		if extended == nil && (!entries[0].Deadline.After(first) || !entries[1].Deadline.Equal(first)) {
			t.Errorf("extended from %v to %v, the others until %v", first, entries[0].Deadline, entries[1].Deadline)
		}
		u.wait() // until the lease of b ends
		next := entryNames(u.take(1, time.Hour))
		err := u.Complete(ctx, entries)
		if !errors.Is(es.Of(err, 2), es.ErrLeaseLost) {
			t.Errorf("completed: %v; want ErrLeaseLost for the stream that was not extended", err)
		}
		if !time.Now().Before(entries[0].Deadline) {
			continue
		}
		must(t, extended)
		if !slices.Equal(next, []string{"b/0#2"}) || es.Of(err, 0) != nil || es.Of(err, 1) != nil {
			t.Errorf("claimed %v, and completed: %v; want the stream that was extended to be kept", next, err)
		}
		return
	}
}

func TestParkedStreamGoesOnUpToItsDeadLetter(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	msgs := u.add("a", 5)
	entries := u.take(5, time.Minute)
	must(t, u.Fail(ctx, []es.Entry{entries[3], entries[1]}, es.Failure{Err: errBoom, Dead: true, Park: true}))
	must(t, u.Release(ctx, []es.Entry{entries[0], entries[2], entries[4]}))
	for _, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"1 and 3 dead", func() error { return nil }, []string{"a/0#1"}},
		{"1 replayed", func() error { return u.Replay(ctx, msgs[1].ID, msgs[1].ID) }, []string{"a/1#1", "a/2#1"}},
		{"3 discarded", func() error { return u.Discard(ctx, msgs[3].ID) }, []string{"a/4#1"}},
	} {
		must(t, step.do())
		entries := u.taken(5, step.want...)
		must(t, u.Complete(ctx, entries))
	}
}

// TestReplayAmongWhatAClaimHas: what is put back while a claim has its neighbors in hand is not the claim's.
func TestReplayAmongWhatAClaimHas(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	msgs := u.add("a", 4)
	entries := u.take(4, time.Minute)
	must(t, u.Fail(ctx, entries[1:2], es.Failure{Err: errBoom, Dead: true}))
	must(t, u.Replay(ctx, msgs[1].ID))
	if err := u.Complete(ctx, entries[1:2]); !errors.Is(err, es.ErrLeaseLost) {
		t.Errorf("complete of what has died and was replayed: %v, want ErrLeaseLost", err)
	}
	must(t, u.Complete(ctx, []es.Entry{entries[0], entries[2]}))
	u.taken(4) // the claim has the last one in hand
	must(t, u.Complete(ctx, entries[3:]))
	u.taken(4, "a/1#1")
}

func TestDiscardLeavesTheStreamThatCameAfter(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	dead := u.add("a", 1)
	must(t, u.Fail(ctx, u.take(1, time.Minute), es.Failure{Err: errBoom, Dead: true}))
	u.add("a", 1)
	must(t, u.Discard(ctx, dead[0].ID))
	u.add("a", 1)
	u.taken(2, "a/0#1", "a/0#1")
}

// TestEnqueueOfADeadLetterBesideItsStream: an ID that is left as it is does not speak for its stream.
func TestEnqueueOfADeadLetterBesideItsStream(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	dead := u.add("a", 1)
	must(t, u.Fail(t.Context(), u.take(1, time.Minute), es.Failure{Err: errBoom, Dead: true}))
	must(t, u.Enqueue(t.Context(), dead[0], es.NewMessage("a", "next", nil)))
	u.taken(2, "next#1")
}

func TestDeadLettersMayChangeInTheLoop(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	const letters = 250 // several pages
	u.add("a", letters)
	must(t, u.Fail(t.Context(), u.take(letters, time.Minute), es.Failure{Err: errBoom, Dead: true}))
	n := 0
	for letter, err := range u.DeadLetters(t.Context()) {
		must(t, err)
		if want := fmt.Sprint("a/", n); letter.Name != want {
			t.Fatalf("letter %d is %s, want %s", n, letter.Name, want)
		}
		must(t, u.Replay(t.Context(), letter.ID))
		n++
	}
	if got := u.take(2*letters, time.Minute); n != letters || len(got) != letters {
		t.Errorf("%d dead letters, and %d of them replayed; want %d", n, len(got), letters)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	u.add("b", 2)
	must(t, u.Fail(t.Context(), u.take(2, time.Minute), es.Failure{Err: errBoom, Dead: true}))
	var last error
	for _, err := range u.DeadLetters(ctx) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the loop ended with %v when its context did, want context.Canceled", last)
	}
}

// TestLargeDeadLettersAreReadOnAFewAtATime: each of them fills a page.
func TestLargeDeadLettersAreReadOnAFewAtATime(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	for i := range 3 {
		must(t, u.Enqueue(t.Context(), es.NewMessage("a", fmt.Sprint("large/", i), make([]byte, 2<<20))))
	}
	must(t, u.Fail(t.Context(), u.take(3, time.Minute), es.Failure{Err: errBoom, Dead: true}))
	n := 0
	for letter, err := range u.DeadLetters(t.Context()) {
		must(t, err)
		if letter.Name != fmt.Sprint("large/", n) || len(letter.Data) != 2<<20 {
			t.Fatalf("letter %d is %s, with %d bytes", n, letter.Name, len(letter.Data))
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d dead letters, want 3", n)
	}
}

func TestEntriesThatNoClaimGave(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	later := u.add("a", 2)[1]
	forwarder, ok := u.Outbox.(es.Forwarder)
	if !ok {
		t.Fatal("the outbox is no Forwarder")
	}
	entries := append(u.take(1, time.Minute), es.Entry{}) // the zero entry has no message
	if err := u.Complete(ctx, []es.Entry{{Message: later, Token: entries[0].Token}}); !errors.Is(err, es.ErrLeaseLost) {
		t.Errorf("complete of an entry that the claim left: %v, want ErrLeaseLost", err)
	}
	if outcomes := forwarder.Forward(ctx, entries[1:]); !errors.Is(outcomes[0].Err, es.ErrInvalid) {
		t.Errorf("forward of a zero entry: %v", outcomes[0].Err)
	}
	for name, answer := range map[string]func() error{
		"complete": func() error { return u.Complete(ctx, entries[1:]) },
		"fail":     func() error { return u.Fail(ctx, entries[1:], es.Failure{Err: errBoom}) },
		"release":  func() error { return u.Release(ctx, entries[1:]) },
		"extend":   func() error { return u.Extend(ctx, entries[1:]) },
	} {
		if err := answer(); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s of a zero entry: %v", name, err)
		}
	}
	if outcomes := forwarder.Forward(ctx, entries); outcomes[0].Err != nil || !errors.Is(outcomes[1].Err, es.ErrInvalid) {
		t.Errorf("forward with a zero entry beside another: %v", outcomes)
	}
}

// TestAnEntryTwiceInACall: the first answer counts.
func TestAnEntryTwiceInACall(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	for name, answer := range map[string]func(entries []es.Entry) error{
		"complete": func(entries []es.Entry) error { return u.Complete(t.Context(), entries) },
		"release":  func(entries []es.Entry) error { return u.Release(t.Context(), entries) },
		"fail":     func(entries []es.Entry) error { return u.Fail(t.Context(), entries, es.Failure{Err: errBoom}) },
		"bury": func(entries []es.Entry) error {
			return u.Fail(t.Context(), entries, es.Failure{Err: errBoom, Dead: true})
		},
	} {
		u.add("a", 2)
		entries := u.take(100, time.Minute)
		err := answer([]es.Entry{entries[0], entries[0], entries[1], entries[0]})
		for i, want := range []error{nil, es.ErrLeaseLost, nil, es.ErrLeaseLost} {
			if got := es.Of(err, i); !errors.Is(got, want) {
				t.Errorf("%s of an entry more than once: answer %d is %v, want %v", name, i, got, want)
			}
		}
		wantWholeOutbox(t, u.db)
		must(t, u.Release(t.Context(), entries[2:]))
	}
}

// TestClaimThatFindsNothingWritesNothing looks at the number that SQLite changes with every commit, on a connection that commits
// nothing itself.
func TestClaimThatFindsNothingWritesNothing(t *testing.T) {
	t.Parallel()
	db := openStore(t, sqlite.Config{Path: tempFile(t), Readers: 1})
	u := useOutbox(t, db)
	version := func() string { return rows(t, db, 1, "PRAGMA data_version") }
	empty := version()
	u.taken(10)
	if got := version(); got != empty {
		t.Error("a claim on an empty outbox has committed something")
	}
	u.add("a", 1)
	before := version()
	u.taken(10, "a/0#1")
	claimed := version()
	if empty == before || before == claimed {
		t.Fatal("what has committed something was not seen")
	}
	u.taken(10)
	if got := version(); got != claimed {
		t.Error("a claim that found nothing has committed something")
	}
}

// TestClaimThatFindsNothingWaitsForNobody claims while a transaction that writes is open, and would wait for it for ever.
func TestClaimThatFindsNothingWaitsForNobody(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	u.add("a", 1)
	u.take(1, time.Hour)
	must(t, u.db.Update(t.Context(), func(tx *sqlite.Tx) error {
		if err := tx.Enqueue(es.NewMessage("b", "b/0", nil)); err != nil { // so that it holds the file
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		n, err := u.Claim(ctx, make([]es.Entry, 1), es.ClaimOptions{Owner: "A"})
		if n != 0 {
			t.Errorf("claimed %d entries, which nobody has committed", n)
		}
		return err
	}))
	u.taken(1, "b/0#1")
}

// TestOutboxSyncsWhatMustSurvive counts the syncs of each call, on a disk that counts.
func TestOutboxSyncsWhatMustSurvive(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	u := useOutbox(t, db)
	ctx := t.Context()
	var msgs []*es.Message
	var entries []es.Entry
	for _, call := range []struct {
		what   string
		synced bool
		do     func() error
	}{
		{"enqueue", true, func() error { msgs = u.add("a", 5); return nil }},
		{"claim", false, func() error { entries = u.take(5, time.Hour); return nil }},
		{"extend", false, func() error { return u.Extend(ctx, entries) }},
		{"complete", true, func() error { return u.Complete(ctx, entries[:1]) }},
		{"fail", true, func() error { return u.Fail(ctx, entries[1:2], es.Failure{Err: errBoom}) }},
		{"bury", true, func() error { return u.Fail(ctx, entries[2:4], es.Failure{Err: errBoom, Dead: true}) }},
		{"release", false, func() error { return u.Release(ctx, entries[4:]) }},
		{"replay", true, func() error { return u.Replay(ctx, msgs[2].ID) }},
		{"discard", true, func() error { return u.Discard(ctx, msgs[3].ID) }},
		{"claim again", false, func() error { u.taken(5, "a/1#2", "a/2#1", "a/4#1"); return nil }},
	} {
		before := disk.TotalCounts()
		must(t, call.do())
		done := disk.TotalCounts().Since(before)
		if done.Writes == 0 {
			t.Errorf("%s has written nothing", call.what)
		}
		if (done.Syncs > 0) != call.synced {
			t.Errorf("%s has synced %d times; want syncs: %v", call.what, done.Syncs, call.synced)
		}
	}
}

// idsIn are the IDs in a table.
func idsIn(t testing.TB, db *sqlite.DB, table string) []uuid.UUID {
	t.Helper()
	var ids []uuid.UUID
	must(t, db.View(context.WithoutCancel(t.Context()), func(v *sqlite.View) error {
		return v.Query(func(r sqlite.Row) error {
			id, err := uuid.FromBytes(r.Bytes(0))
			ids = append(ids, id)
			return err
		}, "SELECT id FROM "+table)
	}))
	return ids
}
