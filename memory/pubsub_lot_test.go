package memory_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// wantLag fails unless a subscription tells this lag.
func wantLag(t *testing.T, sub es.Subscription, messages int64, oldest time.Time) {
	t.Helper()
	lag, err := sub.(es.Lagger).Lag(t.Context()) //nolint:errcheck // each is one
	wantOK(t, err)
	if lag.Messages != messages || !lag.Oldest.Equal(oldest) {
		t.Fatalf("the lag is %d messages since %v, want %d since %v", lag.Messages, lag.Oldest, messages, oldest)
	}
}

func TestPubSubLagIsExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ps := newPubSub(t, memory.PubSubConfig{Lease: time.Hour})
		sub := subscribe(t, ps, es.SubscribeOptions{Group: "g"})
		other := subscribe(t, ps, es.SubscribeOptions{Group: "g"})
		wantLag(t, sub, 0, time.Time{})
		const n = 200
		began := time.Now()
		for i := range n {
			publish(t, ps, fmt.Sprintf("%c%d", 'a'+i%20, i))
			time.Sleep(time.Second)
		}
		at := func(i int) time.Time { return began.Add(time.Duration(i) * time.Second) }
		wantLag(t, sub, n, at(0))
		ds := make([]es.Delivery, n)
		got, err := sub.Receive(t.Context(), ds[:150])
		if wantOK(t, err); got != 150 {
			t.Fatalf("received %d", got)
		}
		wantLag(t, other, n, at(0))
		wantOK(t, sub.Ack(t.Context(), ds[1:130])) // all but the oldest
		wantLag(t, sub, n-129, at(0))
		wantOK(t, sub.Ack(t.Context(), ds[:1]))
		wantLag(t, sub, n-130, at(130))
		wantOK(t, sub.Nack(t.Context(), ds[130:131], time.Minute))
		wantLag(t, sub, n-130, at(130))
		wantOK(t, sub.Ack(t.Context(), ds[131:150]))
		wantLag(t, sub, n-149, at(130))
	})
}

// TestPubSubAnswersOfOneBatchAreNotThoseOfAnother has batches follow each other, so that each is the only one in flight, and answers
// for those that are over.
func TestPubSubAnswersOfOneBatchAreNotThoseOfAnother(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{})
	sub := subscribe(t, ps, es.SubscribeOptions{Group: "g"})
	other := subscribe(t, ps, es.SubscribeOptions{Group: "g"})
	publish(t, ps, "a1", "b1")
	before := receive(t, sub, 2, "a1", "b1")
	wantOK(t, sub.Ack(t.Context(), before))
	publish(t, ps, "a2", "b2")
	now := receive(t, sub, 2, "a2", "b2")
	wantErr(t, sub.Ack(t.Context(), before), es.ErrLeaseLost)
	wantErr(t, other.Ack(t.Context(), now), es.ErrLeaseLost)
	wantErr(t, other.Nack(t.Context(), now, 0), es.ErrLeaseLost)
	wantErr(t, other.Extend(t.Context(), now), es.ErrLeaseLost)
	wantErr(t, sub.Ack(t.Context(), []es.Delivery{{Receipt: 0}, {Receipt: now[0].Receipt + 1<<40}}), es.ErrLeaseLost)
	if stats := ps.Stats()[0].Groups[0]; stats.InFlight != 2 {
		t.Fatalf("stats: %+v", stats)
	}
	wantOK(t, sub.Ack(t.Context(), now[1:]))
	wantOK(t, sub.Extend(t.Context(), now[:1]))
	wantErr(t, sub.Ack(t.Context(), now[1:]), es.ErrLeaseLost)
	wantOK(t, sub.Release(t.Context(), now[:1]))
	again := receive(t, other, 2, "a2")
	if again[0].Attempt != 1 || !again[0].First.Equal(now[0].First) {
		t.Errorf("released, it came back as attempt %d, first of %v; want 1 and %v", again[0].Attempt, again[0].First, now[0].First)
	}
	wantOK(t, other.Ack(t.Context(), again))
	if stats := ps.Stats()[0].Groups[0]; stats.InFlight+stats.Depth != 0 {
		t.Errorf("stats: %+v", stats)
	}
}

// TestPubSubAcksInRowsAndOutOfThem acknowledges a batch in pieces, some of which were acknowledged before.
func TestPubSubAcksInRowsAndOutOfThem(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{})
	sub := subscribe(t, ps, es.SubscribeOptions{Group: "g"})
	const n = 200
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf("%c%d", 'a'+i%20, i)
	}
	publish(t, ps, texts...)
	ds := receive(t, sub, n, texts...)
	// inFlight are the messages in flight after the acknowledgement, and lost those of the call that were answered before.
	for _, step := range []struct{ from, to, lost, inFlight int }{
		{0, 10, 0, 190}, {5, 15, 5, 185}, {60, 130, 0, 115}, {100, 101, 1, 115}, {59, 131, 70, 113}, {199, 200, 0, 112}, {15, 199, 72, 0},
	} {
		err := sub.Ack(t.Context(), ds[step.from:step.to])
		lost := 0
		if batch := (*es.BatchError)(nil); errors.As(err, &batch) {
			for _, err := range batch.Errs {
				if errors.Is(err, es.ErrLeaseLost) {
					lost++
				}
			}
		}
		stats := ps.Stats()[0].Groups[0]
		if lost != step.lost || stats.InFlight != step.inFlight {
			t.Fatalf("acknowledged %d to %d: %d were lost and %d are in flight, want %d and %d (%v)",
				step.from, step.to, lost, stats.InFlight, step.lost, step.inFlight, err)
		}
	}
	wantErr(t, sub.Ack(t.Context(), ds), es.ErrLeaseLost)
}

// TestPubSubReceiveWhileOthersCloseAndJoin closes subscriptions while they receive, so that what they have becomes a backlog, and then
// that of a group of another name.
func TestPubSubReceiveWhileOthersCloseAndJoin(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{})
	var receivers sync.WaitGroup
	for round := range 200 {
		group := ""
		if round%2 == 1 {
			group = fmt.Sprintf("g%d", round)
		}
		sub := subscribe(t, ps, es.SubscribeOptions{Group: group})
		publish(t, ps, "a1", "b1", "c1")
		received := make(chan struct{})
		receivers.Go(func() {
			defer close(received)
			dst := make([]es.Delivery, 64)
			n, err := sub.Receive(t.Context(), dst)
			if err != nil && !errors.Is(err, es.ErrClosed) {
				t.Error(err)
			}
			for _, d := range dst[:n] {
				if d.Group != group || d.Topic != orders {
					t.Errorf("received by %q of %q, want %q of %q", d.Group, d.Topic, group, orders)
				}
			}
		})
		wantOK(t, sub.Close())
		if group != "" {
			<-received
			wantOK(t, ps.DropGroup(orders, group))
		}
	}
	receivers.Wait()
}
