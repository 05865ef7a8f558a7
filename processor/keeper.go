package processor

import (
	"context"
	"errors"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// keeper extends the leases of what is in hand while it is worked on. It costs nothing for as long as that is quick: it wakes up
// for the first time when a third of the lease is over.
type keeper struct {
	extend func(ctx context.Context, entries []es.Entry) error
	every  time.Duration
	failed func(err error)
	lost   func(e *es.Entry)

	mu      sync.Mutex
	entries []es.Entry // of its own: Extend sets deadlines
	holds   []hold
	loose   context.CancelFunc // of the work, when nothing of it is held any more
	cancel  context.CancelFunc // of the keeper's own calls
	timer   *time.Timer
	ended   bool
	ticking sync.WaitGroup

	due     []es.Entry // of the tick that runs, and where they stand in entries
	indexes []int
}

// hold is in whose hands an entry is.
type hold uint8

const (
	holdOurs      hold = iota
	holdAnswered       // the outbox has our answer, or we gave it up
	holdAnswering      // on its way back: that its lease has ended says nothing now
	holdLost           // somebody else's
)

// begin keeps the leases of entries until end. When it finds that none of them is held any more it calls loose.
func (k *keeper) begin(loose context.CancelFunc, entries []es.Entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background()) // what is broken off may take its time to end
	k.entries = append(k.entries[:0], entries...)
	k.holds = append(k.holds[:0], make([]hold, len(entries))...)
	k.loose, k.cancel, k.ended = loose, cancel, false
	k.ticking.Add(1)
	k.timer = time.AfterFunc(k.every, func() { k.tick(ctx) })
}

// end waits until the keeper does nothing any more.
func (k *keeper) end() {
	k.mu.Lock()
	k.ended = true
	k.cancel()
	idle := k.timer.Stop()
	k.mu.Unlock()
	if idle {
		k.ticking.Done()
	}
	k.ticking.Wait()
	clear(k.entries)
	clear(k.due[:cap(k.due)])
}

func (k *keeper) tick(ctx context.Context) {
	k.mu.Lock()
	k.due, k.indexes = k.due[:0], k.indexes[:0]
	for i, h := range k.holds {
		if h == holdOurs || h == holdAnswering {
			k.due = append(k.due, k.entries[i])
			k.indexes = append(k.indexes, i)
		}
	}
	k.mu.Unlock()

	var err error
	if len(k.due) > 0 {
		err = k.extend(ctx, k.due)
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		k.sort(err)
	}
	if k.ended {
		k.ticking.Done()
		return
	}
	k.timer.Reset(k.every)
}

// sort finds out what is lost.
func (k *keeper) sort(err error) {
	var failed error
	held := 0
	for j, i := range k.indexes {
		itemErr := es.Of(err, j)
		switch {
		case k.holds[i] != holdOurs:
			if k.holds[i] == holdAnswering {
				held++
			}
		case errors.Is(itemErr, es.ErrLeaseLost):
			k.holds[i] = holdLost
			k.lost(&k.entries[i])
		default:
			held++
			if itemErr != nil {
				failed = itemErr
			}
		}
	}
	if failed != nil {
		k.failed(failed)
	}
	if held == 0 {
		k.loose()
	}
}

// ours tells whether entry i is still in hand, as far as is known.
func (k *keeper) ours(i int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.holds[i] == holdOurs
}

// answering says that entry i is about to be answered, and tells whether it may be: it is not lost, and not answered yet.
func (k *keeper) answering(i int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holds[i] != holdOurs {
		return false
	}
	k.holds[i] = holdAnswering
	return true
}

// unanswered takes back that entry i was about to be answered.
func (k *keeper) unanswered(i int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holds[i] = holdOurs
}

// answered says that the outbox has entry i back.
func (k *keeper) answered(i int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holds[i] = holdAnswered
}
