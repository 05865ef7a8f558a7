package sqlite_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// outboxTwins are the outbox of a file and the one in memory. They are asked the same, and are to say the same.
type outboxTwins struct {
	t      *testing.T
	r      *rand.Rand
	config sqlite.Config
	db     *sqlite.DB
	file   es.Outbox
	memory es.Outbox

	made []*es.Message
	held []twinEntry
	dead []uuid.UUID
}

// twinEntry is an entry that both have handed out.
type twinEntry struct{ file, memory es.Entry }

func TestOutboxDoesAsTheOneInMemory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			config := sqlite.Config{Path: tempFile(t), Synchronous: sqlite.Normal}
			w := &outboxTwins{t: t, r: rand.New(rand.NewPCG(seed, 0)), config: config, memory: memory.New().Outbox()}
			w.open()
			for range 150 {
				w.step()
			}
			wantWholeOutbox(t, w.db)
			w.drain()
		})
	}
}

func (w *outboxTwins) open() {
	w.t.Helper()
	w.db = openStore(w.t, w.config)
	w.file = w.db.Outbox()
}

func (w *outboxTwins) step() {
	w.t.Helper()
	ctx := w.t.Context()
	switch w.r.IntN(14) {
	case 0, 1, 2:
		w.enqueue()
	case 3, 4:
		w.claim(time.Hour)
	case 5:
		w.abandon()
	case 6, 7:
		w.answer("complete", func(o es.Outbox, entries []es.Entry) error { return o.Complete(ctx, entries) })
	case 8:
		w.answer("release", func(o es.Outbox, entries []es.Entry) error { return o.Release(ctx, entries) })
	case 9:
		w.answer("extend", func(o es.Outbox, entries []es.Entry) error { return o.Extend(ctx, entries) })
	case 10:
		f := es.Failure{Err: errBoom, Delay: time.Duration(w.r.IntN(2)) * time.Hour}
		w.answer("fail", func(o es.Outbox, entries []es.Entry) error { return o.Fail(ctx, entries, f) })
	case 11:
		f := es.Failure{Err: errBoom, Dead: true, Park: w.r.IntN(2) == 0}
		w.answer("bury", func(o es.Outbox, entries []es.Entry) error { return o.Fail(ctx, entries, f) })
	case 12:
		w.raise()
	case 13:
		must(w.t, w.db.Close())
		w.open()
	}
	w.compare()
}

// same fails the test unless both have said the same.
func (w *outboxTwins) same(what string, file, memory any) {
	w.t.Helper()
	if f, m := fmt.Sprint(file), fmt.Sprint(memory); f != m {
		w.t.Fatalf("%s: the file says %s, and memory %s", what, f, m)
	}
}

// enqueue enqueues messages to a few streams. Some were enqueued before, and some of these say something else now.
func (w *outboxTwins) enqueue() {
	w.t.Helper()
	msgs := make([]*es.Message, w.r.IntN(6))
	for i := range msgs {
		msgs[i] = es.NewMessage(fmt.Sprint("s", w.r.IntN(4)), fmt.Sprint("m", len(w.made)), nil)
		if len(w.made) > 0 && w.r.IntN(5) == 0 {
			msgs[i] = w.made[w.r.IntN(len(w.made))].Clone()
			if w.r.IntN(4) == 0 {
				msgs[i].Data = []byte("other")
			}
		}
		w.made = append(w.made, msgs[i])
	}
	w.same("enqueue", kind(w.file.Enqueue(w.t.Context(), msgs...)), kind(w.memory.Enqueue(w.t.Context(), msgs...)))
}

// kind is what of an error must be the same.
func kind(err error) string {
	for _, known := range []error{es.ErrLeaseLost, es.ErrDuplicate, es.ErrNotFound} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprint(err)
}

// claim claims all there is: which streams are claimed from first may differ.
func (w *outboxTwins) claim(lease time.Duration) []twinEntry {
	w.t.Helper()
	take := func(o es.Outbox) []es.Entry {
		dst := make([]es.Entry, 2*len(w.made)+1)
		n, err := o.Claim(w.t.Context(), dst, es.ClaimOptions{Owner: "A", Lease: lease})
		must(w.t, err)
		slices.SortStableFunc(dst[:n], func(a, b es.Entry) int { return cmp.Compare(a.Stream, b.Stream) })
		return dst[:n]
	}
	file, memory := take(w.file), take(w.memory)
	w.same("claim", entryNames(file), entryNames(memory))
	claimed := make([]twinEntry, len(file))
	for i := range file {
		claimed[i] = twinEntry{file[i], memory[i]}
	}
	w.held = append(w.held, claimed...)
	return claimed
}

// abandon claims for a moment, and waits until it is over.
func (w *outboxTwins) abandon() {
	w.t.Helper()
	if len(w.claim(time.Millisecond)) == 0 {
		return
	}
	must(w.t, w.file.Wait(w.t.Context()))
	must(w.t, w.memory.Wait(w.t.Context()))
}

// answer answers some of the entries that were ever handed out, and not since completed, in any order.
func (w *outboxTwins) answer(what string, how func(o es.Outbox, entries []es.Entry) error) {
	w.t.Helper()
	n := w.r.IntN(len(w.held) + 1)
	w.r.Shuffle(len(w.held), func(i, j int) { w.held[i], w.held[j] = w.held[j], w.held[i] })
	if w.r.IntN(2) == 0 { // as a processor does: in order
		slices.SortStableFunc(w.held[:n], func(a, b twinEntry) int { return cmp.Compare(a.file.Stream, b.file.Stream) })
	}
	file, memory := make([]es.Entry, n), make([]es.Entry, n)
	for i, e := range w.held[:n] {
		file[i], memory[i] = e.file, e.memory
	}
	byFile, byMemory := how(w.file, file), how(w.memory, memory)
	for i := range n {
		w.same(what+" "+file[i].Name, kind(es.Of(byFile, i)), kind(es.Of(byMemory, i)))
		if what == "bury" && es.Of(byFile, i) == nil {
			w.dead = append(w.dead, file[i].ID)
		}
	}
	if w.r.IntN(3) > 0 { // otherwise some are answered again
		w.held = w.held[n:]
	}
}

// raise replays or discards dead letters, and now and then what is none any more.
func (w *outboxTwins) raise() {
	w.t.Helper()
	ids := make([]uuid.UUID, min(len(w.dead), w.r.IntN(4)))
	for i := range ids {
		ids[i] = w.dead[w.r.IntN(len(w.dead))]
	}
	if w.r.IntN(2) == 0 {
		w.same("replay", kind(w.file.Replay(w.t.Context(), ids...)), kind(w.memory.Replay(w.t.Context(), ids...)))
		return
	}
	w.same("discard", kind(w.file.Discard(w.t.Context(), ids...)), kind(w.memory.Discard(w.t.Context(), ids...)))
}

// compare compares what can be seen without changing anything.
func (w *outboxTwins) compare() {
	w.t.Helper()
	file, err := w.file.Stats(w.t.Context())
	must(w.t, err)
	memory, err := w.memory.Stats(w.t.Context())
	must(w.t, err)
	w.same("whether there is an oldest", file.Oldest.IsZero(), memory.Oldest.IsZero())
	file.Oldest, memory.Oldest = time.Time{}, time.Time{}
	file.Failures, memory.Failures = 0, 0 // of a handle
	w.same("stats", file, memory)
	letters := func(o es.Outbox) (all []string) {
		for d, err := range o.DeadLetters(w.t.Context()) {
			must(w.t, err)
			all = append(all, fmt.Sprintf("%s %s#%d %s %v", d.Stream, d.Name, d.Attempts, d.Error, d.Parked))
		}
		return all
	}
	w.same("dead letters", letters(w.file), letters(w.memory))
}

// drain discards the dead letters, and completes what is not waiting for an hour.
func (w *outboxTwins) drain() {
	w.t.Helper()
	for {
		w.answer("complete", func(o es.Outbox, entries []es.Entry) error { return o.Complete(w.t.Context(), entries) })
		for d, err := range w.file.DeadLetters(w.t.Context()) {
			must(w.t, err)
			must(w.t, w.file.Discard(w.t.Context(), d.ID))
			must(w.t, w.memory.Discard(w.t.Context(), d.ID))
		}
		if len(w.claim(time.Hour)) == 0 && len(w.held) == 0 {
			break
		}
	}
	w.compare()
	wantWholeOutbox(w.t, w.db)
}
