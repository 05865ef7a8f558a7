package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// intake is one of the subscriptions of a lane: that of the route's topic, or that by which its dead letters come back. Unless
// something else is said, its fields are guarded by the mutex of the lane.
type intake struct {
	lane  *lane
	sub   es.Subscription // set before the lane runs
	batch int             // how many deliveries are received at a time; set before the lane runs
	freed chan struct{}   // tells the one who receives replays that there is a batch to receive into

	spare   []*batch
	batches int // how many there are, in hand and spare
	inHand  int // how many of them have something in them
	pending int // answers to be given, over all batches
	err     trouble
}

// open subscribes to the topic of the route, and to its replays. When that fails nothing is left open.
func (l *lane) open(ctx context.Context, subscriber es.Subscriber) error {
	options := es.SubscribeOptions{Group: l.name, Start: l.opts.Start, Lease: l.opts.Lease, Key: l.opts.Key}
	sub, err := subscriber.Subscribe(ctx, l.topic, options)
	if err != nil {
		return err
	}
	l.messages = &intake{lane: l, sub: sub, batch: l.opts.Batch}
	l.intakes = []*intake{l.messages}
	if l.opts.MaxLag > 0 || l.opts.MaxAge > 0 {
		if _, ok := sub.(es.Lagger); !ok {
			return errors.Join(fmt.Errorf("a bound for the lag is set, and the subscription cannot tell it: %w", es.ErrUnsupported), sub.Close())
		}
	}
	if !l.takesReplays() {
		return nil
	}
	options.Start = es.Start{Kind: es.StartBeginning} // what was replayed before the first start is not to be lost
	if l.opts.Key != nil {
		options.Key = l.replayKey
	}
	topic := es.ReplayTopic(l.topic, l.name)
	sub, err = subscriber.Subscribe(ctx, topic, options)
	if errors.Is(err, es.ErrUnsupported) { // where every group begins at one place, that is where replays do
		options.Start = es.Start{}
		sub, err = subscriber.Subscribe(ctx, topic, options)
	}
	if err != nil {
		err = fmt.Errorf("subscribe to %q, by which dead letters come back (NoReplays does without): %w", topic, err)
		return errors.Join(err, l.messages.sub.Close())
	}
	l.replays = &intake{lane: l, sub: sub, batch: min(l.opts.Batch, replayBatch), freed: make(chan struct{}, 1)}
	l.intakes = append(l.intakes, l.replays)
	return nil
}

// close ends the subscriptions.
func (l *lane) close() {
	for _, in := range l.intakes {
		if err := in.sub.Close(); err != nil {
			l.log.Warn("the subscription could not be closed", "error", err)
		}
	}
}

// spareBatch returns a batch to receive into, and nil when there are enough in hand: one for each worker, that a slow message may
// hold, and one to go on with.
func (in *intake) spareBatch() *batch {
	if n := len(in.spare); n > 0 {
		b := in.spare[n-1]
		in.spare = in.spare[:n-1]
		return b
	}
	if in.batches > in.lane.opts.Concurrency {
		return nil
	}
	in.batches++
	return in.newBatch()
}

// putBack makes a batch that has nothing in it ready to be received into.
func (in *intake) putBack(b *batch) {
	in.spare = append(in.spare, b)
	if in.freed == nil {
		return
	}
	select {
	case in.freed <- struct{}{}:
	default: // it was told already
	}
}

// ended notes why nothing was received: an error when the subscription was closed by somebody else. It ends the lane, because its
// messages end here.
func (in *intake) ended(err error) {
	if err == nil {
		return
	}
	in.err = newTrouble(err, 0)
	in.lane.stopping = true
	in.lane.noteQuiet()
	in.lane.stopReceiving()
	in.lane.onClosed(err)
}

// receiveDelay is how long to wait when nothing could be received so often in a row.
func (in *intake) receiveDelay(times int) time.Duration {
	backoff := middleware.Backoff{Base: 100 * time.Millisecond, Max: 10 * time.Second, Random: in.lane.config.Backoff.Random}
	return backoff.Delay(times)
}

// receive waits for messages and returns how many there are: none when ctx has ended, and then an error when the subscription was
// closed. Other errors are waited out.
func (in *intake) receive(ctx context.Context, room []es.Delivery) (int, error) {
	l := in.lane
	for attempt := 1; ; attempt++ {
		n, err := in.sub.Receive(ctx, room)
		switch {
		case n > 0 && err == nil:
			return n, nil
		case ctx.Err() != nil:
			return 0, nil //nolint:nilerr // to be stopped is no error
		case errors.Is(err, es.ErrClosed):
			return 0, fmt.Errorf("route %q of topic %q: receive: %w", l.name, l.topic, err)
		case err == nil:
			err = errors.New("the subscription returned without a message")
		}
		delay := in.receiveDelay(attempt)
		l.log.Warn("messages could not be received; trying again", "error", err, "attempt", attempt, "delay", delay)
		l.mu.Lock()
		in.err = newTrouble(fmt.Errorf("receive: %w", err), delay)
		l.mu.Unlock()
		pause(ctx, delay)
	}
}

// pause waits until a time has passed or ctx has ended.
func pause(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
