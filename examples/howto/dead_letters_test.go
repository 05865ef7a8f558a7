package howto_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func Example_deadLetters() {
	run(deadLetters)
	// Output:
	// mailer failed at order-1: the mail server refuses the address
	// mailed order-1
	// dead letters left: 0
}

func deadLetters(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	p, err := processor.NewAtLeastOnce(processor.Config{Outbox: backend.Outbox(), Events: backend.Events(), Publisher: broker})
	if err != nil {
		return err
	}

	r, err := router.New(router.Config{Subscriber: broker, DeadLetter: router.ToOutbox(backend.Outbox())})
	if err != nil {
		return err
	}
	refuses, mailed, letters := true, make(chan struct{}), make(chan struct{})
	err = errors.Join(
		r.Route("order", es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			if refuses {
				return nil, es.DeadLetter(errors.New("the mail server refuses the address"))
			}
			fmt.Println("mailed", d.Stream)
			close(mailed)
			return nil, nil
		}), router.Options{Name: "mailer"}),
		r.Route("dead", es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			close(letters)
			return nil, nil
		}), router.Options{Name: "watch"}),
	)
	if err != nil {
		return err
	}
	program := es.NewGroup("program", r, p)
	if err := program.Start(ctx); err != nil {
		return err
	}
	if err := backend.Outbox().Enqueue(ctx, es.NewMessage("order-1", "OrderPlaced", []byte(`{}`))); err != nil {
		return err
	}
	<-letters

	dead, err := deadletter.New(deadletter.Config{Events: backend.Events(), Outbox: backend.Outbox()})
	if err != nil {
		return err
	}
	for letter, err := range dead.List(ctx, deadletter.Filter{Group: "mailer"}) {
		if err != nil {
			return err
		}
		fmt.Printf("%s failed at %s: %s\n", letter.Handler, letter.Original.Stream, letter.Error)
	}

	refuses = false // the address was mended
	n, err := dead.ReplayAll(ctx, deadletter.Filter{Group: "mailer"})
	if err != nil {
		return fmt.Errorf("replayed %d: %w", n, err)
	}
	<-mailed

	mux := http.NewServeMux()
	mux.Handle("/admin/dead/", http.StripPrefix("/admin/dead", eshttp.DeadLetters(dead)))

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/admin/dead/", http.NoBody))
	left, err := dead.Count(ctx, deadletter.Filter{})
	fmt.Println("dead letters left:", left)
	return errors.Join(err, program.Stop(ctx))
}
