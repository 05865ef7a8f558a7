package estest

import (
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

func closeLines() []eventLine {
	return []eventLine{
		onEvents("E13", "afterwards_every_call_is_closed", everyCallIsClosed),
		onEvents("E13", "closing_twice_is_fine", closingTwice),
		onEvents("E13", "waits_for_appends_in_flight", closeWaits, needReopen()),
		onEvents("E13", "ends_those_who_wait", closeEndsWaiting),
		onEvents("E13", "other_handles_go_on", otherHandlesGoOn, needHandles()),
	}
}

func (b *eventBench) close() {
	b.Helper()
	if err := b.storage.Close(b.TB, b.store); err != nil {
		b.Fatalf("Close: %v", err)
	}
}

func everyCallIsClosed(b *eventBench) {
	event := made("some-1", "Happened")
	b.put("some-1", es.Any, event)
	b.close()
	a := es.AppendTo("some-1", es.Any, some("some-1", 1)...)
	calls := map[string]func() error{
		"Append":                 func() error { _, err := b.store.Append(b.ctx, a); return err },
		"Append of a known ID":   func() error { _, err := b.store.Append(b.ctx, es.AppendTo("some-1", es.Any, event)); return err },
		"Append without events":  func() error { _, err := b.store.Append(b.ctx, es.AppendTo("some-1", es.Any)); return err },
		"Head":                   func() error { _, err := b.store.Head(b.ctx); return err },
		"Wait for what is there": func() error { _, err := b.store.Wait(b.ctx, es.Checkpoint{}); return err },
		"Wait for more":          func() error { _, err := b.store.Wait(b.ctx, es.Checkpoint{Position: 1}); return err },
	}
	for _, q := range []es.Query{{}, {Stream: "some-1"}, {Stream: "none-1"}, {Unsettled: true, Reverse: true}} {
		calls[fmt.Sprintf("Read %+v", q)] = func() error {
			found, err := readAll(b.ctx, b.store, q)
			if len(found) > 0 {
				return fmt.Errorf("%d events, and the error %w", len(found), err)
			}
			return err
		}
	}
	if b.harness.Edits() {
		calls["Truncate"] = func() error { return b.store.Truncate(b.ctx, "some-1", 2) }
		calls["Delete"] = func() error { return b.store.Delete(b.ctx, "some-1", es.SoftDelete) }
		calls["Erase"] = func() error {
			_, err := b.store.Erase(b.ctx, es.Erasure{Stream: "some-1", Audit: made("audit-1", "Erased")})
			return err
		}
	}
	for what, call := range calls {
		if err := call(); !errors.Is(err, es.ErrClosed) {
			b.Errorf("%s after Close gives %v; want ErrClosed", what, err)
		}
	}
	outcomes := b.store.AppendEach(b.ctx, []es.Append{a, a})
	if len(outcomes) != 2 || !errors.Is(outcomes[0].Err, es.ErrClosed) || !errors.Is(outcomes[1].Err, es.ErrClosed) {
		b.Errorf("AppendEach after Close gives %+v; want ErrClosed for both", outcomes)
	}
	if needReopen().met(b.harness) {
		b.store = b.storage.Open(b.TB, Namespace)
		b.holds("some-1", event)
	}
}

func closingTwice(b *eventBench) {
	b.put("some-1", es.Any, some("some-1", 1)...)
	b.close()
	b.close()
	for _, err := range together(4, func(int) error { return b.storage.Close(b.TB, b.store) }) {
		if err != nil {
			b.Fatalf("closing again, by several at once: %v", err)
		}
	}
	fresh := openEvents(b.TB, b.harness) // by several at once from the beginning
	for _, err := range together(4, func(int) error { return fresh.storage.Close(b.TB, fresh.store) }) {
		if err != nil {
			b.Fatalf("closing by several at once: %v", err)
		}
	}
}

// closeWaits closes in the middle of many appends. Each of them was taken, and then was there when Close returned, or was told
// that the store is closed, and then is not there.
func closeWaits(b *eventBench) {
	for round := range 5 {
		const writers = 8
		type outcome struct {
			acked []*es.Message
			lost  *es.Message
			err   error
		}
		begun := make(chan struct{}, writers)
		results := make(chan outcome, writers)
		store := b.store
		for i := range writers {
			go func() {
				stream := fmt.Sprintf("close-%d-%d", round, i)
				var o outcome
				for {
					m := made(stream, "Happened")
					if _, err := store.Append(b.ctx, es.AppendTo(stream, es.Exactly(int64(len(o.acked))), m)); err != nil {
						o.lost, o.err = m, err
						break
					}
					if o.acked = append(o.acked, m); len(o.acked) == 3 {
						begun <- struct{}{}
					}
				}
				if len(o.acked) < 3 {
					begun <- struct{}{}
				}
				results <- o
			}()
		}
		for range writers {
			<-begun
		}
		b.close()
		b.store = b.storage.Open(b.TB, Namespace)
		there := map[string]int{}
		for i := range writers {
			stream := fmt.Sprintf("close-%d-%d", round, i)
			for _, m := range b.stream(stream) {
				there[m.ID.String()]++
			}
		}
		for range writers {
			o := <-results
			if !errors.Is(o.err, es.ErrClosed) {
				b.Fatalf("an append during Close gives %v; want ErrClosed", o.err)
			}
			if there[o.lost.ID.String()] != 0 {
				b.Fatal("an append that was told ErrClosed is there all the same")
			}
			for _, m := range o.acked {
				if there[m.ID.String()] != 1 {
					b.Fatalf("an event of %q was acknowledged, and was not there yet when Close had returned", m.Stream)
				}
			}
		}
	}
}

func closeEndsWaiting(b *eventBench) {
	last := b.put("some-1", es.Any, some("some-1", 1)...)
	head := b.settled(last.Position)
	const waiters = 10
	begun := make(chan struct{}, waiters)
	ended := make(chan error, waiters)
	store := b.store
	for range waiters {
		go func() {
			begun <- struct{}{}
			for after := head; ; {
				got, err := store.Wait(b.ctx, after)
				if err != nil {
					ended <- err
					return
				}
				after = got
			}
		}()
	}
	for range waiters {
		<-begun
	}
	b.close()
	for range waiters {
		if err := <-ended; !errors.Is(err, es.ErrClosed) {
			b.Fatalf("a Wait that was closed returns %v; want ErrClosed", err)
		}
	}
}

func otherHandlesGoOn(b *eventBench) {
	other := b.another()
	event := made("some-1", "Happened")
	b.put("some-1", es.Any, event)
	b.close()
	other.holds("some-1", event)
	next := some("some-1", 1)
	other.put("some-1", es.Exactly(1), next...)
	head := other.head()
	waited := make(chan error, 1)
	go func() {
		_, err := other.store.Wait(other.ctx, head)
		waited <- err
	}()
	other.put("some-1", es.Exactly(2), some("some-1", 1)...)
	if err := <-waited; err != nil {
		b.Fatalf("Wait on another handle: %v", err)
	}
}
