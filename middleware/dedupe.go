package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// DedupeConfig is how [Dedupe] works.
type DedupeConfig struct {
	// Group is whose memory of handled messages it is; the delivery's consumer group by default. The same message in two groups
	// is not a duplicate.
	Group string
	// Lease is how long a reservation holds; 1 minute by default. It is prolonged while the handler runs, so that handlers may
	// take longer. After a crash the message waits for its end.
	Lease time.Duration
	// NoExtend leaves reservations as they were made. The lease then has to be longer than the handler takes.
	NoExtend bool
	// Poll is the longest that a message waits which is in somebody else's hands, before it is looked at again; 1 second by
	// default. It waits less when the other's lease ends earlier.
	Poll time.Duration
	// Logger is told of marks that could not be made and of leases that could not be prolonged; nothing by default.
	Logger *slog.Logger
}

// Dedupe lets a group handle each message ID once. It reserves the ID before the handler is called, marks it done when the
// handler has succeeded or skipped the message, and gives the reservation up when the handler has failed in any other way, be
// it for good: a dead letter that is replayed is handled. A message that was handled before is skipped ([es.Skip]); one that is
// in somebody else's hands comes back later, which is not an attempt ([es.Busy]).
//
// While a handler runs its reservation is prolonged ([es.Dedupe].Extend), for the first time when a quarter of the lease has passed
// and before half of it has, together with the others of the route. A quick handler costs nothing by it. When a lease has been lost
// all the same, because the process or the store stood still, a warning is logged and the handler goes on: nobody can tell it to
// undo what it did.
//
// When the handler has succeeded and the ID cannot be marked done, because the lease was lost or the store fails, the message
// counts as handled all the same, and a warning is logged: to return an error would have it handled again for certain, where now
// only another copy of it may be. An error while reserving is a failure, and the handler is not called.
func Dedupe(store es.Dedupe, c DedupeConfig) es.Middleware {
	if c.Lease <= 0 {
		c.Lease = time.Minute
	}
	if c.Poll <= 0 {
		c.Poll = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return func(next es.Handler) es.Handler {
		return &deduper{
			DedupeConfig: c, next: next, store: store, holdings: newHoldings(store, c), before: es.Skip(errHandledBefore),
		}
	}
}

// The shortest time that a busy message waits, and how long a mark is tried to be set when the handler's context has ended.
const (
	shortestPoll   = 10 * time.Millisecond
	dedupePatience = 5 * time.Second
)

var errHandledBefore = errors.New("the group has handled this message before")

type deduper struct {
	DedupeConfig

	next     es.Handler
	store    es.Dedupe
	holdings *holdings
	before   error
}

func (h *deduper) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	group := h.Group
	if group == "" {
		group = d.Group
	}
	if group == "" {
		return nil, fmt.Errorf("dedupe message %s: the delivery has no group; set DedupeConfig.Group", d.ID)
	}
	room := h.holdings.take()
	defer h.holdings.give(room)
	room.d, room.group, room.rs[0] = d, group, es.Reservation{ID: d.ID}
	if err := h.store.Reserve(ctx, group, room.rs[:], h.Lease); err != nil {
		return nil, fmt.Errorf("dedupe message %s: reserve: %w", d.ID, err)
	}
	switch room.rs[0].State {
	case es.ReserveNew:
		return h.handle(ctx, room)
	case es.ReserveDone:
		return nil, h.before
	case es.ReserveBusy:
		until := room.rs[0].Until
		return nil, es.Busy(min(max(time.Until(until), shortestPoll), h.Poll),
			fmt.Errorf("message %s is being handled by another of group %q until %s at most", d.ID, group, until.Format(time.RFC3339)))
	}
	return nil, fmt.Errorf("dedupe message %s: the store left its state %v", d.ID, room.rs[0].State)
}

// handle calls the handler for a message that is reserved.
func (h *deduper) handle(ctx context.Context, room *holding) (outputs []*es.Message, err error) {
	returned := false
	h.holdings.begin(room)
	defer func() {
		h.holdings.end(room)
		verdict, _ := es.Judge(err)
		if returned && (verdict == es.VerdictDone || verdict == es.VerdictSkip) {
			h.complete(ctx, room)
			return
		}
		h.release(ctx, room) // also after a panic: the reservation must not outlive it
	}()
	outputs, err = h.next.Handle(ctx, room.d)
	returned = true
	return outputs, err
}

// complete marks a message done. It is tried twice: the first time in the handler's context, which costs nothing, and then in
// one that does not end when the handler is stopped, because what was handled is to be marked as such.
func (h *deduper) complete(ctx context.Context, room *holding) {
	err := h.store.Complete(ctx, room.group, room.rs[:])
	if err == nil {
		return
	}
	if !errors.Is(err, es.ErrLeaseLost) && !errors.Is(err, es.ErrClosed) {
		again, cancel := context.WithTimeout(context.WithoutCancel(ctx), dedupePatience)
		defer cancel()
		err = h.store.Complete(again, room.group, room.rs[:])
	}
	if err != nil {
		h.warn(ctx, "message was handled and could not be marked so; a copy of it would be handled again", room, err)
	}
}

// release gives a reservation up, also when the handler was stopped.
func (h *deduper) release(ctx context.Context, room *holding) {
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), dedupePatience)
	defer cancel()
	if err := h.store.Release(again, room.group, room.rs[:]); err != nil {
		h.warn(ctx, "reservation of a failed message could not be released; the message waits until its lease ends", room, err)
	}
}

func (c DedupeConfig) warn(ctx context.Context, text string, room *holding, err error) {
	d := room.d
	c.Logger.LogAttrs(ctx, slog.LevelWarn, text, //nolint:sloglint // the callers have constant texts
		slog.String("id", d.ID.String()), slog.String("name", d.Name), slog.String("stream", d.Stream),
		slog.String("topic", d.Topic), slog.String("group", room.group),
		slog.Duration("lease", c.Lease), slog.Any("error", err))
}
