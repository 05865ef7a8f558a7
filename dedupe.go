package eventsourcing

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Dedupe remembers which messages a group has handled. Marking a message before it is handled would lose it in a crash, and
// marking it afterwards would let two handle it at once; so it is reserved first and completed after.
type Dedupe interface {
	// Reserve sets the State of each reservation, whose IDs the caller has set: [ReserveNew] when it is the caller's now, with
	// Token and Until; [ReserveBusy] when somebody else is at it, until Until; [ReserveDone] when it was handled. An ID that is
	// there twice in one call is the caller's once and busy after that. When the lease (30 seconds for 0) ends, by the clock
	// of the backend, what was not completed is new again. The zero ID, a group that breaks the rules of names, and a negative
	// lease are [ErrInvalid], and nothing is reserved.
	Reserve(ctx context.Context, group string, rs []Reservation, lease time.Duration) error
	// Complete marks reservations as done. One whose lease has ended is [ErrLeaseLost], also when nobody else has reserved it
	// yet; a [*BatchError] says which, and the others are done. Reservations that are not [ReserveNew] are passed over. To
	// complete one again, under the same token, is no error, also when its lease has ended since: so an unknown outcome is
	// resolved.
	Complete(ctx context.Context, group string, rs []Reservation) error
	// Extend starts the lease of reservations anew (30 seconds for 0), and sets their Until; it may end earlier than it would
	// have. One whose lease has ended, or that was released, is [ErrLeaseLost], also when nobody else has reserved it yet, and
	// keeps the Until it had; a [*BatchError] says which, and the others are prolonged. Passed over are reservations that are not
	// [ReserveNew], and those that their holder has completed: to prolong may cross with to complete, and makes nothing undone. A
	// negative lease is [ErrInvalid], and nothing is prolonged.
	Extend(ctx context.Context, group string, rs []Reservation, lease time.Duration) error
	// Release gives reservations up, so that they are new at once. What is not the caller's any more is passed over.
	Release(ctx context.Context, group string, rs []Reservation) error
}

// Reservation is a message of a group that its holder is about to handle.
type Reservation struct {
	ID    uuid.UUID
	State ReserveState
	Token uint64    // fencing token of the holder
	Until time.Time // end of the holder's lease
}

// ReserveState says whose a message is.
type ReserveState int

// The states of a reservation.
const (
	// ReserveNew: the caller's to handle.
	ReserveNew ReserveState = iota + 1
	// ReserveBusy: in somebody else's hands; neither done nor new. It is to come back later.
	ReserveBusy
	// ReserveDone: handled before.
	ReserveDone
)

func (s ReserveState) String() string {
	switch s {
	case ReserveNew:
		return "new"
	case ReserveBusy:
		return "busy"
	case ReserveDone:
		return "done"
	}
	return "unset"
}
