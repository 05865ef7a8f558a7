package sqlite

import (
	"context"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Complete removes entries that are done.
func (o *Outbox) Complete(ctx context.Context, entries []es.Entry) error {
	return o.eachHeld(ctx, entries, synced, func(e *outboxEdit, _ int, h heldEntry) error { return e.complete(h) })
}

// Fail gives entries back after a failed attempt. An Err that is nil is [es.ErrInvalid]; a negative Delay counts as none.
func (o *Outbox) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	if err := o.alive(ctx); err != nil {
		return err
	}
	if f.Err == nil {
		return es.Invalidf("failure", "has no error; it takes what went wrong")
	}
	dead := f.Dead || es.Permanent(f.Err)
	err := o.eachHeld(ctx, entries, synced, func(e *outboxEdit, _ int, h heldEntry) error {
		if dead {
			return e.bury(h, f)
		}
		return e.retry(h, e.tx.now+max(f.Delay, 0).Microseconds())
	})
	for i := range entries {
		if es.Of(err, i) == nil {
			o.failures.Add(1)
		}
	}
	return err
}

// Release gives entries back at once; it was not an attempt.
func (o *Outbox) Release(ctx context.Context, entries []es.Entry) error {
	return o.eachHeld(ctx, entries, unsynced, func(e *outboxEdit, _ int, h heldEntry) error { return e.release(h) })
}

// Extend starts the lease of the entries anew, and sets their Deadline. The lease is on the stream, so other entries of the stream that
// the claim handed out have the new one too.
func (o *Outbox) Extend(ctx context.Context, entries []es.Entry) error {
	until := make([]int64, len(entries))
	err := o.eachHeld(ctx, entries, unsynced, func(e *outboxEdit, i int, _ heldEntry) error {
		e.stream.until = e.tx.now + e.stream.lease
		e.changed = true
		until[i] = e.stream.until
		return nil
	})
	for i := range entries {
		if es.Of(err, i) == nil {
			entries[i].Deadline = timeAt(until[i])
		}
	}
	return err
}

// eachHeld has do answer each entry that is still the caller's, in one transaction. For the others there is an error.
func (o *Outbox) eachHeld(ctx context.Context, entries []es.Entry, how durability,
	do func(e *outboxEdit, i int, h heldEntry) error,
) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	defer o.db.handle.leave()
	if len(entries) == 0 {
		return nil
	}
	var errs []error // made when there is one
	err := o.db.write(ctx, &op{relaxed: how == unsynced, run: func(tx *txn) error {
		errs = nil
		e, err := o.edit(tx)
		if err != nil {
			return err
		}
		for i := range entries {
			h, err := e.held(entries[i])
			if err == nil {
				err = do(e, i, h)
			} else if !isFault(err) {
				if errs == nil {
					errs = make([]error, len(entries))
				}
				errs[i], err = err, nil
			}
			if err != nil {
				return err
			}
		}
		return e.put()
	}})
	if err != nil {
		return err
	}
	return es.BatchErr(errs)
}

// alive tells whether a call may go on.
func (o *Outbox) alive(ctx context.Context) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	o.db.handle.leave()
	return nil
}

// Forward appends each entry's message to its stream, expecting [es.Any], and completes the entry, both or neither. All of it is one
// transaction.
func (o *Outbox) Forward(ctx context.Context, entries []es.Entry) []es.Outcome {
	outcomes := make([]es.Outcome, len(entries))
	err := o.db.handle.begin(ctx)
	if err == nil {
		defer o.db.handle.leave()
		err = o.forward(ctx, entries, outcomes)
	}
	if err != nil {
		for i := range outcomes {
			outcomes[i] = es.Outcome{Err: err}
		}
	}
	return outcomes
}

func (o *Outbox) forward(ctx context.Context, entries []es.Entry, outcomes []es.Outcome) error {
	if len(entries) == 0 {
		return nil
	}
	size := 0
	for _, entry := range entries {
		if entry.Message != nil {
			size += len(entry.Data) + eventOverhead
		}
	}
	return o.db.write(ctx, &op{size: size, run: func(tx *txn) error {
		e, err := o.edit(tx)
		if err != nil {
			return err
		}
		var failed map[string]bool // streams whose later entries must not overtake one that failed
		for i, entry := range entries {
			outcomes[i] = es.Outcome{}
			if entry.Message != nil && failed[entry.Stream] {
				outcomes[i].Err = es.ErrHeldBack
				continue
			}
			done, err := e.forward(entry)
			if isFault(err) {
				return err
			}
			outcomes[i] = es.Outcome{Appended: done, Err: err}
			if err == nil || es.Permanent(err) {
				continue
			}
			if failed == nil {
				failed = map[string]bool{}
			}
			failed[entry.Stream] = true
		}
		return e.put()
	}})
}

// forward appends the message of an entry and completes the entry. With an error of a role it has done neither.
func (e *outboxEdit) forward(entry es.Entry) (es.Appended, error) {
	h, err := e.held(entry)
	if err != nil {
		return es.Appended{}, err
	}
	to := es.AppendTo(entry.Stream, es.Any, entry.Message)
	done, err := e.db.events.appendIn(e.tx, &to)
	if err != nil {
		return es.Appended{}, err
	}
	return done, e.complete(h)
}
