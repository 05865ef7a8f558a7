package router_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func TestToEventStoreAppendsAllInOrderAndOnce(t *testing.T) {
	t.Parallel()
	store := memory.New().Events()
	emit := router.ToEventStore(store)
	msgs := []*es.Message{
		es.NewMessage("a-1", "First", nil), es.NewMessage("b-1", "Second", nil), es.NewMessage("a-1", "Third", nil),
	}
	for range 2 {
		if err := emit(t.Context(), msgs); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for m, err := range store.Read(t.Context(), es.Query{Stream: "a-1"}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, m.Name)
	}
	if len(names) != 2 || names[0] != "First" || names[1] != "Third" {
		t.Errorf("stream a-1 has %v", names)
	}
	if head, err := store.Head(t.Context()); err != nil || head.Position != 3 {
		t.Errorf("the head is %v (%v), want 3", head.Position, err)
	}
}
