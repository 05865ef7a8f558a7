package howto_test

import (
	"context"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func Example_chooseAProcessor() {
	run(chooseAProcessor)
	// Output:
	// vehicle-3: 1 messages
	// meter-5: 3 messages
	// dropped 0, batches 1
}

// sink is a publisher that prints how many messages of which stream come together.
type sink chan struct{}

func (s sink) Publish(_ context.Context, pubs ...es.Publication) error {
	fmt.Printf("%s: %d messages\n", pubs[0].Message.Stream, len(pubs))
	s <- struct{}{}
	return nil
}

func chooseAProcessor(ctx context.Context) error {
	backend, err := memory.Open(memory.Config{Namespace: "positions"})
	if err != nil {
		return err
	}
	defer backend.Close()
	broker := make(sink)
	positions := backend.Outbox()

	drop, err := processor.NewAtMostOnce(processor.Config{
		Outbox:    positions,
		Publisher: broker, // without Events nothing is stored
	})
	if err != nil {
		return err
	}

	if err := drop.Start(ctx); err != nil {
		return err
	}
	if err := positions.Enqueue(ctx, es.NewMessage("vehicle-3", "PositionMeasured", nil)); err != nil {
		return err
	}
	<-broker
	if err := drop.Stop(ctx); err != nil {
		return err
	}

	metering := memory.New()
	defer metering.Close()
	readings, store := metering.Outbox(), metering.Events()

	batches, err := processor.NewBatch(processor.Config{
		Outbox:    readings,
		Events:    store,
		Publisher: broker,
	}, processor.Flush{Size: 500, Interval: 50 * time.Millisecond})
	if err != nil {
		return err
	}

	taken := []*es.Message{
		es.NewMessage("meter-5", "ReadingTaken", nil),
		es.NewMessage("meter-5", "ReadingTaken", nil),
		es.NewMessage("meter-5", "ReadingTaken", nil),
	}
	if err := readings.Enqueue(ctx, taken...); err != nil {
		return err
	}
	if err := batches.Start(ctx); err != nil {
		return err
	}
	<-broker
	if err := batches.Stop(ctx); err != nil {
		return err
	}

	dropped, err := drop.Stats(ctx)
	if err != nil {
		return err
	}
	flushed, err := batches.Stats(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("dropped %d, batches %d\n", dropped.Dropped, flushed.Batches)
	return nil
}
