package howto_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_logAsBroker() {
	run(logAsBroker)
	// Output:
	// billing: OrderPlaced
	// billing: OrderPaid
	// audit: OrderPaid
	// billing has handled position 2
	// orders/audit lags 0 messages behind, 1 member
	// orders/billing lags 0 messages behind, 1 member
	// the group has members
	// from the beginning: OrderPlaced
}

// receiveOne receives a message and acknowledges it.
func receiveOne(ctx context.Context, sub es.Subscription) (string, error) {
	ds := make([]es.Delivery, 1)
	if _, err := sub.Receive(ctx, ds); err != nil {
		return "", err
	}
	return ds[0].Name, sub.Ack(ctx, ds)
}

func logAsBroker(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()

	log, err := eventlog.New(backend, eventlog.Config{})
	if err != nil {
		return err
	}
	defer log.Close() // before the backend

	billing, err := log.Subscribe(ctx, "orders", es.SubscribeOptions{
		Group: "billing",
		Lease: 30 * time.Second,
	})
	if err != nil {
		return err
	}

	payments, err := log.Only(es.Criterion{Names: []string{"OrderPaid", "OrderRefunded"}})
	if err != nil {
		return err
	}
	audit, err := payments.Subscribe(ctx, "orders", es.SubscribeOptions{Group: "audit"})
	if err != nil {
		return err
	}

	placed := es.NewMessage("orders-7", "OrderPlaced", []byte(`{}`))
	paid := es.NewMessage("orders-7", "OrderPaid", []byte(`{}`))
	appended, err := backend.Events().Append(ctx, es.AppendTo("orders-7", es.NoStream, placed, paid))
	if err != nil {
		return err
	}

	for range 2 {
		name, err := receiveOne(ctx, billing)
		if err != nil {
			return err
		}
		fmt.Println("billing:", name)
	}
	name, err := receiveOne(ctx, audit)
	if err != nil {
		return err
	}
	fmt.Println("audit:", name)

	// After its own append, a request waits until the read model has it.
	if err := log.WaitFor(ctx, "orders", "billing", es.Checkpoint{Position: appended.Position}); err != nil {
		return err
	}
	fmt.Println("billing has handled position", appended.Position)

	if err := log.WaitFor(ctx, "orders", "audit", es.Checkpoint{Position: appended.Position}); err != nil {
		return err
	}
	return operate(ctx, log, billing)
}

func operate(ctx context.Context, log *eventlog.Log, billing es.Subscription) error {
	lines := map[string]string{}
	groups, err := log.Groups(ctx)
	if err != nil {
		return err
	}
	for _, g := range groups {
		lines[g.Group] = fmt.Sprintf("%s/%s lags %d messages behind, %d member", g.Topic, g.Group, g.Lag.Messages, len(g.Members))
	}
	fmt.Println(lines["audit"])
	fmt.Println(lines["billing"])

	beginning := es.Start{Kind: es.StartBeginning}
	err = log.ResetGroup(ctx, "orders", "billing", beginning)
	if errors.Is(err, es.ErrInvalid) {
		fmt.Println("the group has members")
	}
	if err := billing.Close(); err != nil {
		return err
	}
	if err := log.ResetGroup(ctx, "orders", "billing", beginning); err != nil {
		return err
	}

	again, err := log.Subscribe(ctx, "orders", es.SubscribeOptions{Group: "billing"})
	if err != nil {
		return err
	}
	name, err := receiveOne(ctx, again)
	if err != nil {
		return err
	}
	fmt.Println("from the beginning:", name)
	return nil
}
