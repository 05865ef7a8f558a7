package howto_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func Example_useTheOutbox() {
	run(useTheOutbox)
	// Output:
	// received OrderPlaced of order-7, version 1
}

func useTheOutbox(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	sub, err := broker.Subscribe(ctx, "order", es.SubscribeOptions{Group: "shipping"})
	if err != nil {
		return err
	}

	placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{"total":42}`))
	if err := backend.Outbox().Enqueue(ctx, placed); err != nil {
		return err // when the outcome is unknown, enqueue it again: its ID makes it one
	}

	p, err := processor.NewAtLeastOnce(processor.Config{
		Outbox:    backend.Outbox(),
		Events:    backend.Events(),
		Publisher: broker,
	})
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}

	ds := make([]es.Delivery, 16)
	n, err := sub.Receive(ctx, ds)
	if err != nil {
		return err
	}
	for _, d := range ds[:n] {
		fmt.Printf("received %s of %s, version %d\n", d.Name, d.Stream, d.Version)
	}
	if err := sub.Ack(ctx, ds[:n]); err != nil {
		return err
	}

	return p.Stop(ctx) // before the backend and the broker are closed
}

func Example_deadLettersOfTheOutbox() {
	run(deadLettersOfTheOutbox)
	// Output:
	// processor gave up InvoiceSent at attempt 1
	// in the outbox: InvoiceSent of invoice-1
	// in the outbox: InvoiceSent of invoice-2
	// published InvoiceSent of invoice-1
	// dead letters: 0
}

// choosy is a publisher that has only some topics.
type choosy struct {
	topics    []string
	published chan *es.Message
}

func (c choosy) Publish(_ context.Context, pubs ...es.Publication) error {
	errs := make([]error, len(pubs))
	for i, pub := range pubs {
		if !slices.Contains(c.topics, pub.Topic) {
			errs[i] = es.DeadLetter(errors.New("no such topic")) // trying again does not help
			continue
		}
		c.published <- pub.Message
	}
	return es.BatchErr(errs)
}

// process runs a processor until something has happened.
func process(ctx context.Context, backend es.Backend, publisher es.Publisher, until func() error) error {
	p, err := processor.NewAtLeastOnce(processor.Config{
		Outbox: backend.Outbox(), Events: backend.Events(), Publisher: publisher,
	})
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	return errors.Join(until(), p.Stop(ctx))
}

// awaitDeadLetters waits until the dead stream has n events.
func awaitDeadLetters(ctx context.Context, store es.EventStore, n int) error {
	var at es.Checkpoint
	for found := 0; found < n; {
		head, err := store.Wait(ctx, at)
		if err != nil {
			return err
		}
		for _, err := range store.Read(ctx, es.Query{Category: "dead", UpTo: head.Position}.Resume(at)) {
			if err != nil {
				return err
			}
			found++
		}
		at = head
	}
	return nil
}

func deadLettersOfTheOutbox(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	outbox, store := backend.Outbox(), backend.Events()
	first := es.NewMessage("invoice-1", "InvoiceSent", []byte(`{}`))
	second := es.NewMessage("invoice-2", "InvoiceSent", []byte(`{}`))
	if err := outbox.Enqueue(ctx, first, second); err != nil {
		return err
	}
	broken := choosy{topics: nil}
	err := process(ctx, backend, broken, func() error { return awaitDeadLetters(ctx, store, 2) })
	if err != nil {
		return err
	}

	for m, err := range store.Read(ctx, es.Query{Stream: "dead", Limit: 1}) {
		if err != nil {
			return err
		}
		var letter es.DeadLetterRecord
		if err := json.Unmarshal(m.Data, &letter); err != nil {
			return err
		}
		fmt.Printf("%s gave up %s at attempt %d\n", letter.Handler, letter.Original.Name, letter.Attempts) // letter.Error says why
	}

	var letters []es.DeadEntry
	for dead, err := range outbox.DeadLetters(ctx) {
		if err != nil {
			return err
		}
		fmt.Println("in the outbox:", dead.Name, "of", dead.Stream)
		letters = append(letters, dead)
	}

	if err := outbox.Replay(ctx, letters[0].ID); err != nil { // the broker has the topic now
		return err
	}
	if err := outbox.Discard(ctx, letters[1].ID); err != nil { // nobody needs it any more
		return err
	}

	mended := choosy{topics: []string{"invoice"}, published: make(chan *es.Message)}
	err = process(ctx, backend, mended, func() error {
		m := <-mended.published
		fmt.Println("published", m.Name, "of", m.Stream)
		return nil
	})
	if err != nil {
		return err
	}
	stats, err := outbox.Stats(ctx)
	if err != nil {
		return err
	}
	fmt.Println("dead letters:", stats.Dead)
	return nil
}
