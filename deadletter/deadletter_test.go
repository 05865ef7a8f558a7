package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

var errNo = errors.New("no")

// program is a backend with dead letters, and those who look after them.
type program struct {
	testing.TB

	backend *memory.Backend
	queue   *deadletter.Queue
}

func newProgram(t *testing.T) *program {
	t.Helper()
	backend := memory.New()
	t.Cleanup(func() { _ = backend.Close() })
	queue, err := deadletter.New(deadletter.Config{Events: backend.Events(), Outbox: backend.Outbox()})
	if err != nil {
		t.Fatal(err)
	}
	return &program{TB: t, backend: backend, queue: queue}
}

// fail lets a message fail for good in a route, and returns the ID of the letter and that of the message.
func (p *program) fail(stream, group string) (letter, original uuid.UUID) {
	p.Helper()
	m := es.NewMessage(stream, "Happened", []byte(`{"some":"data"}`))
	d := &es.Delivery{Message: m, Topic: m.Category(), Group: group, Attempt: 3, First: es.Timestamp(time.Now())}
	l, err := es.NewDeadLetter("dead", group, d, errNo)
	if err != nil {
		p.Fatal(err)
	}
	p.append(l)
	return l.ID, m.ID
}

func (p *program) append(m *es.Message) {
	p.Helper()
	if _, err := p.backend.Events().Append(p.Context(), es.AppendTo(m.Stream, es.Any, m)); err != nil {
		p.Fatal(err)
	}
}

// failInOutbox lets an entry of the outbox fail for good, as a processor does.
func (p *program) failInOutbox(stream string) (letter uuid.UUID, original *es.Message) {
	p.Helper()
	m := es.NewMessage(stream, "Happened", nil)
	if err := p.backend.Outbox().Enqueue(p.Context(), m); err != nil {
		p.Fatal(err)
	}
	return p.giveUp(), m
}

// giveUp claims the one entry that there is and gives it up.
func (p *program) giveUp() (letter uuid.UUID) {
	p.Helper()
	entries := p.claim()
	l, err := es.NewDeadEntry("dead", "processor", &entries[0], errNo)
	if err != nil {
		p.Fatal(err)
	}
	p.append(l)
	if err := p.backend.Outbox().Fail(p.Context(), entries, es.Failure{Err: errNo, Dead: true}); err != nil {
		p.Fatal(err)
	}
	return l.ID
}

// claim takes everything that waits in the outbox; there must be something.
func (p *program) claim() []es.Entry {
	p.Helper()
	entries := make([]es.Entry, 1000)
	n, err := p.backend.Outbox().Claim(p.Context(), entries, es.ClaimOptions{Owner: "test"})
	if err != nil || n == 0 {
		p.Fatalf("claimed %d entries: %v", n, err)
	}
	return entries[:n]
}

func (p *program) list(f deadletter.Filter) []deadletter.Letter {
	p.Helper()
	var letters []deadletter.Letter
	for l, err := range p.queue.List(p.Context(), f) {
		if err != nil {
			p.Fatal(err)
		}
		letters = append(letters, l)
	}
	return letters
}

func (p *program) wantListed(want ...uuid.UUID) {
	p.Helper()
	var got []uuid.UUID
	for _, l := range p.list(deadletter.Filter{}) {
		got = append(got, l.ID)
	}
	if !slices.Equal(got, want) {
		p.Errorf("listed are %v, want %v", got, want)
	}
}

func TestListTellsWhatFailed(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	a, original := p.fail("order-1", "mailer")
	b, _ := p.fail("invoice-1", "printer")
	c, _ := p.failInOutbox("order-2")
	p.wantListed(a, b, c)

	l := p.list(deadletter.Filter{})[0]
	if l.Original.ID != original || l.Topic != "order" || l.Group != "mailer" || l.Attempts != 3 || l.Error != "no" || l.OfProcessor() {
		t.Errorf("got %+v", l)
	}
	if got, err := p.queue.Get(t.Context(), a); err != nil || got.Original.ID != original {
		t.Errorf("Get gives %+v, %v", got, err)
	}
	if n, err := p.queue.Count(t.Context(), deadletter.Filter{}); n != 3 || err != nil {
		t.Errorf("Count gives %d, %v", n, err)
	}
	for name, tt := range map[string]struct {
		filter deadletter.Filter
		want   []uuid.UUID
	}{
		"topic":     {deadletter.Filter{Topic: "order"}, []uuid.UUID{a}},
		"group":     {deadletter.Filter{Group: "printer"}, []uuid.UUID{b}},
		"handler":   {deadletter.Filter{Handler: "processor"}, []uuid.UUID{c}},
		"name":      {deadletter.Filter{Name: "Else"}, nil},
		"stream":    {deadletter.Filter{Stream: "order-2"}, []uuid.UUID{c}},
		"since":     {deadletter.Filter{Since: time.Now().Add(time.Hour)}, nil},
		"before":    {deadletter.Filter{Before: time.Now().Add(time.Hour)}, []uuid.UUID{a, b, c}},
		"after":     {deadletter.Filter{After: l.Version}, []uuid.UUID{b, c}},
		"limit":     {deadletter.Filter{Limit: 2}, []uuid.UUID{a, b}},
		"all of it": {deadletter.Filter{Topic: "order", Group: "printer"}, nil},
	} {
		var got []uuid.UUID
		for _, l := range p.list(tt.filter) {
			got = append(got, l.ID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("filter by %s gives %v, want %v", name, got, tt.want)
		}
	}
}

func TestReplayGoesToTheRouteThatFailed(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	letter, original := p.fail("order-1", "mailer")
	kept, _ := p.fail("order-1", "printer")
	if err := p.queue.Replay(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	p.wantListed(kept)
	entries := p.claim()
	if len(entries) != 1 || entries[0].Category() != es.ReplayTopic("order", "mailer") {
		t.Fatalf("the outbox has %d entries, the first of stream %q", len(entries), entries[0].Stream)
	}
	if record, err := es.ReadReplay(entries[0].Message); err != nil || record.Original.ID != original {
		t.Errorf("it brings %+v, %v", record, err)
	}
	if err := p.queue.Replay(t.Context(), letter); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("a second replay gives %v, want ErrNotFound", err)
	}
}

func TestReplayOfAProcessorGoesBackIntoTheOutbox(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	letter, m := p.failInOutbox("order-1")
	if err := p.queue.Replay(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	p.wantListed()
	// It fails again, and has another letter, which has nothing to do with the first one.
	second := p.giveUp()
	if second == letter {
		t.Fatal("the second failure has the letter of the first")
	}
	p.wantListed(second)
	if err := p.queue.Discard(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	p.wantListed()
	for dead, err := range p.backend.Outbox().DeadLetters(t.Context()) {
		t.Errorf("the outbox has %s (%v) still, want it discarded; the message was %s", dead.ID, err, m.ID)
	}
}

func TestALetterWhoseEntryIsGoneCanOnlyBeDiscarded(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	letter, m := p.failInOutbox("order-1")
	if err := p.backend.Outbox().Replay(t.Context(), m.ID); err != nil { // by hand, past the queue
		t.Fatal(err)
	}
	second := p.giveUp()
	if err := p.queue.Replay(t.Context(), letter); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("replay gives %v, want ErrNotFound", err)
	}
	if err := p.queue.Discard(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	p.wantListed(second)
	n := 0
	for _, err := range p.backend.Outbox().DeadLetters(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("the outbox has %d dead letters, want the entry of the second letter", n)
	}
}

func TestNothingIsReplayedWhenOneCannotBe(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	good, _ := p.fail("order-1", "mailer")
	broken := es.NewMessage("dead", es.DeadLetterName, []byte("{"))
	p.append(broken)
	for name, ids := range map[string][]uuid.UUID{
		"one that there is not":         {good, uuid.New()},
		"one that cannot be decoded":    {good, broken.ID},
		"the same twice":                {good, good},
		"one that cannot come at first": {broken.ID, good},
	} {
		if err := p.queue.Replay(t.Context(), ids...); !errors.Is(err, es.ErrNotFound) && !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	p.wantListed(good, broken.ID)
	if stats, err := p.backend.Outbox().Stats(t.Context()); err != nil || stats.Depth != 0 {
		t.Errorf("the outbox has %d entries (%v), want none", stats.Depth, err)
	}
	n, err := p.queue.ReplayAll(t.Context(), deadletter.Filter{})
	if n != 1 || !errors.Is(err, es.ErrInvalid) {
		t.Errorf("ReplayAll gives %d, %v, want the good one and an error about the other", n, err)
	}
	p.wantListed(broken.ID)
	if err := p.queue.Discard(t.Context(), broken.ID); err != nil {
		t.Error(err)
	}
	p.wantListed()
}

func TestReplayAllEndsAlthoughAllFailAgain(t *testing.T) {
	t.Parallel()
	const letters = 250 // more than a page
	backend := memory.New()
	p := &program{TB: t, backend: backend}
	var sent []uuid.UUID
	queue, err := deadletter.New(deadletter.Config{Events: backend.Events(), Send: func(_ context.Context, msgs []*es.Message) error {
		for _, m := range msgs {
			sent = append(sent, m.ID)
			p.fail("order-1", "mailer") // at once
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.queue = queue
	for i := range letters {
		p.fail(fmt.Sprintf("order-%d", i), "mailer")
	}
	if n, err := queue.ReplayAll(t.Context(), deadletter.Filter{}); n != letters || err != nil {
		t.Errorf("ReplayAll gives %d, %v, want %d", n, err, letters)
	}
	if len(sent) != letters {
		t.Errorf("sent %d replays", len(sent))
	}
	if n, err := queue.Count(t.Context(), deadletter.Filter{}); n != letters || err != nil {
		t.Errorf("%d letters are left (%v), want those that failed again", n, err)
	}
	if n, err := queue.DiscardAll(t.Context(), deadletter.Filter{Stream: "order-1"}); n != letters || err != nil {
		t.Errorf("DiscardAll gives %d, %v", n, err)
	}
	p.wantListed()
}

func TestALetterStaysWhenItsReplayCannotBeSent(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	down := true
	var sent []uuid.UUID
	queue, err := deadletter.New(deadletter.Config{Events: backend.Events(), Send: func(_ context.Context, msgs []*es.Message) error {
		sent = append(sent, msgs[0].ID)
		if down {
			return errNo // after it was sent: the answer was lost
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := &program{TB: t, backend: backend, queue: queue}
	letter, _ := p.fail("order-1", "mailer")
	if err := queue.Replay(t.Context(), letter); !errors.Is(err, errNo) {
		t.Fatalf("got %v", err)
	}
	p.wantListed(letter)
	down = false
	if err := queue.Replay(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	if len(sent) != 2 || sent[0] != sent[1] {
		t.Errorf("the replay was sent as %v, want the same message twice", sent)
	}
	p.wantListed()
}

func TestOneDealsWithALetter(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	p := &program{TB: t, backend: backend}
	var other *deadletter.Queue
	var letter uuid.UUID
	queue, err := deadletter.New(deadletter.Config{Events: backend.Events(), Send: func(ctx context.Context, _ []*es.Message) error {
		return other.Discard(ctx, letter) // by somebody else, while this one sends
	}})
	if err != nil {
		t.Fatal(err)
	}
	if other, err = deadletter.New(deadletter.Config{Events: backend.Events()}); err != nil {
		t.Fatal(err)
	}
	p.queue = queue
	letter, _ = p.fail("order-1", "mailer")
	if err := queue.Replay(t.Context(), letter); !errors.Is(err, es.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	p.wantListed()
}

func TestReplaysAreAppendedWhereThereIsNoOutbox(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	queue, err := deadletter.New(deadletter.Config{Events: backend.Events()})
	if err != nil {
		t.Fatal(err)
	}
	p := &program{TB: t, backend: backend, queue: queue}
	letter, _ := p.fail("order-1", "mailer")
	if err := queue.Replay(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range backend.Events().Read(t.Context(), es.Query{Category: es.ReplayTopic("order", "mailer")}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("the log has %d replays, want 1", n)
	}
	ofProcessor, _ := p.failInOutbox("order-2")
	if err := queue.Replay(t.Context(), ofProcessor); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("that of a processor gives %v, want ErrInvalid", err)
	}
}

// TestWhatIsNoDeadLetterCanBeDiscarded puts JSON into the dead stream that is no record of anything. It must not stay for ever.
func TestWhatIsNoDeadLetterCanBeDiscarded(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"{}", "null", `{"topic":"order"}`, "[]", "x"} {
		p := newProgram(t)
		queue, err := deadletter.New(deadletter.Config{Events: p.backend.Events()}) // no outbox
		if err != nil {
			t.Fatal(err)
		}
		foreign := es.NewMessage("dead", es.DeadLetterName, []byte(data))
		p.append(foreign)
		if l, err := queue.Get(t.Context(), foreign.ID); err != nil || l.Err == nil || l.OfProcessor() || l.Time.IsZero() {
			t.Errorf("%s is the letter %+v, %v", data, l, err)
		}
		if err := queue.Replay(t.Context(), foreign.ID); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("the replay of %s: %v", data, err)
		}
		if err := queue.Discard(t.Context(), foreign.ID); err != nil {
			t.Errorf("%s cannot be discarded: %v", data, err)
		}
	}
}

// TestAReplayOfAllSendsEachOnce has two operators: while one replays all, the other discards one of them, or the entry of a processor
// is gone. The rest was sent by then, and is not sent again.
func TestAReplayOfAllSendsEachOnce(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	sent := map[uuid.UUID]int{}
	var other func()
	queue, err := deadletter.New(deadletter.Config{Events: p.backend.Events(), Outbox: p.backend.Outbox(),
		Send: func(_ context.Context, msgs []*es.Message) error {
			for _, m := range msgs {
				sent[m.ID]++
			}
			other()
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	var taken uuid.UUID
	for i := range 5 {
		taken, _ = p.fail(fmt.Sprintf("order-%d", i), "mailer")
	}
	inOutbox, entry := p.failInOutbox("order-9")
	other = func() {
		other = func() {}
		if err := p.queue.Discard(t.Context(), taken); err != nil {
			t.Error(err)
		}
		if err := p.backend.Outbox().Replay(t.Context(), entry.ID); err != nil {
			t.Error(err)
		}
	}
	n, err := queue.ReplayAll(t.Context(), deadletter.Filter{})
	if n != 4 || !errors.Is(err, es.ErrConflict) || !errors.Is(err, es.ErrNotFound) {
		t.Errorf("replayed %d: %v", n, err)
	}
	for id, times := range sent {
		if times != 1 {
			t.Errorf("%s was sent %d times", id, times)
		}
	}
	if len(sent) != 5 {
		t.Errorf("%d were sent, want 5", len(sent))
	}
	p.wantListed(inOutbox)
}

func TestCompactKeepsWhatIsOpen(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	if n, err := p.queue.Compact(t.Context()); n != 0 || err != nil {
		t.Errorf("an empty stream gives %d, %v", n, err)
	}
	a, _ := p.fail("order-1", "mailer")
	open, _ := p.fail("order-2", "mailer")
	c, _ := p.fail("order-3", "mailer")
	if err := p.queue.Discard(t.Context(), a, c); err != nil {
		t.Fatal(err)
	}
	for want := int64(1); want >= 0; want-- { // the second time there is nothing to do
		if n, err := p.queue.Compact(t.Context()); n != want || err != nil {
			t.Errorf("Compact gives %d, %v, want %d", n, err, want)
		}
		p.wantListed(open)
	}
	if err := p.queue.Discard(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	if n, err := p.queue.Compact(t.Context()); n != 5 || err != nil {
		t.Errorf("Compact gives %d, %v, want all that is left", n, err)
	}
	d, _ := p.fail("order-4", "mailer")
	p.wantListed(d)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]deadletter.Config{
		"no events":       {},
		"a stream's name": {Events: memory.New().Events(), Stream: "a\nb"},
	} {
		if _, err := deadletter.New(c); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	p := newProgram(t)
	for _, f := range []deadletter.Filter{{After: -1}, {Limit: -1}} {
		if _, err := p.queue.Count(t.Context(), f); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("filter %+v: got %v, want ErrInvalid", f, err)
		}
	}
}
