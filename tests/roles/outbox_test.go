package roles_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestOutboxDoesAsItsModel does the same to an outbox and to a model of it: on several handles, by owners that answer late,
// twice and for others, on a clock that goes on only when told to.
func TestOutboxDoesAsItsModel(t *testing.T) {
	t.Parallel()
	checkOnFakeClock(t, func(t *rapid.T) {
		m := newOutboxMachine(t)
		defer m.close()
		repeat(t, map[string]func(*rapid.T){
			"":         m.look,
			"enqueue":  m.enqueue,
			"again":    m.enqueueAgain,
			"claim":    m.claim,
			"claim 2":  m.claim, // twice as often as others
			"complete": m.complete,
			"fail":     m.fail,
			"release":  m.release,
			"extend":   m.extend,
			"forward":  m.forward,
			"replay":   m.replay,
			"discard":  m.discard,
			"wait":     m.wait,
			"sleep":    m.sleep,
			"reopen":   m.reopen,
		})
	})
}

type outboxMachine struct {
	storage  *memory.Storage
	backends []*memory.Backend
	failures []int64 // of each handle
	model    *outboxModel
	messages []*es.Message // every one that was ever enqueued
	claimed  []es.Entry    // every entry that was ever claimed, as its owner knows it
	appended map[uuid.UUID]bool
	token    uint64
}

func newOutboxMachine(t *rapid.T) *outboxMachine {
	m := &outboxMachine{
		storage: memory.NewStorage(), model: newOutboxModel(), appended: map[uuid.UUID]bool{},
		backends: make([]*memory.Backend, 2), failures: make([]int64, 2),
	}
	for i := range m.backends {
		m.backends[i] = m.open(t)
	}
	return m
}

func (m *outboxMachine) open(t *rapid.T) *memory.Backend {
	b, err := memory.Open(memory.Config{Storage: m.storage})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (m *outboxMachine) close() {
	for _, b := range m.backends {
		_ = b.Close() // it never fails
	}
}

// handle returns the outbox of any handle, and which it is, when the model has come to the present.
func (m *outboxMachine) handle(t *rapid.T) (es.Outbox, int) {
	m.model.expire(time.Now())
	i := rapid.IntRange(0, len(m.backends)-1).Draw(t, "handle")
	return m.backends[i].Outbox(), i
}

func (m *outboxMachine) enqueue(t *rapid.T) {
	outbox, _ := m.handle(t)
	streams := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 4).Draw(t, "streams")
	msgs := make([]*es.Message, len(streams))
	for i, stream := range streams {
		msgs[i] = es.NewMessage(stream, fmt.Sprint("n", len(m.messages)+i), nil)
	}
	if err := outbox.Enqueue(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
	m.messages = append(m.messages, msgs...)
	for _, msg := range msgs {
		m.model.entries = append(m.model.entries, &modelEntry{message: msg, enqueued: time.Now(), attempt: 1})
	}
}

// enqueueAgain enqueues a message that was enqueued before, with a new one. When the outbox has it still, it may come with
// other content.
func (m *outboxMachine) enqueueAgain(t *rapid.T) {
	if len(m.messages) == 0 {
		t.Skip("nothing was enqueued")
	}
	outbox, _ := m.handle(t)
	again := rapid.SampledFrom(m.messages).Draw(t, "message").Clone()
	known := m.model.find(again.ID) != nil
	other := known && rapid.Bool().Draw(t, "other content")
	if other {
		again.Data = []byte("other")
	}
	fresh := es.NewMessage("a", "fresh", nil)
	err := outbox.Enqueue(t.Context(), fresh, again)
	if other {
		if !errors.Is(err, es.ErrDuplicate) {
			t.Fatalf("enqueued an ID with other content: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.model.entries = append(m.model.entries, &modelEntry{message: fresh, enqueued: time.Now(), attempt: 1})
	if !known {
		m.model.entries = append(m.model.entries, &modelEntry{message: again, enqueued: time.Now(), attempt: 1})
	}
}

func (m *outboxMachine) claim(t *rapid.T) {
	outbox, _ := m.handle(t)
	now := time.Now()
	free := m.model.claimable(now)
	total := 0
	for _, entries := range free {
		total += len(entries)
	}
	lease := time.Duration(rapid.IntRange(1, 5).Draw(t, "lease")) * time.Second
	dst := make([]es.Entry, rapid.IntRange(0, 6).Draw(t, "room"))
	n, err := outbox.Claim(t.Context(), dst, es.ClaimOptions{Owner: "A", Lease: lease})
	if err != nil || n != min(total, len(dst)) {
		t.Fatalf("claimed %d, %v; want %d of %d", n, err, min(total, len(dst)), total)
	}
	given := map[string]int{}
	for _, got := range dst[:n] {
		of := free[got.Stream]
		if len(of) <= given[got.Stream] {
			t.Fatalf("claimed %s of stream %s, of which nothing more can be claimed", got.Name, got.Stream)
		}
		want := of[given[got.Stream]]
		given[got.Stream]++
		if got.ID != want.message.ID || got.Attempt != want.attempt || !got.Enqueued.Equal(want.enqueued) {
			t.Fatalf("claimed %s, attempt %d, of %v; want %s, attempt %d, of %v",
				got.Name, got.Attempt, got.Enqueued, want.message.Name, want.attempt, want.enqueued)
		}
		if !got.Deadline.Equal(now.Add(lease)) || got.Token <= m.token {
			t.Fatalf("claimed until %v with token %d; want until %v, and a token above %d",
				got.Deadline, got.Token, now.Add(lease), m.token)
		}
		want.out = true
		m.model.claims[got.Stream] = &modelClaim{token: got.Token, lease: lease, until: now.Add(lease)}
	}
	for stream, entries := range free {
		if share := len(dst) / len(free); given[stream] < min(share, len(entries)) {
			t.Fatalf("stream %s got %d, and its share is %d of %d", stream, given[stream], share, len(entries))
		}
	}
	if n > 0 {
		m.token = dst[0].Token
	}
	m.claimed = append(m.claimed, dst[:n]...)
}

// answer draws entries that were claimed at some time, has them answered, and calls do for each that its owner holds still.
func (m *outboxMachine) answer(
	t *rapid.T, call func(es.Outbox, []es.Entry) error, do func(handle int, e *modelEntry, claimed es.Entry),
) {
	if len(m.claimed) == 0 {
		t.Skip("nothing was claimed")
	}
	outbox, handle := m.handle(t)
	from := max(0, len(m.claimed)-6) // the older ones are stale most of the time
	indexes := rapid.SliceOfNDistinct(rapid.IntRange(from, len(m.claimed)-1), 1, 4, rapid.ID[int]).Draw(t, "entries")
	entries := make([]es.Entry, len(indexes))
	for i, index := range indexes {
		entries[i] = m.claimed[index]
	}
	err := call(outbox, entries)
	for i, claimed := range entries {
		if errors.Is(es.Of(err, i), es.ErrHeldBack) {
			continue // forward looks at these itself
		}
		e := m.model.held(claimed)
		if e == nil {
			if !errors.Is(es.Of(err, i), es.ErrLeaseLost) {
				t.Fatalf("answered %s, which is not its owner's any more: %v", claimed.Name, err)
			}
			continue
		}
		if es.Of(err, i) != nil {
			t.Fatalf("answered %s: %v", claimed.Name, err)
		}
		do(handle, e, claimed)
		m.claimed[indexes[i]] = claimed
	}
}

func (m *outboxMachine) complete(t *rapid.T) {
	m.answer(t, func(o es.Outbox, entries []es.Entry) error { return o.Complete(t.Context(), entries) },
		func(_ int, e *modelEntry, _ es.Entry) { m.model.remove(e.message.ID) })
}

func (m *outboxMachine) release(t *rapid.T) {
	m.answer(t, func(o es.Outbox, entries []es.Entry) error { return o.Release(t.Context(), entries) },
		func(_ int, e *modelEntry, _ es.Entry) { e.out = false })
}

func (m *outboxMachine) fail(t *rapid.T) {
	f := es.Failure{
		Err:   rapid.SampledFrom([]error{errors.New("boom"), errors.New("boom again"), es.ErrInvalid}).Draw(t, "error"),
		Delay: time.Duration(rapid.IntRange(0, 4).Draw(t, "delay")) * time.Second,
		Dead:  rapid.Bool().Draw(t, "dead"),
		Park:  rapid.Bool().Draw(t, "park"),
	}
	m.answer(t, func(o es.Outbox, entries []es.Entry) error { return o.Fail(t.Context(), entries, f) },
		func(handle int, e *modelEntry, _ es.Entry) {
			m.failures[handle]++
			m.model.fail(e, f, time.Now())
		})
}

func (m *outboxMachine) extend(t *rapid.T) {
	var extended []es.Entry
	m.answer(t, func(o es.Outbox, entries []es.Entry) error {
		extended = entries
		return o.Extend(t.Context(), entries)
	}, func(_ int, e *modelEntry, claimed es.Entry) {
		claim := m.model.claims[e.message.Stream]
		claim.until = time.Now().Add(claim.lease)
		for _, x := range extended {
			if x.ID == claimed.ID && x.Token == claimed.Token && !x.Deadline.Equal(claim.until) {
				t.Fatalf("extended until %v, want until %v", x.Deadline, claim.until)
			}
		}
	})
}

func (m *outboxMachine) forward(t *rapid.T) {
	var existing []int
	i := 0
	m.answer(t, func(o es.Outbox, entries []es.Entry) error {
		forwarder, ok := o.(es.Forwarder)
		if !ok {
			t.Fatal("the outbox is no Forwarder")
		}
		var errs []error
		lost := map[string]bool{}
		for j, outcome := range forwarder.Forward(t.Context(), entries) {
			errs = append(errs, outcome.Err)
			stream := entries[j].Stream
			if held := errors.Is(outcome.Err, es.ErrHeldBack); held != lost[stream] {
				t.Fatalf("forwarded %s behind a lost one of its stream (%v): %v", entries[j].Name, lost[stream], outcome.Err)
			}
			lost[stream] = lost[stream] || errors.Is(outcome.Err, es.ErrLeaseLost)
			if outcome.Err == nil {
				existing = append(existing, outcome.Existing)
			}
		}
		return es.BatchErr(errs)
	}, func(_ int, e *modelEntry, _ es.Entry) {
		if before := m.appended[e.message.ID]; before != (existing[i] == 1) {
			t.Fatalf("forwarded %s: %d existed before, and it was forwarded before: %v", e.message.Name, existing[i], before)
		}
		i++
		m.appended[e.message.ID] = true
		m.model.remove(e.message.ID)
	})
}

// dead draws IDs, most of them of dead letters, and tells whether all are.
func (m *outboxMachine) dead(t *rapid.T) ([]uuid.UUID, bool) {
	letters := m.model.letters()
	if len(letters) == 0 {
		t.Skip("no dead letters")
	}
	all := true
	ids := make([]uuid.UUID, rapid.IntRange(1, 3).Draw(t, "number"))
	for i := range ids {
		ids[i] = rapid.SampledFrom(letters).Draw(t, "letter").ID
		if rapid.IntRange(0, 9).Draw(t, "any other") == 0 {
			ids[i] = rapid.SampledFrom(m.messages).Draw(t, "message").ID
			e := m.model.find(ids[i])
			all = all && e != nil && e.dead > 0
		}
	}
	return ids, all
}

func (m *outboxMachine) raise(t *rapid.T, call func(es.Outbox, []uuid.UUID) error, do func(e *modelEntry)) {
	outbox, _ := m.handle(t)
	ids, all := m.dead(t)
	err := call(outbox, ids)
	if !all {
		if !errors.Is(err, es.ErrNotFound) {
			t.Fatalf("named what is no dead letter: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if e := m.model.find(id); e != nil {
			do(e)
		}
	}
}

func (m *outboxMachine) replay(t *rapid.T) {
	m.raise(t, func(o es.Outbox, ids []uuid.UUID) error { return o.Replay(t.Context(), ids...) }, m.model.replay)
}

func (m *outboxMachine) discard(t *rapid.T) {
	m.raise(t, func(o es.Outbox, ids []uuid.UUID) error { return o.Discard(t.Context(), ids...) },
		func(e *modelEntry) { m.model.remove(e.message.ID) })
}

// wait waits for a time, and expects to be woken at the very moment when there is something to claim.
func (m *outboxMachine) wait(t *rapid.T) {
	outbox, _ := m.handle(t)
	now := time.Now()
	patience := time.Duration(rapid.IntRange(0, 6).Draw(t, "patience"))*time.Second + time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	end := now.Add(patience)
	at, something := m.model.next(now)
	err := outbox.Wait(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	want := end
	switch {
	case something && at.Before(end):
		if want = at; err != nil {
			t.Fatalf("wait: %v; there is something to claim after %v", err, at.Sub(now))
		}
	case something && at.Equal(end): // either may come first
	case err == nil:
		t.Fatalf("woken after %v with nothing to claim", time.Since(now))
	}
	if !time.Now().Equal(want) {
		t.Fatalf("wait ended after %v, want %v", time.Since(now), want.Sub(now))
	}
}

func (m *outboxMachine) sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 30).Draw(t, "tenths")) * time.Second / 10)
}

// reopen closes a handle, or walks away from it, and opens another.
func (m *outboxMachine) reopen(t *rapid.T) {
	_, i := m.handle(t)
	if rapid.Bool().Draw(t, "in order") {
		_ = m.backends[i].Close() // it never fails
		if err := m.backends[i].Outbox().Wait(t.Context()); !errors.Is(err, es.ErrClosed) {
			t.Fatalf("wait after close: %v", err)
		}
	}
	m.backends[i], m.failures[i] = m.open(t), 0
}

// look compares all that can be seen without changing anything.
func (m *outboxMachine) look(t *rapid.T) {
	m.model.expire(time.Now())
	for i, b := range m.backends {
		got, err := b.Outbox().Stats(t.Context())
		want := m.model.stats(m.failures[i])
		if err != nil || !got.Oldest.Equal(want.Oldest) {
			t.Fatalf("the oldest is of %v, %v; want %v", got.Oldest, err, want.Oldest)
		}
		got.Oldest = want.Oldest
		if got != want {
			t.Fatalf("the stats are %+v, want %+v", got, want)
		}
	}
	want := m.model.letters()
	n := 0
	for got, err := range m.backends[0].Outbox().DeadLetters(t.Context()) {
		if err != nil || n == len(want) {
			t.Fatalf("dead letter %d of %d: %v", n+1, len(want), err)
		}
		w := want[n]
		n++
		if got.ID != w.ID || got.Attempts != w.Attempts || got.Error != w.Error || got.Parked != w.Parked ||
			!got.Died.Equal(w.Died) || !got.Enqueued.Equal(w.Enqueued) {
			t.Fatalf("dead letter %d is %+v, want %+v", n, got, w)
		}
	}
	if n != len(want) {
		t.Fatalf("%d dead letters, want %d", n, len(want))
	}
}
