package eventsourcing_test

import (
	"context"
	"fmt"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestOriginFromContext(t *testing.T) {
	t.Parallel()
	if o, ok := es.OriginFrom(t.Context()); ok {
		t.Fatalf("a context without an origin has %+v", o)
	}
	m := es.NewMessage("order-1", "OrderPlaced", nil)
	if got := es.Caused(t.Context(), m); len(got) != 1 || got[0] != m || m.CorrelationID != "" || m.CausationID != "" {
		t.Fatalf("without an origin %+v was changed", m)
	}

	input := es.NewMessage("order-1", "OrderPlaced", nil)
	handling := es.WithDelivery(t.Context(), &es.Delivery{Message: input})
	es.Caused(handling, m)
	if m.CorrelationID != input.ID.String() || m.CausationID != input.ID.String() {
		t.Errorf("in the handling of %s a message got correlation %q and causation %q", input.ID, m.CorrelationID, m.CausationID)
	}

	outer := es.WithDelivery(es.WithOrigin(t.Context(), es.Origin{CorrelationID: "program"}), &es.Delivery{Message: input})
	if o, ok := es.OriginFrom(outer); !ok || o.CorrelationID != input.ID.String() {
		t.Errorf("a delivery inside of the origin of a program gives %+v", o)
	}

	inner := es.WithOrigin(handling, es.Origin{CorrelationID: "c", Metadata: map[string]string{"tenant": "a", "user": "u"}})
	m = es.NewMessage("order-1", "OrderPlaced", nil)
	own := map[string]string{"tenant": "own"}
	m.Metadata, m.CausationID = own, "kept"
	es.Caused(inner, m)
	if m.CorrelationID != "c" || m.CausationID != "kept" || m.Metadata["tenant"] != "own" || m.Metadata["user"] != "u" {
		t.Errorf("got %+v", m)
	}
	if len(own) != 1 {
		t.Errorf("the map of the message's maker was changed: %v", own)
	}
}

func TestOriginOf(t *testing.T) {
	t.Parallel()
	m := es.NewMessage("order-1", "OrderPlaced", nil)
	if o := es.OriginOf(m); o.CorrelationID != m.ID.String() || o.CausationID != m.ID.String() || o.Metadata != nil {
		t.Errorf("the first message of a conversation gives %+v", o)
	}
	m.CorrelationID = "c"
	if o := es.OriginOf(m); o.CorrelationID != "c" || o.CausationID != m.ID.String() {
		t.Errorf("a later one gives %+v", o)
	}
}

func ExampleCaused() {
	// A web server puts the origin of a request into its context, and what the request leads to carries it on.
	ctx := es.WithOrigin(context.Background(), es.Origin{CorrelationID: "request-7", Metadata: map[string]string{"tenant": "acme"}})

	m := es.NewMessage("order-1", "OrderPlaced", nil)
	es.Caused(ctx, m)
	fmt.Println(m.CorrelationID, m.Metadata["tenant"])
	// Output: request-7 acme
}
