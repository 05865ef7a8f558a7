package estest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func waitLines() []eventLine {
	return []eventLine{
		onEvents("E9", "returns_at_once_when_there_is_more", waitReturnsAtOnce),
		onEvents("E9", "waits_while_there_is_nothing", waitWaits),
		onEvents("E9", "wakes_within_5_ms", wakesSoon),
		onEvents("E9", "never_misses_an_append", neverMisses),
		onEvents("E9", "wakes_all_who_wait", wakesAll),
		onEvents("E9", "wakes_other_handles", wakesOtherHandles, needHandles()),
		onEvents("E9", "ends_with_its_context", waitEndsWithContext),
	}
}

func waitReturnsAtOnce(b *eventBench) {
	last := b.put("some-1", es.Any, some("some-1", 3)...)
	head := b.settled(last.Position)
	for _, after := range []int64{0, last.Places[0].Position - 1, last.Places[0].Position, last.Places[1].Position} {
		for _, incarnation := range []es.Checkpoint{{}, head} {
			got, err := b.store.Wait(b.ctx, es.Checkpoint{Incarnation: incarnation.Incarnation, Position: after})
			if err != nil || got.Position < head.Position || got.Incarnation != head.Incarnation {
				b.Fatalf("Wait beyond %d, where the head is %+v, gives %+v and %v", after, head, got, err)
			}
			if n := len(b.read(es.Query{After: after, UpTo: got.Position})); n == 0 {
				b.Fatalf("there is nothing to read between %d and the head %d", after, got.Position)
			}
		}
	}
}

// waitWaits looks that a Wait does not return with nothing new. That it would wait for ever cannot be seen; that it outlasts a
// number of reads and rejected appends can.
func waitWaits(b *eventBench) {
	b.put("some-1", es.Any, some("some-1", 1)...)
	// Quiet is reached when the head stays where it is: an engine may move it once more for numbers that were given up.
	quiet := func() es.Checkpoint {
		head := es.Checkpoint{Position: b.settledNow()}
		for {
			ctx, cancel := context.WithTimeout(b.ctx, 20*time.Millisecond)
			next, err := b.store.Wait(ctx, head)
			cancel()
			switch {
			case errors.Is(err, context.DeadlineExceeded) && b.ctx.Err() == nil:
				return head
			case err != nil:
				b.Fatalf("Wait beyond the head %d: %v", head.Position, err)
			case next.Position <= head.Position:
				b.Fatalf("Wait beyond %d returns %d", head.Position, next.Position)
			}
			head = next
		}
	}
	head := quiet()
	type result struct {
		es.Checkpoint
		err error
	}
	returned := make(chan result, 1)
	go func() {
		got, err := b.store.Wait(b.ctx, head)
		returned <- result{got, err}
	}()
	for range 50 {
		b.all()
		b.must(es.AppendTo("some-1", es.Exactly(1)))
	}
	select {
	case r := <-returned:
		if r.err != nil || r.Position <= head.Position {
			b.Fatalf("Wait beyond the head %d returns %d and %v while nothing is appended", head.Position, r.Position, r.err)
		}
		b.Fatalf("Wait beyond the head %d returns %d; nothing was appended", head.Position, r.Position)
	default:
	}
	last := b.put("some-1", es.Any, some("some-1", 1)...)
	if r := <-returned; r.err != nil || r.Position <= head.Position {
		b.Fatalf("Wait beyond %d returns %d and %v after an append at %d", head.Position, r.Position, r.err, last.Position)
	}
}

// wakeRounds measures how long after an append's return a waiting Wait returns, round after round.
func (b *eventBench) wakeRounds(rounds int, appender, waiter es.EventStore) []time.Duration {
	b.Helper()
	type woken struct {
		head es.Checkpoint
		at   time.Time
		err  error
	}
	positions, results := make(chan int64), make(chan woken)
	ctx, cancel := context.WithCancel(b.ctx)
	ended := make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		for after := int64(0); ; {
			head, err := waiter.Wait(ctx, es.Checkpoint{Position: after})
			at := time.Now()
			select {
			case results <- woken{head, at, err}:
			case <-ctx.Done():
				return
			}
			select {
			case after = <-positions:
			case <-ctx.Done():
				return
			}
		}
	}()
	var took []time.Duration
	for n := range rounds {
		done, err := appender.Append(b.ctx, es.AppendTo("wake-1", es.Any, made("wake-1", "Happened")))
		if err != nil {
			b.Fatalf("append %d: %v", n, err)
		}
		at := time.Now()
		for {
			var r woken
			select {
			case r = <-results:
			case <-b.ctx.Done():
				b.Fatalf("round %d: event %d was appended, and Wait does not return", n, done.Position)
			}
			if r.err != nil {
				b.Fatalf("round %d: event %d was appended, and Wait: %v", n, done.Position, r.err)
			}
			next := max(r.head.Position, done.Position-1)
			if r.head.Position >= done.Position {
				took = append(took, max(0, r.at.Sub(at)))
			}
			select {
			case positions <- next:
			case <-b.ctx.Done():
				b.Fatal(b.ctx.Err())
			}
			if r.head.Position >= done.Position {
				break
			}
		}
	}
	slices.Sort(took)
	return took
}

func wakesSoon(b *eventBench) {
	const promised = 5 * time.Millisecond
	b.wakesWithin(promised, b.wakeRounds(300, b.store, b.store))
}

// wakesWithin fails unless the 99th percentile of measured times is within what is promised, times the allowance for a machine
// that is busy with other things.
func (b *eventBench) wakesWithin(promised time.Duration, took []time.Duration) {
	b.Helper()
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	b.Logf("woken after %v (p50), %v (p99), %v at most; promised: %v", p50, p99, took[len(took)-1], promised)
	if bound := promised * slowdown; p99 > bound {
		b.Errorf("p99 is %v; promised are %v, and %v is what the test allows", p99, promised, bound)
	}
}

func wakesOtherHandles(b *eventBench) {
	took := b.wakeRounds(100, b.another().store, b.store)
	promised, known := b.wakeUp()
	if !known {
		promised = 20 * time.Millisecond
	}
	b.wakesWithin(promised, took)
}

// neverMisses begins to wait at the very moment of the append, so that the append comes before, in and after each step of Wait.
func neverMisses(b *eventBench) {
	type result struct {
		position int64
		err      error
	}
	after := int64(0)
	for round := range 400 {
		results := together(2, func(i int) result {
			if i == 0 {
				done, err := b.store.Append(b.ctx, es.AppendTo("miss-1", es.Any, made("miss-1", "Happened")))
				return result{done.Position, err}
			}
			head, err := b.store.Wait(b.ctx, es.Checkpoint{Position: after})
			return result{head.Position, err}
		})
		for i, r := range results {
			if r.err != nil {
				b.Fatalf("round %d: %s: %v", round, []string{"append", "wait"}[i], r.err)
			}
		}
		if results[1].position <= after {
			b.Fatalf("round %d: Wait beyond %d returns %d", round, after, results[1].position)
		}
		after = b.settled(results[0].position).Position
	}
}

func wakesAll(b *eventBench) {
	const waiters = 50
	after := int64(0)
	for round := range 10 {
		ready := make(chan struct{}, waiters)
		woken := make(chan error, waiters)
		for range waiters {
			go func() {
				ready <- struct{}{}
				head, err := b.store.Wait(b.ctx, es.Checkpoint{Position: after})
				if err == nil && head.Position <= after {
					err = fmt.Errorf("waiting beyond %d gives %d", after, head.Position)
				}
				woken <- err
			}()
		}
		for range waiters {
			<-ready
		}
		last := b.put("wake-1", es.Any, made("wake-1", "Happened"))
		for range waiters {
			if err := <-woken; err != nil {
				b.Fatalf("round %d: one of many who wait: %v", round, err)
			}
		}
		after = b.settled(last.Position).Position
	}
}

func waitEndsWithContext(b *eventBench) {
	b.put("some-1", es.Any, some("some-1", 1)...)
	head := b.settledNow()
	for range 20 {
		ctx, cancel := context.WithCancel(b.ctx)
		ended := make(chan error, 1)
		begun := make(chan struct{})
		go func() {
			close(begun)
			for after := head; ; {
				got, err := b.store.Wait(ctx, es.Checkpoint{Position: after})
				if err != nil {
					ended <- err
					return
				}
				after = got.Position
			}
		}()
		<-begun
		cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				b.Fatalf("a Wait whose context was canceled returns %v", err)
			}
		case <-b.ctx.Done():
			b.Fatal("a Wait does not end with its context")
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if _, err := b.store.Wait(ctx, es.Checkpoint{Position: head}); !errors.Is(err, context.DeadlineExceeded) {
		b.Fatalf("a Wait whose deadline is over returns %v", err)
	}
}
