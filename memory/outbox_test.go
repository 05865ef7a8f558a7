package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

var errBoom = errors.New("boom")

// outboxUser works on an outbox; what must not fail fails the test.
type outboxUser struct {
	es.Outbox

	t testing.TB
}

func newOutboxUser(t testing.TB) outboxUser {
	t.Helper()
	return outboxUser{memory.New().Outbox(), t}
}

// add enqueues n messages of a stream, named stream/0, stream/1 and so on.
func (u outboxUser) add(stream string, n int) []*es.Message {
	u.t.Helper()
	msgs := make([]*es.Message, n)
	for i := range msgs {
		msgs[i] = es.NewMessage(stream, fmt.Sprintf("%s/%d", stream, i), nil)
	}
	if err := u.Enqueue(u.t.Context(), msgs...); err != nil {
		u.t.Fatal(err)
	}
	return msgs
}

func (u outboxUser) take(most int, lease time.Duration) []es.Entry {
	u.t.Helper()
	dst := make([]es.Entry, most)
	n, err := u.Claim(u.t.Context(), dst, es.ClaimOptions{Owner: "A", Lease: lease})
	if err != nil {
		u.t.Fatal(err)
	}
	return dst[:n]
}

func (u outboxUser) must(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
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
		{"an equal share each", 6, []string{"busy/0#1", "busy/1#1", "x/0#1", "x/1#1", "y/0#1", "busy/2#1"}},
		{"one each when there are more", 2, []string{"busy/0#1", "x/0#1"}},
		{"what some do not need", 9, []string{
			"busy/0#1", "busy/1#1", "busy/2#1", "busy/3#1", "busy/4#1", "x/0#1", "x/1#1", "x/2#1", "y/0#1",
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			u := newOutboxUser(t)
			u.add("busy", 100)
			u.add("x", 3)
			u.add("y", 1)
			got := entryNames(u.take(c.most, time.Minute))
			slices.Sort(got)
			want := slices.Sorted(slices.Values(c.want))
			if !slices.Equal(got, want) {
				t.Errorf("claimed %v, want %v", got, want)
			}
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
		u.must(u.Complete(t.Context(), entries))
		if entries[0].Stream != "busy" {
			quiet++
		}
	}
	if quiet != 10 {
		t.Errorf("of 10 quiet streams %d had their turn in 11 claims", quiet)
	}
}

func TestEndOfLeaseIsAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newOutboxUser(t)
		u.add("a", 4)
		entries := u.take(4, time.Second)
		u.must(u.Complete(t.Context(), entries[1:2]))
		u.must(u.Release(t.Context(), entries[2:3]))
		if more := u.take(4, time.Second); len(more) != 0 {
			t.Fatalf("claimed %v of a stream that is with a claim", entryNames(more))
		}
		time.Sleep(time.Second)
		got := entryNames(u.take(4, time.Second))
		if want := []string{"a/0#2", "a/2#1", "a/3#2"}; !slices.Equal(got, want) {
			t.Errorf("when the lease had ended: %v, want %v", got, want)
		}
		stats, err := u.Stats(t.Context())
		u.must(err)
		if stats.Retrying != 0 || stats.Failures != 0 {
			t.Errorf("the stats are %+v; a lease that ends is no failure", stats)
		}
	})
}

func TestExtendKeepsTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newOutboxUser(t)
		u.add("a", 2)
		u.add("b", 1)
		entries := u.take(3, time.Second)
		slices.SortFunc(entries, func(x, y es.Entry) int { return slices.Compare([]byte(x.Name), []byte(y.Name)) })
		time.Sleep(time.Second / 2)
		u.must(u.Extend(t.Context(), entries[:1]))
		if want := time.Now().Add(time.Second); !entries[0].Deadline.Equal(want) {
			t.Errorf("extended until %v, want until %v", entries[0].Deadline, want)
		}
		time.Sleep(time.Second / 2)
		err := u.Complete(t.Context(), entries)
		if es.Of(err, 0) != nil || es.Of(err, 1) != nil || !errors.Is(es.Of(err, 2), es.ErrLeaseLost) {
			t.Errorf("completed: %v; want ErrLeaseLost for the stream that was not extended, and for no other", err)
		}
	})
}

func TestParkedStreamGoesOnUpToItsDeadLetter(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	msgs := u.add("a", 5)
	entries := u.take(5, time.Minute)
	u.must(u.Fail(ctx, []es.Entry{entries[3], entries[1]}, es.Failure{Err: errBoom, Dead: true, Park: true}))
	u.must(u.Release(ctx, []es.Entry{entries[0], entries[2], entries[4]}))
	for _, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"1 and 3 dead", func() error { return nil }, []string{"a/0#1"}},
		{"1 replayed", func() error { return u.Replay(ctx, msgs[1].ID, msgs[1].ID) }, []string{"a/1#1", "a/2#1"}},
		{"3 discarded", func() error { return u.Discard(ctx, msgs[3].ID) }, []string{"a/4#1"}},
	} {
		u.must(step.do())
		entries := u.take(5, time.Minute)
		if got := entryNames(entries); !slices.Equal(got, step.want) {
			t.Fatalf("%s: claimed %v, want %v", step.what, got, step.want)
		}
		u.must(u.Complete(ctx, entries))
	}
}

func TestDiscardLeavesTheStreamThatCameAfter(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	dead := u.add("a", 1)
	u.must(u.Fail(ctx, u.take(1, time.Minute), es.Failure{Err: errBoom, Dead: true}))
	u.add("a", 1)
	u.must(u.Discard(ctx, dead[0].ID))
	u.add("a", 1)
	if got := u.take(2, time.Minute); len(got) != 2 {
		t.Errorf("claimed %v, want both entries of the stream", entryNames(got))
	}
}

func TestDeadLettersMayChangeInTheLoop(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	u.add("a", 3)
	u.must(u.Fail(t.Context(), u.take(3, time.Minute), es.Failure{Err: errBoom, Dead: true}))
	n := 0
	for letter, err := range u.DeadLetters(t.Context()) {
		u.must(err)
		u.must(u.Replay(t.Context(), letter.ID))
		n++
	}
	if got := u.take(5, time.Minute); n != 3 || len(got) != 3 {
		t.Errorf("%d dead letters, and %d of them replayed; want 3", n, len(got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	u.add("b", 2)
	u.must(u.Fail(t.Context(), u.take(2, time.Minute), es.Failure{Err: errBoom, Dead: true}))
	var last error
	for _, err := range u.DeadLetters(ctx) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the loop ended with %v when its context did, want context.Canceled", last)
	}
}

// TestWaitWakesToTheMoment waits for a claim that somebody else takes away meanwhile, and for what a claim and a failure lead
// to, each at the very moment.
func TestWaitWakesToTheMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newOutboxUser(t)
		woken := make(chan time.Time)
		wait := func() {
			go func() {
				if err := u.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				woken <- time.Now()
			}()
			synctest.Wait()
		}
		at := func(what string, want time.Time) {
			t.Helper()
			if got := <-woken; !got.Equal(want) {
				t.Errorf("%s: woken at %v, want %v", what, got, want)
			}
		}
		wait()
		time.Sleep(time.Second)
		u.add("a", 1)
		at("an enqueue", time.Now())

		entries := u.take(1, 3*time.Second)
		wait()
		time.Sleep(time.Second)
		u.must(u.Extend(t.Context(), entries))
		at("the end of a lease that was extended", entries[0].Deadline)

		entries = u.take(1, time.Hour)
		wait() // and has nothing to wait for before the hour is over
		u.must(u.Fail(t.Context(), entries, es.Failure{Err: errBoom, Delay: time.Minute}))
		at("a retry", time.Now().Add(time.Minute))

		entries = u.take(1, time.Hour)
		wait()
		u.add("b", 1)
		u.must(u.Complete(t.Context(), u.take(1, time.Minute))) // before the one that waits looks
		at("an enqueue that another took", time.Now())

		wait()
		u.add("a", 1)
		synctest.Wait()
		select {
		case <-woken:
			t.Error("woken by an entry that nobody can claim")
		default:
		}
		u.must(u.Complete(t.Context(), entries))
		at("an entry that is free", time.Now())
	})
}

func BenchmarkOutbox(b *testing.B) {
	for _, c := range []struct {
		name    string
		streams int
	}{{"one stream", 1}, {"1000 streams", 1000}} {
		b.Run(c.name, func(b *testing.B) {
			const batch = 100
			ctx, outbox := b.Context(), memory.New().Outbox()
			names := make([]string, c.streams)
			for i := range names {
				names[i] = fmt.Sprint("order-", i)
			}
			data := make([]byte, 256)
			msgs, dst := make([]*es.Message, batch), make([]es.Entry, batch)
			b.ReportAllocs()
			for n := 0; n < b.N; n += batch {
				for i := range msgs {
					msgs[i] = es.NewMessage(names[(n+i)%len(names)], "OrderPlaced", data)
				}
				if err := outbox.Enqueue(ctx, msgs...); err != nil {
					b.Fatal(err)
				}
				for done := 0; done < batch; {
					got, err := outbox.Claim(ctx, dst, es.ClaimOptions{Owner: "A"})
					if err != nil || got == 0 {
						b.Fatalf("claimed %d, %v", got, err)
					}
					if err := outbox.Complete(ctx, dst[:got]); err != nil {
						b.Fatal(err)
					}
					done += got
				}
			}
		})
	}
	// Blocked streams are not looked at: what a claim costs does not depend on them.
	b.Run("claim beside 10000 blocked streams", func(b *testing.B) {
		ctx, outbox := b.Context(), memory.New().Outbox()
		u := outboxUser{outbox, b}
		for i := range 10_000 {
			u.add(fmt.Sprint("blocked-", i), 2)
		}
		u.must(u.Fail(ctx, u.take(20_000, time.Hour), es.Failure{Err: errBoom, Delay: time.Hour}))
		dst := make([]es.Entry, 1)
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			if err := outbox.Enqueue(ctx, es.NewMessage("order-1", "OrderPlaced", nil)); err != nil {
				b.Fatal(err)
			}
			if n, err := outbox.Claim(ctx, dst, es.ClaimOptions{Owner: "A"}); n != 1 || err != nil {
				b.Fatalf("claimed %d, %v", n, err)
			}
			if err := outbox.Complete(ctx, dst); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestEntriesThatNoClaimGave(t *testing.T) {
	t.Parallel()
	u := newOutboxUser(t)
	ctx := t.Context()
	u.add("a", 1)
	forwarder, ok := u.Outbox.(es.Forwarder)
	if !ok {
		t.Fatal("the outbox is no Forwarder")
	}
	entries := append(u.take(1, time.Minute), es.Entry{}) // the zero entry has no message
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
