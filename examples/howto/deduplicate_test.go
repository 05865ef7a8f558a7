package howto_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_deduplicate() {
	run(deduplicate)
	// Output:
	// sent an e-mail
	// sent before
	// failed: the mail server is down
	// sent an e-mail
}

// once does something for a message, unless the group has done it before.
func once(ctx context.Context, dedupe es.Dedupe, group string, m *es.Message, do func() error) error {
	rs := []es.Reservation{{ID: m.ID}}
	if err := dedupe.Reserve(ctx, group, rs, time.Minute); err != nil { // longer than it takes
		return err
	}
	switch rs[0].State {
	case es.ReserveDone:
		fmt.Println("sent before")
		return nil
	case es.ReserveBusy:
		return es.Busy(time.Until(rs[0].Until), errors.New("somebody else is at it"))
	case es.ReserveNew:
	}
	if err := do(); err != nil {
		return errors.Join(err, dedupe.Release(ctx, group, rs)) // so that it is tried again at once
	}
	return dedupe.Complete(ctx, group, rs)
}

func deduplicate(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	send := func() error {
		fmt.Println("sent an e-mail")
		return nil
	}
	first := es.NewMessage("order-7", "OrderPlaced", []byte(`{}`))
	second := es.NewMessage("order-8", "OrderPlaced", []byte(`{}`))
	for range 2 {
		if err := once(ctx, backend.Dedupe(), "mailing", first, send); err != nil {
			return err
		}
	}
	err := once(ctx, backend.Dedupe(), "mailing", second, func() error { return errors.New("the mail server is down") })
	fmt.Println("failed:", err)
	return once(ctx, backend.Dedupe(), "mailing", second, send)
}
