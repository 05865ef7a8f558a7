package estest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func outboxEnqueueLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("O1/durable_when_enqueue_returns", func(b *outboxBench) {
			b.enqueue("a1", "a2", "b1")
			b.crashed()
			b.take("a1", "a2", "b1")
		}),
		outboxLine("O1/kept_over_close_and_open", func(b *outboxBench) {
			b.keeps()
			b.enqueue("a1", "a2", "b1")
			b.reopened()
			b.take("a1", "a2", "b1")
		}),
		outboxLine("O1/another_handle_sees_it", func(b *outboxBench) {
			other := b.another()
			b.enqueue("a1", "a2", "b1")
			b.has(b.claim(other, "B", longLease), "a1", "a2", "b1")
			b.nothing(b.role, "A", "all entries are with an owner on another handle")
		}),
		outboxLine("M2/every_field_survives", outboxFieldsSurvive),
		outboxLine("M5/keeps_copies", outboxKeepsCopies),
		outboxLine("M3/namespaces_see_nothing_of_each_other", outboxNamespaces),
		outboxLine("O1/all_or_none", outboxAllOrNone),
		outboxLine("O1/invalid_before_anything_is_written", outboxInvalid),
		outboxLine("O1/the_same_again_is_left_as_it_is", outboxIdempotent),
		outboxLine("O1/the_same_twice_in_a_call_is_one", func(b *outboxBench) {
			m := labeled("a1")
			b.ok(b.role.Enqueue(b.ctx, m, labeled("a2"), m.Clone()), "enqueue a message twice in one call")
			b.take("a1", "a2")
		}),
		outboxLine("O1/other_content_is_a_duplicate", outboxDuplicate),
		outboxLine("O1/the_ID_of_a_dead_letter_is_taken", func(b *outboxBench) {
			m := b.enqueue("a1")[0]
			b.ok(b.role.Fail(b.ctx, b.take("a1"), es.Failure{Err: errBoom, Dead: true}), "fail for good")
			b.ok(b.role.Enqueue(b.ctx, m), "enqueue a dead letter again")
			b.isDead(b.role, "a1")
			b.nothing(b.role, "A", "the entry is a dead letter still")
			other := m.Clone()
			other.Data = []byte(`"b1"`)
			b.is(b.role.Enqueue(b.ctx, other), es.ErrDuplicate, "enqueue the ID of a dead letter with other data")
		}),
		outboxLine("O1/calls_at_once_keep_their_order", outboxEnqueueAtOnce),
		outboxLine("O1/the_time_of_enqueueing_is_known", func(b *outboxBench) {
			before := time.Now()
			b.enqueue("a1")
			after := time.Now()
			b.about(b.take("a1")[0].Enqueued, before, after, "Enqueued")
		}),
	}
}

// fullMessage is a message with every field that its maker can set, and with what a database or an encoding may stumble over.
func fullMessage(stream string) *es.Message {
	return &es.Message{
		ID: es.NewID(), Name: "Ünïcode 'quoted' \"%_\\", Schema: 7, Stream: stream,
		Time:          time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC),
		CorrelationID: "conversation 🙂", CausationID: "cause\n2",
		Tags:        []string{"course:go-101", "z", "a", "ключ"},
		Metadata:    map[string]string{"tenant": "T\t1", "": "empty key", "leer": ""},
		ContentType: "application/octet-stream",
		Data:        append([]byte("\x00\xff\xfe{ \"b\": 1, \"a\": 1.0 }\x00"), bytes.Repeat([]byte{0, 255, '\''}, 50_000)...),
	}
}

func outboxFieldsSurvive(b *outboxBench) {
	full := fullMessage("straße-" + strings.Repeat("7", 200))
	bare := &es.Message{
		ID: uuid.New(), Name: "x", Schema: 1, Stream: "-", Time: es.Timestamp(time.Now()), ContentType: "text/plain",
		Tags: []string{}, Metadata: map[string]string{}, Data: []byte{},
	}
	b.ok(b.role.Enqueue(b.ctx, full, bare), "enqueue")
	want := map[uuid.UUID]*es.Message{full.ID: full, bare.ID: bare}
	same := func(m *es.Message, where string) {
		b.Helper()
		if want[m.ID] == nil {
			b.Fatalf("%s: the ID %s was never enqueued", where, m.ID)
		}
		if diff := differMessage(m, want[m.ID]); diff != "" {
			b.Fatalf("%s: %s", where, diff)
		}
	}
	entries := b.claim(b.role, "A", longLease)
	if len(entries) != 2 {
		b.Fatalf("%d entries, want 2", len(entries))
	}
	for _, e := range entries {
		same(e.Message, "a claimed entry")
	}
	b.ok(b.role.Fail(b.ctx, entries, es.Failure{Err: errBoom, Dead: true}), "fail for good")
	letters := b.dead(b.role)
	if len(letters) != 2 {
		b.Fatalf("%d dead letters, want 2", len(letters))
	}
	for _, e := range letters {
		same(e.Message, "a dead letter")
	}
	b.ok(b.role.Replay(b.ctx, full.ID, bare.ID), "replay")
	for _, e := range b.await(b.role, "A", 2, longLease) {
		same(e.Message, "a replayed entry")
	}
}

func outboxKeepsCopies(b *outboxBench) {
	m := fullMessage("a")
	m.Name = "a1"
	before := m.Clone()
	b.ok(b.role.Enqueue(b.ctx, m), "enqueue")
	m.Name, m.Stream, m.Tags[0], m.Metadata["tenant"] = "overwritten", "other", "overwritten", "overwritten"
	for i := range m.Data {
		m.Data[i] = 'x'
	}
	if diff := differMessage(b.take("a1")[0].Message, before); diff != "" {
		b.Fatalf("the caller reused its message after Enqueue had returned: %s", diff)
	}
}

func outboxNamespaces(b *outboxBench) {
	other := b.elsewhere("other")
	m := b.enqueue("a1")[0]
	b.nothing(other, "B", "the entries are those of another namespace")
	b.holds(other, 0)
	theirs := m.Clone()
	theirs.Data = []byte(`"another message under the same ID"`)
	b.ok(other.Enqueue(b.ctx, theirs), "enqueue an ID that another namespace has")
	b.ok(b.role.Fail(b.ctx, b.take("a1"), es.Failure{Err: errBoom, Dead: true}), "fail for good")
	b.isDead(other)
	b.is(other.Replay(b.ctx, m.ID), es.ErrNotFound, "replay a dead letter of another namespace")
	b.is(other.Discard(b.ctx, m.ID), es.ErrNotFound, "discard a dead letter of another namespace")
	got := b.claim(other, "B", longLease)
	b.has(got, "a1")
	if !bytes.Equal(got[0].Data, theirs.Data) {
		b.Fatalf("the entry has the data %q of another namespace", got[0].Data)
	}
}

func outboxAllOrNone(b *outboxBench) {
	first := b.enqueue("a1")[0]
	taken := first.Clone()
	taken.Data = []byte(`"other"`)
	b.is(b.role.Enqueue(b.ctx, labeled("a2"), labeled("b1"), taken), es.ErrDuplicate, "enqueue with a duplicate at the end")
	invalid := labeled("a3")
	invalid.Schema = 0
	b.is(b.role.Enqueue(b.ctx, labeled("a2"), labeled("b1"), invalid), es.ErrInvalid, "enqueue with an invalid message at the end")
	b.is(b.role.Enqueue(b.ctx, labeled("a2"), nil), es.ErrInvalid, "enqueue nil")
	b.holds(b.role, 1)
	b.take("a1")

	one, two := labeled("c1"), labeled("c2")
	two.ID = one.ID
	b.is(b.role.Enqueue(b.ctx, one, two), es.ErrDuplicate, "enqueue two messages with one ID")
	b.nothing(b.role, "A", "an enqueue that fails stores nothing")
	b.ok(b.role.Enqueue(b.ctx), "enqueue no message")
}

func outboxInvalid(b *outboxBench) {
	with := func(change func(m *es.Message)) *es.Message {
		m := labeled("a1")
		change(m)
		return m
	}
	for why, m := range map[string]*es.Message{
		"no ID":                         with(func(m *es.Message) { m.ID = uuid.Nil }),
		"an empty stream":               with(func(m *es.Message) { m.Stream = "" }),
		"a stream of 256 bytes":         with(func(m *es.Message) { m.Stream = strings.Repeat("s", 256) }),
		"a control character":           with(func(m *es.Message) { m.Stream = "a\n" }),
		"a stream that is not UTF-8":    with(func(m *es.Message) { m.Stream = "a\xff" }),
		"an empty name":                 with(func(m *es.Message) { m.Name = "" }),
		"a NUL in its name":             with(func(m *es.Message) { m.Name = "a\x00" }),
		"schema 0":                      with(func(m *es.Message) { m.Schema = 0 }),
		"no time":                       with(func(m *es.Message) { m.Time = time.Time{} }),
		"a NUL in a tag":                with(func(m *es.Message) { m.Tags = []string{"\x00"} }),
		"a NUL in its metadata":         with(func(m *es.Message) { m.Metadata = map[string]string{"k": "\x00"} }),
		"a correlation ID not in UTF-8": with(func(m *es.Message) { m.CorrelationID = "\xff" }),
	} {
		b.is(b.role.Enqueue(b.ctx, labeled("a0"), m), es.ErrInvalid, "enqueue a message with %s", why)
	}
	b.holds(b.role, 0)
	b.nothing(b.role, "A", "nothing valid was enqueued")
}

func outboxIdempotent(b *outboxBench) {
	msgs := b.enqueue("a1", "a2")
	again := func(why string) {
		b.Helper()
		m := msgs[0].Clone()
		m.Time, m.Metadata, m.CorrelationID = es.Timestamp(time.Now()), map[string]string{"trace": "another"}, "another"
		b.ok(b.role.Enqueue(b.ctx, m), "enqueue the same content again %s", why)
	}
	again("while it waits")
	entries := b.take("a1", "a2")
	if diff := differMessage(entries[0].Message, msgs[0]); diff != "" {
		b.Fatalf("an entry that was enqueued again is not as it was: %s", diff)
	}
	again("while it is claimed")
	b.nothing(b.role, "B", "an entry that was enqueued again is still claimed")
	b.ok(b.role.Release(b.ctx, entries[1:]), "release a2")
	b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Delay: time.Hour}), "fail a1")
	again("while it waits for its retry")
	b.nothing(b.role, "A", "an entry that was enqueued again still waits for its retry")
	b.holds(b.role, 2)
}

func outboxDuplicate(b *outboxBench) {
	m := b.enqueue("a1")[0]
	for what, change := range map[string]func(m *es.Message){
		"another stream":       func(m *es.Message) { m.Stream = "b" },
		"another name":         func(m *es.Message) { m.Name = "a2" },
		"another schema":       func(m *es.Message) { m.Schema = 2 },
		"other tags":           func(m *es.Message) { m.Tags = []string{"t"} },
		"another content type": func(m *es.Message) { m.ContentType = "text/plain" },
		"other data":           func(m *es.Message) { m.Data = []byte(`"b1"`) },
	} {
		other := m.Clone()
		change(other)
		b.is(b.role.Enqueue(b.ctx, other), es.ErrDuplicate, "enqueue the ID with %s", what)
	}
	got := b.take("a1")
	if diff := differMessage(got[0].Message, m); diff != "" {
		b.Fatalf("a duplicate changed the entry: %s", diff)
	}
	other := m.Clone()
	other.Data = []byte(`"b1"`)
	b.is(b.role.Enqueue(b.ctx, other), es.ErrDuplicate, "enqueue the ID with other data while the entry is claimed")
}

// outboxEnqueueAtOnce has several goroutines enqueue batches to shared streams: nothing is lost, nothing is doubled, and the
// messages of one goroutine stay in order within each stream.
func outboxEnqueueAtOnce(b *outboxBench) {
	const writers, calls, batch, streams = 8, 5, 4, 3
	var mu sync.Mutex
	enqueued := map[uuid.UUID]bool{}
	b.atOnce(writers, func(w int) error {
		for c := range calls {
			msgs := make([]*es.Message, batch)
			for i := range msgs {
				n := c*batch + i
				msgs[i] = es.NewMessage(fmt.Sprint("s", n%streams), fmt.Sprintf("%d %03d", w, n), nil)
			}
			if err := b.role.Enqueue(b.ctx, msgs...); err != nil {
				return err
			}
			mu.Lock()
			for _, m := range msgs {
				enqueued[m.ID] = true
			}
			mu.Unlock()
		}
		return nil
	})
	last := map[string]string{}
	for {
		entries := b.claimUpTo(b.role, "A", 7, longLease)
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if !enqueued[e.ID] {
				b.Fatalf("%s is there twice, or was never enqueued", e.Name)
			}
			delete(enqueued, e.ID)
			key := e.Stream + " " + e.Name[:1]
			if e.Name <= last[key] {
				b.Fatalf("in stream %s %q comes behind %q", e.Stream, e.Name, last[key])
			}
			last[key] = e.Name
		}
		b.ok(b.role.Complete(b.ctx, entries), "complete")
	}
	if len(enqueued) > 0 {
		b.Fatalf("%d of %d entries are lost", len(enqueued), writers*calls*batch)
	}
}

func outboxCloseLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("E13/closed_is_closed", outboxClosed),
		outboxLine("E13/close_wakes_who_waits", func(b *outboxBench) {
			waiting := b.begun(b.role.Wait)
			b.ok(b.storage.Close(b, b.role), "close")
			b.is(b.ended(waiting, "Wait on a closed outbox"), es.ErrClosed, "wait")
		}),
		outboxLine("E13/close_waits_for_writes", outboxCloseWaits),
	}
}

func outboxClosed(b *outboxBench) {
	m := b.enqueue("a1", "a2")[0]
	entries := b.take("a1", "a2")
	o := b.role
	calls := map[string]func() error{
		"Enqueue": func() error { return o.Enqueue(b.ctx, labeled("a3")) },
		"Claim": func() error {
			_, err := o.Claim(b.ctx, make([]es.Entry, 1), es.ClaimOptions{Owner: "A"})
			return err
		},
		"Wait":    func() error { return o.Wait(b.ctx) },
		"Stats":   func() error { _, err := o.Stats(b.ctx); return err },
		"Replay":  func() error { return o.Replay(b.ctx, m.ID) },
		"Discard": func() error { return o.Discard(b.ctx, m.ID) },
		"DeadLetters": func() error {
			var last error
			for e, err := range o.DeadLetters(b.ctx) {
				if e.Message != nil {
					return fmt.Errorf("it has an entry: %v", e.ID)
				}
				last = err
			}
			return last
		},
	}
	for name, answer := range outboxAnswers() {
		calls[name] = func() error { return answer(b.ctx, o, entries) }
	}
	b.closed(calls, es.ErrClosed)
}

// outboxCloseWaits closes an outbox that is written to: what was acknowledged is there, what was turned down is not.
func outboxCloseWaits(b *outboxBench) {
	b.keeps()
	const writers = 8
	o := b.role
	acknowledged := make([][]string, writers)
	var begun sync.WaitGroup
	begun.Add(writers)
	results := b.begun(func(ctx context.Context) error {
		var done sync.WaitGroup
		errs := make([]error, writers)
		for w := range writers {
			done.Go(func() {
				for i := 0; ; i++ {
					m := es.NewMessage(fmt.Sprint("s", w), fmt.Sprintf("%d %06d", w, i), nil)
					if errs[w] = o.Enqueue(ctx, m); errs[w] != nil {
						if i == 0 {
							begun.Done()
						}
						return
					}
					acknowledged[w] = append(acknowledged[w], m.Name)
					if i == 0 {
						begun.Done()
					}
				}
			})
		}
		done.Wait()
		for _, err := range errs {
			if !errors.Is(err, es.ErrClosed) {
				return fmt.Errorf("enqueue during close: %w", err)
			}
		}
		return nil
	})
	begun.Wait()
	b.reopened()
	b.ok(b.ended(results, "writers on a closed outbox"), "writers")
	var got []string
	for {
		entries := b.claimUpTo(b.role, "A", 500, longLease)
		if len(entries) == 0 {
			break
		}
		got = append(got, labelsOf(entries)...)
		b.ok(b.role.Complete(b.ctx, entries), "complete")
	}
	want := slices.Concat(acknowledged...)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		b.Fatalf("%d entries were acknowledged before or during close, %d are there", len(want), len(got))
	}
}
