package eventsourcing

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"
)

// Outbox holds messages that are to be appended and published, durably, until a processor has done it.
//
// Claims work under leases. A lease is on a partition of streams and not on an entry, so that the entries of one stream are
// with one owner at a time and are handed out in the order in which they were enqueued. The clock of the backend decides when
// a lease has ended. A partition is its owner's while the owner has entries of it in hand, and for a second at the most after
// that: an implementation may keep it that long so that the next claim needs no commit, and no longer, so that others get what
// was given back.
type Outbox interface {
	// Enqueue stores messages, all or none, and is durable when it returns. An ID that is waiting already with the same
	// content, or is a dead letter, is left as it is; with other content it is [ErrDuplicate]. [ErrInvalid], [ErrClosed].
	//
	// Messages of one call, and of calls that follow each other, keep their order within a stream. Between calls that overlap
	// in time the order is undefined.
	Enqueue(ctx context.Context, msgs ...*Message) error

	// Claim fills dst with entries that can be worked on now and returns how many it gave, 0 when there are none; it does not
	// wait. The entries of a stream come in order, and no entry comes while an earlier one of its stream waits for its retry,
	// is with another owner, or is a dead letter that parked the stream. A claim may have several entries of a stream; who
	// fails one of them releases those that follow.
	Claim(ctx context.Context, dst []Entry, opts ClaimOptions) (int, error)

	// Complete removes entries that are done. Complete, Fail, Release and Extend answer all entries of the call that they can;
	// for the others there is a [*BatchError], with [ErrLeaseLost] where the lease of the claim has ended or the entry was
	// answered before.
	Complete(ctx context.Context, entries []Entry) error

	// Fail gives entries back after a failed attempt: to be tried again after a delay, with Attempt raised, or as dead letters.
	// What can never succeed ([Permanent]) is a dead letter at once.
	Fail(ctx context.Context, entries []Entry, f Failure) error

	// Release gives entries back at once; it was not an attempt. While the claim has other entries of the stream in hand, nobody
	// gets what was given back.
	Release(ctx context.Context, entries []Entry) error

	// Extend starts the lease of the entries anew, as long as the claim's, and sets their Deadline. What the claim has of the
	// same partition goes on with them.
	Extend(ctx context.Context, entries []Entry) error

	// Wait returns when there may be something to claim: at once when there is, or as soon as an entry is enqueued, given
	// back, due for its retry, or its lease ends. A return is a hint and no promise. The error is that of ctx, or [ErrClosed].
	Wait(ctx context.Context) error

	// Stats tells what is in the outbox.
	Stats(ctx context.Context) (OutboxStats, error)

	// DeadLetters yields the dead letters, the oldest first, an error last and with a zero entry.
	DeadLetters(ctx context.Context) iter.Seq2[DeadEntry, error]

	// Replay puts dead letters back, with their attempts counted from 1 again and enqueued at this time. They come before the
	// later entries of their stream, and a stream that they parked goes on. An ID that is no dead letter is [ErrNotFound], and
	// nothing is replayed.
	Replay(ctx context.Context, ids ...uuid.UUID) error

	// Discard removes dead letters for good; a stream that they parked goes on. An ID that is no dead letter is [ErrNotFound],
	// and nothing is discarded.
	Discard(ctx context.Context, ids ...uuid.UUID) error
}

// Entry is a message in the outbox, as it was handed out by a claim.
type Entry struct {
	*Message
	// Enqueued is when it was stored, or last replayed, by the outbox's clock. Nothing else changes it: the IDs of dead letters
	// are derived from it.
	Enqueued time.Time
	// Attempt counts from 1. It rises with every [Outbox.Fail], and when the lease of a claim ended without an answer: the
	// entry may be what its owner died of.
	Attempt int
	// Deadline is when the lease of the claim ends.
	Deadline time.Time
	// Token is the claim's fencing token: how the outbox tells its owner from one that came later.
	Token uint64
}

// ClaimOptions say how to claim.
type ClaimOptions struct {
	// Owner names who claims: one name for each processor that runs. It is required.
	Owner string
	// Lease is how long the entries are the owner's; 30 seconds by default. A negative one is [ErrInvalid].
	Lease time.Duration
}

// Failure says what is to become of an entry that failed.
type Failure struct {
	// Err is why. It is required, and kept with a dead letter as text.
	Err error
	// Delay is how long to wait before the next attempt.
	Delay time.Duration
	// Dead makes it a dead letter; so does an Err that is [Permanent].
	Dead bool
	// Park makes the later entries of its stream wait until the dead letter is replayed or discarded. Otherwise the stream
	// goes on without it.
	Park bool
}

// DeadEntry is a dead letter of the outbox.
type DeadEntry struct {
	*Message
	Enqueued time.Time
	Died     time.Time
	Attempts int
	Error    string
	Parked   bool // its stream waits for it
}

// OutboxStats tells what is in an outbox.
type OutboxStats struct {
	// Depth is how many entries wait or are being worked on; dead letters are not counted.
	Depth int
	// Oldest is when the oldest of them was enqueued; zero when there is none.
	Oldest time.Time
	// Retrying is how many of them have failed at least once.
	Retrying int
	// Dead is how many dead letters there are; Parked how many streams wait for one.
	Dead, Parked int
	// Failures counts the calls of Fail on this handle, by entry.
	Failures int64
}

// Forwarder is an outbox that stands in the same database as the event store, and can append its entries and complete them in
// one commit. It is optional: a processor uses it where it is there.
type Forwarder interface {
	// Forward appends each entry's message to its stream, expecting [Any], and completes the entry, both or neither. The
	// outcome of each entry stands for itself: on [ErrLeaseLost] and on any other error nothing was appended for it, and it is
	// still to be failed or released. After an error that is not [Permanent], later entries of the same stream in the call are
	// not tried, and fail with [ErrHeldBack]: they would overtake it.
	Forward(ctx context.Context, entries []Entry) []Outcome
}
