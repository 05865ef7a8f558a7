package memory_test

import (
	"bytes"
	"runtime"
	"testing"
	"weak"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestPubSubLetsGoOfWhatIsHandled has somebody stand still in a topic, while messages come that another handles: these must not be
// kept in memory.
func TestPubSubLetsGoOfWhatIsHandled(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config memory.PubSubConfig
		// still returns what stands still.
		still func(t *testing.T, ps *memory.PubSub) any
	}{
		"nobody": {still: func(*testing.T, *memory.PubSub) any { return nil }},
		"a backlog that nobody wanted": {still: func(t *testing.T, ps *memory.PubSub) any {
			publish(t, ps, "a1")
			return nil
		}},
		"a subscription that was closed": {still: func(t *testing.T, ps *memory.PubSub) any {
			subscribe(t, ps, es.SubscribeOptions{Group: "quick"}) // without it the topic itself would go
			sub := subscribe(t, ps, es.SubscribeOptions{})
			wantOK(t, sub.Close())
			return sub
		}},
		"a group that was dropped": {still: func(t *testing.T, ps *memory.PubSub) any {
			subscribe(t, ps, es.SubscribeOptions{Group: "quick"}) // see above
			sub := subscribe(t, ps, es.SubscribeOptions{Group: "dropped"})
			wantOK(t, sub.Close())
			wantOK(t, ps.DropGroup(orders, "dropped"))
			return sub
		}},
		"a batch in hand, of a group that is too slow": {
			config: memory.PubSubConfig{Buffer: 8, Overflow: memory.OverflowEvictOldest},
			still: func(t *testing.T, ps *memory.PubSub) any {
				sub := subscribe(t, ps, es.SubscribeOptions{Group: "slow"})
				publish(t, ps, "a1", "b1", "c1")
				receive(t, sub, 3, "a1", "b1", "c1")
				return sub
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ps := newPubSub(t, test.config)
			still := test.still(t, ps)
			sub := subscribe(t, ps, es.SubscribeOptions{Group: "quick", Start: es.Start{Kind: es.StartEnd}})
			handled := handleMany(t, ps, sub)
			runtime.GC()
			kept := 0
			for _, payload := range handled {
				if payload.Value() != nil {
					kept++
				}
			}
			if kept > 0 {
				t.Errorf("%d of %d payloads that were handled are still in memory", kept, len(handled))
			}
			runtime.KeepAlive(still)
			runtime.KeepAlive(sub)
		})
	}
}

// handleMany has messages handled one by one, and returns the payloads of some: not of the first nor of the last ones, which may be in
// one piece with what others have in hand.
func handleMany(t *testing.T, ps *memory.PubSub, sub es.Subscription) []weak.Pointer[byte] {
	t.Helper()
	const many, begin, end = 400, 150, 250
	var handled []weak.Pointer[byte]
	pubs := []es.Publication{{Topic: orders, Message: es.NewMessage("orders-x", "Noted", bytes.Repeat([]byte("x"), 4<<10))}}
	for i := range many {
		wantOK(t, ps.Publish(t.Context(), pubs...))
		dst := make([]es.Delivery, 1)
		_, err := sub.Receive(t.Context(), dst)
		wantOK(t, err)
		wantOK(t, sub.Ack(t.Context(), dst))
		if i >= begin && i < end {
			handled = append(handled, weak.Make(&dst[0].Data[0]))
		}
	}
	return handled
}
