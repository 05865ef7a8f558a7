package eventsourcing_test

import (
	"context"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestDeliveryInContext(t *testing.T) {
	t.Parallel()
	if d, ok := es.DeliveryFrom(context.Background()); ok || d != nil {
		t.Errorf("a context without a delivery has %v", d)
	}
	outer, inner := &es.Delivery{Receipt: 1}, &es.Delivery{Receipt: 2}
	ctx := es.WithDelivery(es.WithDelivery(context.Background(), outer), inner)
	if d, ok := es.DeliveryFrom(ctx); !ok || d != inner {
		t.Errorf("the delivery is %v, want the innermost", d)
	}
	if d, ok := es.DeliveryFrom(es.WithDelivery(ctx, nil)); !ok || d != inner {
		t.Errorf("without another delivery it is %v, want the one before", d)
	}
}
