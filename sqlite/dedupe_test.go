package sqlite_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

// newIDs makes so many IDs.
func newIDs(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = es.NewID()
	}
	return ids
}

func reserve(t testing.TB, d es.Dedupe, group string, ids ...uuid.UUID) []es.Reservation {
	t.Helper()
	rs := make([]es.Reservation, len(ids))
	for i, id := range ids {
		rs[i].ID = id
	}
	must(t, d.Reserve(t.Context(), group, rs, time.Minute))
	return rs
}

// handle reserves and completes messages.
func handle(t testing.TB, d es.Dedupe, group string, ids ...uuid.UUID) {
	t.Helper()
	must(t, d.Complete(t.Context(), group, reserve(t, d, group, ids...)))
}

// wantStates fails the test unless messages are found in these states.
func wantStates(t testing.TB, d es.Dedupe, group string, ids []uuid.UUID, want es.ReserveState) {
	t.Helper()
	for i, r := range reserve(t, d, group, ids...) {
		if r.State != want {
			t.Fatalf("message %d of %d is %v, want %v", i, len(ids), r.State, want)
		}
	}
}

func count(t testing.TB, db *sqlite.DB, table string) int {
	t.Helper()
	n, err := strconv.Atoi(rows(t, db, 1, "SELECT count(*) FROM "+table))
	must(t, err)
	return n
}

const (
	doneTable     = "es_dedupe_done_1"
	reservedTable = "es_dedupe_reserved_1"
)

// TestDedupeBoundIsThatOfAllHandles completes messages on two handles in turn. Each remembers the last ones of both.
func TestDedupeBoundIsThatOfAllHandles(t *testing.T) {
	t.Parallel()
	const bound = 10
	config := sqlite.Config{Path: tempFile(t), DedupeEntries: bound}
	handles := []*sqlite.DB{openStore(t, config), openStore(t, config)}
	ids := newIDs(300)
	for i, id := range ids {
		handle(t, handles[i%2].Dedupe(), "g", id)
		if n := count(t, handles[0], doneTable); n > bound+16 {
			t.Fatalf("after %d messages %d are in the file, where %d are remembered", i+1, n, bound)
		}
	}
	for _, db := range handles {
		wantStates(t, db.Dedupe(), "g", ids[len(ids)-bound:], es.ReserveDone)
	}
	wantStates(t, handles[0].Dedupe(), "g", ids[:len(ids)-bound], es.ReserveNew)
}

// TestALoweredDedupeBoundHoldsAtOnce opens a file with a lower bound. What is beyond it is forgotten at once, and removed a little at a
// time.
func TestALoweredDedupeBoundHoldsAtOnce(t *testing.T) {
	t.Parallel()
	const stored, bound = 1000, 20
	path := tempFile(t)
	db, err := sqlite.Open(sqlite.Config{Path: path})
	must(t, err)
	ids := newIDs(stored)
	handle(t, db.Dedupe(), "g", ids...)
	must(t, db.Close())
	db = openStore(t, sqlite.Config{Path: path, DedupeEntries: bound})
	wantStates(t, db.Dedupe(), "g", ids[stored-bound:], es.ReserveDone)
	again := reserve(t, db.Dedupe(), "g", ids[0])
	if again[0].State != es.ReserveNew {
		t.Fatalf("a message beyond the bound is %v, want new", again[0].State)
	}
	must(t, db.Dedupe().Complete(t.Context(), "g", again))
	wantStates(t, db.Dedupe(), "g", ids[:1], es.ReserveDone)
	before := count(t, db, doneTable)
	for before > 2*bound {
		for _, id := range newIDs(16) {
			handle(t, db.Dedupe(), "g", id)
		}
		after := count(t, db, doneTable)
		if after >= before || before-after > 128 {
			t.Fatalf("while 16 messages were completed, the file went from %d messages to %d", before, after)
		}
		before = after
	}
}

// TestDedupeExpiryIsThatOfAllHandles has messages expire that another handle has completed.
func TestDedupeExpiryIsThatOfAllHandles(t *testing.T) {
	t.Parallel()
	config := sqlite.Config{Path: tempFile(t), DedupeTTL: time.Hour}
	one, two := openStore(t, config), openStore(t, config)
	old, young := newIDs(100), newIDs(100)
	handle(t, one.Dedupe(), "g", old...)
	must(t, one.Backdate(40*time.Minute))
	handle(t, two.Dedupe(), "g", young...)
	must(t, one.Backdate(30*time.Minute))
	wantStates(t, two.Dedupe(), "g", young, es.ReserveDone)
	again := reserve(t, two.Dedupe(), "g", old...)
	for _, r := range again {
		if r.State != es.ReserveNew {
			t.Fatalf("a message that has expired is %v", r.State)
		}
	}
	must(t, two.Dedupe().Complete(t.Context(), "g", again[:50]))
	wantStates(t, one.Dedupe(), "g", old[:50], es.ReserveDone)
	must(t, one.Dedupe().Release(t.Context(), "g", again[50:]))
	handle(t, one.Dedupe(), "g", newIDs(16)...)
	if n := count(t, one, doneTable); n != 100+50+16 {
		t.Fatalf("%d messages are in the file, want those that have not expired: 166", n)
	}
}

// TestAbandonedReservationsAreRemoved leaves reservations behind that nobody asks for again, as programs do that die.
func TestAbandonedReservationsAreRemoved(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	d := db.Dedupe()
	const abandoned = 1000
	for _, group := range []string{"g", "h"} {
		reserve(t, d, group, newIDs(abandoned)...)
	}
	must(t, db.Backdate(time.Hour))
	held := reserve(t, d, "g", newIDs(10)...)
	for range 2 * abandoned / 16 {
		ids := newIDs(16)
		must(t, d.Release(t.Context(), "g", reserve(t, d, "g", ids...)))
	}
	if n := count(t, db, reservedTable); n != len(held) {
		t.Fatalf("%d reservations are in the file; %d are held", n, len(held))
	}
	must(t, d.Complete(t.Context(), "g", held))
}

// TestOnlyCompletionsAreSynced counts the syncs of each call.
func TestOnlyCompletionsAreSynced(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	d := db.Dedupe()
	handle(t, d, "g", es.NewID()) // the group is there
	var rs []es.Reservation
	for _, call := range []struct {
		what string
		want bool
		do   func() error
	}{
		{"reserve", false, func() error { rs = reserve(t, d, "g", newIDs(3)...); return nil }},
		{"prolong", false, func() error { return d.Extend(t.Context(), "g", rs, time.Minute) }},
		{"release", false, func() error { return d.Release(t.Context(), "g", rs[:1]) }},
		{"complete", true, func() error { return d.Complete(t.Context(), "g", rs[1:]) }},
		{"complete again", false, func() error { return d.Complete(t.Context(), "g", rs[1:]) }},
	} {
		before := disk.TotalCounts()
		must(t, call.do())
		if n := disk.TotalCounts().Since(before).Syncs; (n > 0) != call.want {
			t.Errorf("%s: %d syncs", call.what, n)
		}
	}
}

// TestCompletedSurvivesLossOfPower cuts the power after a completion was acknowledged, and loses all that was not synced.
func TestCompletedSurvivesLossOfPower(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	ids := newIDs(5)
	for _, id := range ids {
		handle(t, db.Dedupe(), "g", id)
	}
	found := openStore(t, onDisk(disk.CutBy(disk.Moment(), unsyncedIsLost)))
	wantStates(t, found.Dedupe(), "g", ids, es.ReserveDone)
}

// unsyncedIsLost is the fate of what was not synced, at its worst.
func unsyncedIsLost(powerloss.Change) powerloss.Fate { return powerloss.Dropped() }

// TestALostReservationCompletesNothing loses a reservation with the power, and the memory that it was ever made. Its holder, on another
// machine, cannot complete what somebody else has reserved since.
func TestALostReservationCompletesNothing(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	handle(t, db.Dedupe(), "g", es.NewID())
	id := es.NewID()
	lost := reserve(t, db.Dedupe(), "g", id)
	d := openStore(t, onDisk(disk.CutBy(disk.Moment(), unsyncedIsLost))).Dedupe()
	theirs := reserve(t, d, "g", id)
	if theirs[0].State != es.ReserveNew {
		t.Fatalf("the message is %v: the reservation was not lost, and the test shows nothing", theirs[0].State)
	}
	if theirs[0].Token <= lost[0].Token {
		t.Fatalf("token %d follows token %d", theirs[0].Token, lost[0].Token)
	}
	wantError(t, "complete under a token that was lost", d.Complete(t.Context(), "g", lost), es.ErrLeaseLost)
	must(t, d.Complete(t.Context(), "g", theirs))
}

// TestAReservationThatFailsChangesNothing withdraws calls: the reservations stay as they were.
func TestAReservationThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	rs := []es.Reservation{{ID: es.NewID()}}
	must(t, db.Close())
	wantError(t, "reserve", db.Dedupe().Reserve(t.Context(), "g", rs, time.Minute), es.ErrClosed)
	if rs[0].State != 0 || rs[0].Token != 0 || !rs[0].Until.IsZero() {
		t.Fatalf("a reservation that failed is %+v", rs[0])
	}
}

// TestDedupeDoesWhatMemoryDoes makes the same calls on a file and in memory, at random, and compares what they answer.
func TestDedupeDoesWhatMemoryDoes(t *testing.T) {
	t.Parallel()
	const bound = 6
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			backend, err := memory.Open(memory.Config{DedupeEntries: bound})
			must(t, err)
			file := openStore(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "items.db"), DedupeEntries: bound})
			w := &dedupeWalk{
				TB: t, r: rand.New(rand.NewPCG(seed, 2)), ids: newIDs(12),
				stores: [2]es.Dedupe{file.Dedupe(), backend.Dedupe()},
			}
			for i := range w.ids {
				if i%3 == 0 {
					w.ids[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i)}) // not all IDs rise
				}
			}
			for range 600 {
				w.step()
			}
		})
	}
}

// dedupeWalk makes calls to two stores. What it holds, it holds of both.
type dedupeWalk struct {
	testing.TB

	r      *rand.Rand
	ids    []uuid.UUID
	stores [2]es.Dedupe
	held   [][2]es.Reservation
	groups []string // of what is held
}

func (w *dedupeWalk) step() {
	w.Helper()
	group := []string{"g", "h"}[w.r.IntN(2)]
	if w.r.IntN(3) > 0 {
		w.reserve(group)
		return
	}
	var both [2][]es.Reservation
	for range w.r.IntN(4) {
		if len(w.held) == 0 {
			continue
		}
		at := w.r.IntN(len(w.held))
		if w.groups[at] != group && w.r.IntN(4) > 0 {
			continue // mostly
		}
		for i := range both {
			if slices.ContainsFunc(both[i], func(r es.Reservation) bool { return r.ID == w.held[at][i].ID }) {
				return
			}
			both[i] = append(both[i], w.held[at][i])
		}
	}
	what := []string{"complete", "prolong", "release"}[w.r.IntN(3)]
	var errs [2]error
	for i, d := range w.stores {
		switch what {
		case "complete":
			errs[i] = d.Complete(w.Context(), group, both[i])
		case "prolong":
			errs[i] = d.Extend(w.Context(), group, both[i], time.Hour)
		default:
			errs[i] = d.Release(w.Context(), group, both[i])
		}
	}
	for n := range both[0] {
		file, mem := es.Of(errs[0], n), es.Of(errs[1], n)
		if (file == nil) != (mem == nil) || errors.Is(file, es.ErrLeaseLost) != errors.Is(mem, es.ErrLeaseLost) {
			w.Fatalf("%s: %v in the file, and %v in memory", what, file, mem)
		}
	}
}

func (w *dedupeWalk) reserve(group string) {
	w.Helper()
	var both [2][]es.Reservation
	for range 1 + w.r.IntN(3) {
		r := es.Reservation{ID: w.ids[w.r.IntN(len(w.ids))]}
		both[0], both[1] = append(both[0], r), append(both[1], r)
	}
	for i, d := range w.stores {
		must(w, d.Reserve(w.Context(), group, both[i], time.Hour))
	}
	for n := range both[0] {
		file, mem := both[0][n], both[1][n]
		if file.State != mem.State {
			w.Fatalf("message %s is %v in the file, and %v in memory", file.ID, file.State, mem.State)
		}
		w.held = append(w.held, [2]es.Reservation{file, mem})
		w.groups = append(w.groups, group)
	}
	const most = 30
	if len(w.held) > most {
		w.held, w.groups = w.held[len(w.held)-most:], w.groups[len(w.groups)-most:]
	}
}
