package memory_test

import (
	"fmt"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestPubSubBacklogOfThoseWhoLeft follows a backlog that the first subscriber does not want, while others come and go.
func TestPubSubBacklogOfThoseWhoLeft(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{})
	publish(t, ps, "a1", "a2")
	late := subscribe(t, ps, es.SubscribeOptions{Start: es.Start{Kind: es.StartEnd}})
	publish(t, ps, "a3", "a4")
	ds := receive(t, late, 1, "a3")
	wantOK(t, late.Nack(t.Context(), ds, 0))
	wantOK(t, late.Close())
	publish(t, ps, "a5")
	if stats := ps.Stats(); stats[0].Backlog != 5 {
		t.Fatalf("stats: %+v", stats)
	}
	// By another key, so that the messages that are held back are sorted anew: each by itself now.
	sub := subscribe(t, ps, es.SubscribeOptions{Group: "g", Key: func(m *es.Message) string { return string(m.Data) }})
	got := map[string]int{}
	for range 5 {
		dst := make([]es.Delivery, 1)
		_, err := sub.Receive(t.Context(), dst) // and none is acknowledged
		wantOK(t, err)
		got[string(dst[0].Data)] = dst[0].Attempt
	}
	if want := map[string]int{"a1": 1, "a2": 1, "a3": 2, "a4": 1, "a5": 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("received %v, want %v", got, want)
	}
}

func TestPubSubBacklogIsLeftByWhoStartsAtTheEnd(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{})
	publish(t, ps, "a1")
	late := subscribe(t, ps, es.SubscribeOptions{Group: "late", Start: es.Start{Kind: es.StartEnd}})
	publish(t, ps, "a2")
	receive(t, subscribe(t, ps, es.SubscribeOptions{Group: "early", Start: es.Start{Kind: es.StartBeginning}}), 9, "a1")
	receive(t, late, 9, "a2")
}

// TestPubSubBacklogOfThoseWhoLeftIsBounded has subscriptions come and go, whose messages nobody receives.
func TestPubSubBacklogOfThoseWhoLeftIsBounded(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{Buffer: 8, BacklogLimit: 10})
	for range 10 {
		sub := subscribe(t, ps, es.SubscribeOptions{Start: es.Start{Kind: es.StartEnd}})
		publish(t, ps, "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8")
		wantOK(t, sub.Close())
	}
	if stats := ps.Stats()[0]; stats.Backlog != 10 || stats.Evicted != 70 {
		t.Errorf("stats: %+v", stats)
	}
	sub := subscribe(t, ps, es.SubscribeOptions{})
	receive(t, sub, 64, "a7", "a8", "a1", "a2", "a3", "a4", "a5", "a6")
}
