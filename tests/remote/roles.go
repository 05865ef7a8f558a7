package remote

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

type outbox struct{ c *Client }

func (o outbox) Enqueue(ctx context.Context, msgs ...*es.Message) error {
	for _, m := range msgs {
		if m == nil { // it does not fit on the wire
			return m.Validate(es.Limits{})
		}
	}
	return o.c.tell(ctx, "enqueue", one[[]*es.Message]{msgs})
}

func (o outbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	entries, err := asking[[]es.Entry](ctx, o.c, "claim", one[claiming]{claiming{len(dst), opts}})
	return copy(dst, entries), err
}

func (o outbox) Complete(ctx context.Context, entries []es.Entry) error {
	return o.c.tell(ctx, "complete", one[[]es.Entry]{entries})
}

func (o outbox) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	return o.c.tell(ctx, "fail", one[failing]{failing{entries, fail(f.Err), f.Delay, f.Dead, f.Park}})
}

func (o outbox) Release(ctx context.Context, entries []es.Entry) error {
	return o.c.tell(ctx, "release", one[[]es.Entry]{entries})
}

func (o outbox) Extend(ctx context.Context, entries []es.Entry) error {
	extended, err := asking[[]es.Entry](ctx, o.c, "extend", one[[]es.Entry]{entries})
	for i, e := range extended {
		entries[i].Deadline = e.Deadline
	}
	return err
}

func (o outbox) Wait(ctx context.Context) error { return o.c.tell(ctx, "wait", one[bool]{}) }

func (o outbox) Stats(ctx context.Context) (es.OutboxStats, error) {
	return asking[es.OutboxStats](ctx, o.c, "stats", one[bool]{})
}

func (o outbox) DeadLetters(ctx context.Context) iter.Seq2[es.DeadEntry, error] {
	return func(yield func(es.DeadEntry, error) bool) {
		letters, err := asking[[]es.DeadEntry](ctx, o.c, "dead letters", one[bool]{})
		for _, letter := range letters {
			if !yield(letter, nil) {
				return
			}
		}
		if err != nil {
			yield(es.DeadEntry{}, err)
		}
	}
}

func (o outbox) Replay(ctx context.Context, ids ...uuid.UUID) error {
	return o.c.tell(ctx, "replay", one[[]uuid.UUID]{ids})
}

func (o outbox) Discard(ctx context.Context, ids ...uuid.UUID) error {
	return o.c.tell(ctx, "discard", one[[]uuid.UUID]{ids})
}

type dedupe struct{ c *Client }

func (d dedupe) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	reserved, err := asking[[]es.Reservation](ctx, d.c, "reserve", one[reserving]{reserving{group, rs, lease}})
	copy(rs, reserved)
	return err
}

func (d dedupe) Complete(ctx context.Context, group string, rs []es.Reservation) error {
	return d.c.tell(ctx, "done", one[reserving]{reserving{Group: group, Reservations: rs}})
}

func (d dedupe) Extend(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	extended, err := asking[[]es.Reservation](ctx, d.c, "prolong", one[reserving]{reserving{group, rs, lease}})
	copy(rs, extended)
	return err
}

func (d dedupe) Release(ctx context.Context, group string, rs []es.Reservation) error {
	return d.c.tell(ctx, "give up", one[reserving]{reserving{Group: group, Reservations: rs}})
}

type leases struct{ c *Client }

func (l leases) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
	return asking[es.Lease](ctx, l.c, "acquire", one[acquiring]{acquiring{Name: name, Owner: owner, TTL: ttl}})
}

func (l leases) Renew(ctx context.Context, lease es.Lease, ttl time.Duration) (es.Lease, error) {
	return asking[es.Lease](ctx, l.c, "renew", one[acquiring]{acquiring{Lease: lease, TTL: ttl}})
}

func (l leases) Release(ctx context.Context, lease es.Lease) error {
	return l.c.tell(ctx, "end", one[es.Lease]{lease})
}

func (l leases) Check(ctx context.Context, lease es.Lease) error {
	return l.c.tell(ctx, "check", one[es.Lease]{lease})
}

type readModels struct{ c *Client }

func (r readModels) Load(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
	return asking[[]es.Document](ctx, r.c, "load", one[loading]{loading{model, keys}})
}

func (r readModels) List(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
	return asking[[]es.Document](ctx, r.c, "list", one[es.ListQuery]{q})
}

func (r readModels) Commit(ctx context.Context, c es.Commit) error {
	return r.c.tell(ctx, "commit", one[es.Commit]{c})
}

func (r readModels) Progress(ctx context.Context, projection string) (es.Progress, error) {
	return asking[es.Progress](ctx, r.c, "progress", one[string]{projection})
}

func (r readModels) Drop(ctx context.Context, model string) error {
	return r.c.tell(ctx, "drop", one[string]{model})
}

func (r readModels) Switch(ctx context.Context, replacements ...es.Replacement) error {
	return r.c.tell(ctx, "switch", one[[]es.Replacement]{replacements})
}
