package eswatermill_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/ThreeDotsLabs/watermill/message"
	wmiddleware "github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eswatermill"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// sendMail was written for Watermill: it takes an order and returns what follows from it.
func sendMail(msg *message.Message) ([]*message.Message, error) {
	sent := message.NewMessage("", message.Payload(fmt.Sprintf(`{"order":%q}`, msg.UUID)))
	sent.Metadata.Set("name", "MailSent")
	return message.Messages{sent}, nil
}

func ExampleHandler() {
	ctx := context.Background()
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		log.Fatal(err)
	}
	r, err := router.New(router.Config{Subscriber: broker, Emit: router.ToPublisher(broker)})
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan struct{})

	handler := eswatermill.Handler(sendMail, eswatermill.HandlerConfig{PublishTopic: "mail"})
	err = errors.Join(
		r.Use(middleware.Retry(middleware.RetryConfig{}), middleware.Recover(middleware.RecoverConfig{})),
		r.Route("order", handler, router.Options{Name: "mailer"}),
	)
	if err != nil {
		log.Fatal(err)
	}

	err = r.Route("mail", es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		fmt.Println(d.Name, string(d.Data))
		close(done)
		return nil, nil
	}), router.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(ctx); err != nil {
		log.Fatal(err)
	}
	order := es.NewMessage("order-1", "OrderPlaced", []byte("{}"))
	order.ID = uuid.MustParse("0191e6f0-0000-7000-8000-000000000001")
	if err := broker.Publish(ctx, es.ToCategory(order)...); err != nil {
		log.Fatal(err)
	}
	<-done
	if err := errors.Join(r.Stop(ctx), broker.Close()); err != nil {
		log.Fatal(err)
	}
	// Output: MailSent {"order":"0191e6f0-0000-7000-8000-000000000001"}
}

func ExampleNewSubscriber() {
	ctx := context.Background()
	channel := gochannel.NewGoChannel(gochannel.Config{}, nil) // or any other of Watermill's brokers

	subscriber, err := eswatermill.NewSubscriber(eswatermill.SubscriberConfig{Subscriber: channel})
	if err != nil {
		log.Fatal(err)
	}
	publisher, err := eswatermill.NewPublisher(channel, nil)
	if err != nil {
		log.Fatal(err)
	}
	r, err := router.New(router.Config{Subscriber: subscriber, Emit: router.ToPublisher(publisher)})
	if err != nil {
		log.Fatal(err)
	}

	done := make(chan struct{})
	err = r.Route("order", es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		fmt.Println(d.Name, "on", d.Topic)
		close(done)
		return nil, nil
	}), router.Options{
		Name:       "billing",
		Middleware: []es.Middleware{eswatermill.Middleware(wmiddleware.Recoverer, nil)},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Start(ctx); err != nil {
		log.Fatal(err)
	}
	// Any program that uses Watermill may publish; this one does it by ours.
	if err := publisher.Publish(ctx, es.ToCategory(es.NewMessage("order-1", "OrderPlaced", []byte("{}")))...); err != nil {
		log.Fatal(err)
	}
	<-done
	if err := errors.Join(r.Stop(ctx), subscriber.Close(), publisher.Close()); err != nil {
		log.Fatal(err)
	}
	// Output: OrderPlaced on order
}
