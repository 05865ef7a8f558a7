package middleware

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	es "github.com/eventsourcing-go/eventsourcing"
)

// holding is the room for a reservation while its handler runs. It is used again for one message after the other.
type holding struct {
	d     *es.Delivery
	group string
	rs    [1]es.Reservation
	phase atomic.Uint32
}

// The phases of a holding. Only its handler takes it from idle to fresh and from fresh to idle, without a mutex, and that is all
// that happens to a quick one; the others are entered and left under the mutex of the holdings.
const (
	idle      uint32 = iota
	fresh            // no look has seen it yet
	seen             // the next look prolongs it
	extending        // a call of the store is under way for it, which reads it
	lost             // it cannot be prolonged any more
)

// holdings prolongs the reservations of a handler. It looks at them four times in a lease, for as long as there are any, and
// prolongs those that it has seen before, in one call: so a message costs no timer of its own and no reading of the clock, and one
// that is handled between two looks costs two atomic operations.
type holdings struct {
	DedupeConfig

	store es.Dedupe
	pool  sync.Pool   // of *holding, so that a message needs no room of its own
	armed atomic.Bool // the timer runs, or a look is under way that will see what is begun now

	mu    sync.Mutex
	free  sync.Cond               // an extension has come to its end
	rooms []weak.Pointer[holding] // all there are; one that the pool has let go of is to go from here too
	timer *time.Timer
}

func newHoldings(store es.Dedupe, c DedupeConfig) *holdings {
	k := &holdings{DedupeConfig: c, store: store}
	k.free.L = &k.mu
	k.pool.New = func() any { return k.newRoom() }
	return k
}

// newRoom makes a holding that looks will see.
func (k *holdings) newRoom() *holding {
	room := new(holding)
	if k.NoExtend {
		return room
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.rooms) == cap(k.rooms) {
		k.rooms = slices.DeleteFunc(k.rooms, func(p weak.Pointer[holding]) bool { return p.Value() == nil })
		k.rooms = slices.Grow(k.rooms, len(k.rooms)+1) // as many may come before it is worth to go through them again
	}
	k.rooms = append(k.rooms, weak.Make(room))
	return room
}

// take returns a room, and give takes it back.
func (k *holdings) take() *holding {
	return k.pool.Get().(*holding) //nolint:forcetypeassert,errcheck // nothing else is put there
}

func (k *holdings) give(room *holding) {
	room.d = nil // the pool is to keep no message alive
	k.pool.Put(room)
}

// inUse yields the rooms that have a reservation. The mutex is held.
func (k *holdings) inUse(yield func(*holding) bool) {
	for _, p := range k.rooms {
		room := p.Value()
		if room != nil && room.phase.Load() != idle && !yield(room) {
			return
		}
	}
}

// looks is how often a reservation is looked at within a lease, and hurry how much sooner after the store has failed.
const (
	looks = 4
	hurry = 3
)

// begin has a reservation prolonged from now on.
func (k *holdings) begin(room *holding) {
	if k.NoExtend {
		return
	}
	room.phase.Store(fresh)
	if !k.armed.Load() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.arm(k.Lease / looks)
	}
}

// end lets a reservation go. It waits while it is being prolonged: its handler is to leave nothing behind.
func (k *holdings) end(room *holding) {
	if k.NoExtend || room.phase.CompareAndSwap(fresh, idle) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for room.phase.Load() == extending {
		k.free.Wait()
	}
	room.phase.Store(idle)
}

// arm has look called after a time, unless it will be anyway. The mutex is held.
func (k *holdings) arm(after time.Duration) {
	after = max(after, time.Millisecond) // of a lease that is too short to be prolonged
	switch {
	case k.armed.Load():
		return
	case k.timer == nil:
		k.timer = time.AfterFunc(after, k.look)
	default:
		k.timer.Reset(after)
	}
	k.armed.Store(true)
}

// look prolongs the reservations that were there at the last look.
func (k *holdings) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	var due []*holding
	for room := range k.inUse {
		if !room.phase.CompareAndSwap(fresh, seen) && room.phase.CompareAndSwap(seen, extending) {
			due = append(due, room)
		}
	}
	again := k.Lease / looks
	for len(due) > 0 {
		var failed bool
		if due, failed = k.extendGroup(due); failed {
			again = k.Lease / looks / hurry
		}
	}
	// Who begins now either finds that the timer does not run, and waits for the mutex to see to it, or is found here.
	k.armed.Store(false)
	left := 0
	for range k.inUse {
		left++
	}
	if left > 0 {
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
		if errors.Is(es.Of(err, i), es.ErrLeaseLost) {
			room.phase.Store(lost)
		} else {
			room.phase.Store(seen)
		}
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
