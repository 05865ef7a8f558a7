package workloads

import (
	"context"
	"fmt"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// feed is a subscription that costs as little as there can be. It gives out messages that it uses again after they were
// acknowledged, and sees to it that all are, once.
type feed struct {
	messages []*es.Message
	total    int
	given    int
	mu       sync.Mutex
	open     []bool // by place in messages: given and not answered
	acked    int
	wrong    int // answered twice, or given back
	finished bool
	starved  bool // Receive waits for an answer
	room     chan struct{}
	done     chan struct{}
}

const feedRoom = 4096 // more than a route receives before it answers

func newFeed(n int) *feed {
	return &feed{messages: newMessages(feedRoom), open: make([]bool, feedRoom), total: n,
		room: make(chan struct{}, 1), done: make(chan struct{})}
}

func (f *feed) Subscribe(context.Context, string, es.SubscribeOptions) (es.Subscription, error) {
	return f, nil
}

func (f *feed) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	for {
		if n := f.fill(dst); n > 0 {
			return n, nil
		}
		select {
		case <-f.room:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// fill gives out what is left, and stops at a message that was not answered since it was given out last.
func (f *feed) fill(dst []es.Delivery) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for ; n < len(dst) && f.given < f.total; n++ {
		place := f.given % feedRoom
		if f.open[place] {
			f.starved = n == 0
			break
		}
		f.open[place] = true
		m := f.messages[place]
		number(m, uint64(f.given))                                                                       //nolint:gosec // a count
		dst[n] = es.Delivery{Message: m, Topic: topic, Group: topic, Attempt: 1, Receipt: uint64(place)} //nolint:gosec // an index
		f.given++
	}
	return n
}

func (f *feed) Ack(_ context.Context, ds []es.Delivery) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range ds {
		place := ds[i].Receipt
		if !f.open[place] {
			f.wrong++
			continue
		}
		f.open[place] = false
		f.acked++
	}
	if f.starved {
		f.starved = false
		select {
		case f.room <- struct{}{}:
		default: // a Receive that was broken off has left one
		}
	}
	f.finish()
	return nil
}

func (f *feed) finish() {
	if f.acked+f.wrong >= f.total && !f.finished {
		f.finished = true
		close(f.done)
	}
}

// String says how far it is.
func (f *feed) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("of %d messages %d were given out, %d acknowledged, and %d answered wrongly", f.total, f.given, f.acked, f.wrong)
}

// giveBack is wrong here, where no handler fails.
func (f *feed) giveBack(ds []es.Delivery) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong += len(ds)
	f.finish()
	return nil
}

func (f *feed) Nack(_ context.Context, ds []es.Delivery, _ time.Duration) error {
	return f.giveBack(ds)
}

func (f *feed) Release(_ context.Context, ds []es.Delivery) error { return f.giveBack(ds) }
func (*feed) Extend(context.Context, []es.Delivery) error         { return nil }
func (*feed) Close() error                                        { return nil }
