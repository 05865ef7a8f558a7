package middleware

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// holding is a reservation while its handler runs.
type holding struct {
	d     *es.Delivery
	group string
	rs    [1]es.Reservation

	// These belong to the holdings.
	previous, next *holding
	round          uint64 // in which it began
	extending      bool   // a call of the store is under way for it
	lost           bool   // it cannot be prolonged any more
}

// holdings prolongs the reservations of a handler. It looks at them four times in a lease, for as long as there are any, and
// prolongs those that it has seen before, in one call: so a message costs no timer of its own and no reading of the clock, and one
// that is handled between two looks costs a place in a list.
type holdings struct {
	DedupeConfig

	store es.Dedupe

	mu    sync.Mutex
	free  sync.Cond // an extension has come to its end
	first *holding
	round uint64 // how often it has looked
	timer *time.Timer
	armed bool // the timer runs
}

func newHoldings(store es.Dedupe, c DedupeConfig) *holdings {
	k := &holdings{DedupeConfig: c, store: store}
	k.free.L = &k.mu
	return k
}

// looks is how often a reservation is looked at within a lease, and hurry how much sooner after the store has failed.
const (
	looks = 4
	hurry = 3
)

// begin takes in a reservation.
func (k *holdings) begin(room *holding) {
	if k.NoExtend {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	room.previous, room.next, room.round, room.lost = nil, k.first, k.round, false
	if k.first != nil {
		k.first.previous = room
	}
	k.first = room
	k.arm(k.Lease / looks)
}

// end lets a reservation go. It waits while it is being prolonged: its handler is to leave nothing behind.
func (k *holdings) end(room *holding) {
	if k.NoExtend {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for room.extending {
		k.free.Wait()
	}
	if room.next != nil {
		room.next.previous = room.previous
	}
	if room.previous != nil {
		room.previous.next = room.next
	} else {
		k.first = room.next
	}
}

// arm has look called after a time, unless it will be anyway.
func (k *holdings) arm(after time.Duration) {
	after = max(after, time.Millisecond) // of a lease that is too short to be prolonged
	switch {
	case k.armed:
		return
	case k.timer == nil:
		k.timer = time.AfterFunc(after, k.look)
	default:
		k.timer.Reset(after)
	}
	k.armed = true
}

// look prolongs the reservations that were there at the last look.
func (k *holdings) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	var due []*holding
	for room := k.first; room != nil; room = room.next {
		if room.round < k.round && !room.lost {
			room.extending = true
			due = append(due, room)
		}
	}
	k.round++
	again := k.Lease / looks
	for len(due) > 0 {
		var failed bool
		if due, failed = k.extendGroup(due); failed {
			again = k.Lease / looks / hurry
		}
	}
	k.armed = false
	if k.first != nil {
		k.arm(again)
	}
}

// extendGroup prolongs those that are of the group of the first, and returns the others. The mutex is held when it is called and
// when it returns, and not in between.
func (k *holdings) extendGroup(due []*holding) (others []*holding, failed bool) {
	group := due[0].group
	var rooms []*holding
	var rs []es.Reservation
	for _, room := range due {
		if room.group == group {
			rooms, rs = append(rooms, room), append(rs, room.rs[0])
		} else {
			others = append(others, room)
		}
	}
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), k.Lease/looks)
	err := k.extend(ctx, group, rs)
	for i, room := range rooms {
		if err := es.Of(err, i); err != nil {
			failed = true
			k.warn(ctx, "reservation could not be prolonged; a copy of the message may be handled at the same time", room, err)
		}
	}
	cancel()
	k.mu.Lock()
	for i, room := range rooms {
		room.extending = false
		room.lost = errors.Is(es.Of(err, i), es.ErrLeaseLost)
	}
	k.free.Broadcast()
	return others, failed
}

// extend calls the store, whose panic must not end the process.
func (k *holdings) extend(ctx context.Context, group string, rs []es.Reservation) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &es.PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return k.store.Extend(ctx, group, rs, k.Lease)
}
