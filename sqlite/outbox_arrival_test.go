package sqlite_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// park makes a dead letter of a stream, for which the stream waits.
func (u outboxUser) park(stream string) *es.Message {
	u.t.Helper()
	dead := u.add(stream, 1)[0]
	must(u.t, u.Fail(u.t.Context(), u.take(1, time.Minute), es.Failure{Err: errBoom, Dead: true, Park: true}))
	return dead
}

// TestWhatArrivesInVainIsSortedInOnce: a claim has to look at what has arrived, and the next one is to find that it is of no use yet
// without writing.
func TestWhatArrivesInVainIsSortedInOnce(t *testing.T) {
	t.Parallel()
	db := openStore(t, sqlite.Config{Path: tempFile(t), Readers: 1})
	u := useOutbox(t, db)
	dead := u.park("a")
	u.add("a", 5)
	version := func() string { return rows(t, db, 1, "PRAGMA data_version") }
	arrived := version()
	u.taken(10)
	sorted := version()
	u.taken(10)
	if got := version(); arrived == sorted || sorted != got {
		t.Errorf("the file went from version %s to %s by the first claim, and to %s by the second", arrived, sorted, got)
	}
	must(t, u.Replay(t.Context(), dead.ID))
	u.taken(3, "a/0#1", "a/0#1", "a/1#1")
}

// TestAClaimFindsWhatArrivedBehindMuchThatWaits: what a claim sorts in at once is bounded, and that is no reason to come back with nothing.
func TestAClaimFindsWhatArrivedBehindMuchThatWaits(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	dead := u.park("a")
	u.add("a", 2*sqlite.SortedAtOnce+10)
	u.add("b", 1)
	u.taken(10, "b/0#1")
	must(t, u.Discard(t.Context(), dead.ID))
	u.taken(2, "a/0#1", "a/1#1")
}

// TestAClaimSortsInNoMoreThanItMay: nobody waits long for a claim, however much has arrived.
func TestAClaimSortsInNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	u.add("a", 3*sqlite.SortedAtOnce)
	sorted := func() string { return rows(t, u.db, 1, "SELECT sorted FROM es_outbox_state_1") }
	for _, step := range []struct{ most, sorted int }{
		{1, sqlite.SortedAtOnce},
		{2 * sqlite.SortedAtOnce, 3 * sqlite.SortedAtOnce}, // it may hand out as much, if it were not with the other claim
		{1, 3 * sqlite.SortedAtOnce},
	} {
		u.take(step.most, time.Hour)
		if got := sorted(); got != strconv.Itoa(step.sorted) {
			t.Errorf("after a claim of %d entries %s are sorted in, want %d", step.most, got, step.sorted)
		}
	}
}

// TestAStreamKeepsItsOrderWhileMoreArrives has a stream of which some entries are in hand, some have come back, some are replayed and some
// have arrived since the last claim.
func TestAStreamKeepsItsOrderWhileMoreArrives(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	send := func(names ...string) {
		t.Helper()
		for _, name := range names {
			must(t, u.Enqueue(ctx, es.NewMessage("a", name, nil)))
		}
	}
	send("A", "B", "C", "D")
	entries := u.taken(3, "A#1", "B#1", "C#1")
	send("E")
	must(t, u.Fail(ctx, entries[:1], es.Failure{Err: errBoom, Dead: true}))
	must(t, u.Complete(ctx, entries[1:2]))
	send("F")
	must(t, u.Replay(ctx, entries[0].ID)) // while E and F are not sorted in, and C is in hand
	u.taken(10)
	must(t, u.Release(ctx, entries[2:]))
	send("G")
	entries = u.taken(10, "A#1", "C#1", "D#1", "E#1", "F#1", "G#1")
	send("H")
	must(t, u.Complete(ctx, entries)) // and the stream has nothing that is sorted in
	send("I")
	u.taken(10, "H#1", "I#1")
}

// TestAnIDThatIsDoneMayComeAgain answers an entry twice while a new one with the same ID has arrived, which is not that of the claim.
func TestAnIDThatIsDoneMayComeAgain(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	m := es.NewMessage("a", "A", nil)
	must(t, u.Enqueue(ctx, m, es.NewMessage("a", "B", nil)))
	entries := u.taken(2, "A#1", "B#1")
	must(t, u.Complete(ctx, entries[:1]))
	must(t, u.Enqueue(ctx, m))
	for range 2 { // before and after it is sorted in
		wantError(t, "complete again", es.Of(u.Complete(ctx, entries[:1]), 0), es.ErrLeaseLost)
		u.taken(2)
	}
	must(t, u.Complete(ctx, entries[1:]))
	u.taken(2, "A#1")
}

// TestNumbersOfAnOutboxAreThoseOfWhatWasDone has many change the outbox in the transactions that they share, some in vain.
func TestNumbersOfAnOutboxAreThoseOfWhatWasDone(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	known := u.park("known")
	other := *known
	other.Name = "other"
	const callers, rounds = 16, 20
	done := make(chan error, callers)
	for caller := range callers {
		go func() {
			done <- func() error {
				for round := range rounds {
					msgs := []*es.Message{es.NewMessage(fmt.Sprint("a-", caller), "A", nil), es.NewMessage("all", "B", nil)}
					if err := u.Enqueue(ctx, msgs...); err != nil {
						return err
					}
					if err := u.Enqueue(ctx, es.NewMessage("vain", "C", nil), &other); err == nil {
						return fmt.Errorf("round %d: another message with a known ID was taken", round)
					}
					entries := make([]es.Entry, 3)
					n, err := u.Claim(ctx, entries, es.ClaimOptions{Owner: "A"})
					if err != nil {
						return err
					}
					if err := u.Complete(ctx, entries[:n]); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range callers {
		must(t, <-done)
	}
	rest := entryNames(u.take(10*callers*rounds, time.Hour))
	if slices.Contains(rest, "C#1") {
		t.Error("half of what was refused was enqueued")
	}
	stats, err := u.Stats(ctx)
	must(t, err)
	if stats.Depth != len(rest) || stats.Dead != 1 || stats.Parked != 1 {
		t.Errorf("the numbers are %+v, and %d entries were handed out", stats, len(rest))
	}
}
