package workloads

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// watermillRoom is how many messages may be on their way to a subscriber, as many as our buffer holds.
const watermillRoom = 1024

// watermillBlocking publishes a message when the one before it was acknowledged. gochannel keeps the order in no other way: it
// gives each message to a goroutine of its own.
func watermillBlocking() gochannel.Config {
	return gochannel.Config{OutputChannelBuffer: watermillRoom, BlockPublishUntilSubscriberAck: true}
}

// watermillBuffered does not wait. Nothing then bounds the goroutines that gochannel starts, so the publisher does.
func watermillBuffered() gochannel.Config {
	return gochannel.Config{OutputChannelBuffer: watermillRoom}
}

// newWatermillMessage makes the i-th message as Watermill has it: the correlation ID is metadata, the stream is in the payload.
func newWatermillMessage(i uint64) *message.Message {
	payload := make([]byte, payloadBytes)
	putNumber(payload, i)
	m := message.NewMessage(idOf(i), payload)
	middleware.SetCorrelationID(correlation, m)
	return m
}

func (p publishing) watermill(config gochannel.Config) func(context.Context, int) (measure.Result, error) {
	return func(ctx context.Context, n int) (measure.Result, error) {
		broker := gochannel.NewGoChannel(config, watermill.NopLogger{})
		defer broker.Close()
		subscribers := p.newSubscribers(n)
		outputs := make([]<-chan *message.Message, len(subscribers))
		for i := range outputs {
			var err error
			if outputs[i], err = broker.Subscribe(ctx, topic); err != nil {
				return measure.Result{}, err
			}
		}
		// A payload can be used again when its message cannot be on its way any more; a message that others overtake can be for
		// as long as it takes.
		messages := make([]*message.Message, 4*watermillRoom)
		if !config.BlockPublishUntilSubscriberAck {
			messages = make([]*message.Message, n)
		}
		for i := range messages {
			messages[i] = newWatermillMessage(uint64(i))
		}
		rooms := make([]chan struct{}, len(subscribers))
		for i := range rooms {
			if !config.BlockPublishUntilSubscriberAck {
				rooms[i] = make(chan struct{}, watermillRoom)
			}
		}
		var watch measure.Stopwatch
		done := make(chan struct{})
		watch.Start()
		for i, s := range subscribers {
			go func() {
				s.err = s.receiveFromWatermill(outputs[i], n, rooms[i])
				done <- struct{}{}
			}()
		}
		err := p.publishToWatermill(broker, messages, n, rooms)
		if err != nil {
			_ = broker.Close() // lets the subscribers go
		}
		for range subscribers {
			<-done
		}
		watch.Stop()
		if err != nil {
			return measure.Result{}, err
		}
		faults, err := settle(subscribers)
		return watch.Result(faults), err
	}
}

// publishToWatermill publishes n messages. What is in a room is a message that its subscriber has not acknowledged yet.
func (p publishing) publishToWatermill(broker message.Publisher, messages []*message.Message, n int, rooms []chan struct{}) error {
	for at := 0; at < n; at += p.batch {
		some := messages[at%len(messages):][:min(p.batch, n-at)]
		for i, m := range some {
			putNumber(m.Payload, uint64(at+i))
			for _, room := range rooms {
				if room != nil {
					room <- struct{}{}
				}
			}
		}
		if err := broker.Publish(topic, some...); err != nil {
			return err
		}
	}
	return nil
}

// receiveFromWatermill receives and acknowledges n messages.
func (s *subscriber) receiveFromWatermill(output <-chan *message.Message, n int, room <-chan struct{}) error {
	for s.acked < n {
		m, open := <-output
		if !open {
			return errors.New("the subscription ended too early")
		}
		s.ledger.Take(numberOf(m.Payload))
		if !m.Ack() {
			return errUnanswered
		}
		s.acked++
		if room != nil {
			<-room
		}
	}
	return nil
}
