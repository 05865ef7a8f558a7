package sqlite

import (
	"context"
	"fmt"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// outboxAnswers are the answers of a call in a transaction: each stream is read when it is needed first, and written once, at the end.
type outboxAnswers struct {
	outbox  *Outbox
	tx      *txn
	streams map[string]*outboxStream
	gone    int64 // how many entries have left the outbox
}

func (o *Outbox) answers(tx *txn) *outboxAnswers {
	return &outboxAnswers{outbox: o, tx: tx, streams: map[string]*outboxStream{}}
}

// stream returns a stream; one that is not there has no claim.
func (a *outboxAnswers) stream(name string) (*outboxStream, error) {
	if s := a.streams[name]; s != nil {
		return s, nil
	}
	s := &outboxStream{name: name}
	err := a.tx.query(func(stmt *lite.Stmt) error {
		s.token, s.lease, s.until = stmt.ColumnInt64(0), stmt.ColumnInt64(1), stmt.ColumnInt64(2)
		s.last, s.open, s.ready = stmt.ColumnInt64(3), stmt.ColumnInt64(4), stmt.ColumnInt64(5)
		return nil
	}, a.outbox.sql.stream, name)
	if err != nil {
		return nil, err
	}
	a.streams[name] = s
	return s, nil
}

// held returns the entry that a claim has handed out, and its stream, unless it was answered or the lease has ended: then the error is
// [es.ErrLeaseLost].
func (a *outboxAnswers) held(e es.Entry) (seq int64, s *outboxStream, err error) {
	if e.Message == nil {
		return 0, nil, es.Invalidf("outbox entry", "has no message; pass what Claim gave")
	}
	var answered int64
	err = a.tx.query(func(stmt *lite.Stmt) error {
		seq, answered = stmt.ColumnInt64(0), stmt.ColumnInt64(1)
		return nil
	}, a.outbox.sql.held, e.ID[:])
	if err != nil {
		return 0, nil, err
	}
	if s, err = a.stream(e.Stream); err != nil {
		return 0, nil, err
	}
	out := seq != 0 && s.open > 0 && s.until > a.tx.now && seq <= s.last && answered != s.token
	if !out || uint64(s.token) != e.Token { //nolint:gosec // a token is above 0
		return 0, nil, fmt.Errorf("outbox entry %s of stream %q: %w", e.ID, e.Stream, es.ErrLeaseLost)
	}
	return seq, s, nil
}

// settle writes down what has changed.
func (a *outboxAnswers) settle() error {
	for _, s := range a.streams {
		if s.token == 0 && s.open == 0 && s.ready == 0 { // it was not there, so nothing of it was answered
			continue
		}
		if err := a.outbox.settle(a.tx, s); err != nil {
			return err
		}
	}
	if a.gone == 0 {
		return nil
	}
	return a.tx.write(a.outbox.sql.depth, -a.gone)
}

// Complete removes entries that are done.
func (o *Outbox) Complete(ctx context.Context, entries []es.Entry) error {
	return o.eachHeld(ctx, entries, synced, func(a *outboxAnswers, _ int, seq int64, s *outboxStream) error {
		return a.complete(seq, s)
	})
}

func (a *outboxAnswers) complete(seq int64, s *outboxStream) error {
	s.open--
	a.gone++
	return a.tx.write(a.outbox.sql.remove, seq)
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
	err := o.eachHeld(ctx, entries, synced, func(a *outboxAnswers, _ int, seq int64, s *outboxStream) error {
		if !dead {
			s.open--
			return a.tx.write(o.sql.retry, s.token, a.tx.now+max(f.Delay, 0).Microseconds(), seq)
		}
		if err := a.tx.write(o.sql.bury, a.tx.now, f.Err.Error(), f.Park, seq); err != nil {
			return err
		}
		return a.complete(seq, s)
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
	return o.eachHeld(ctx, entries, unsynced, func(a *outboxAnswers, _ int, seq int64, s *outboxStream) error {
		s.open--
		return a.tx.write(o.sql.giveBack, s.token, seq)
	})
}

// Extend starts the lease of the entries anew, and sets their Deadline. The lease is on the stream, so other entries of the stream that
// the claim handed out have the new one too.
func (o *Outbox) Extend(ctx context.Context, entries []es.Entry) error {
	until := make([]int64, len(entries))
	err := o.eachHeld(ctx, entries, unsynced, func(a *outboxAnswers, i int, _ int64, s *outboxStream) error {
		s.until = leaseEnd(a.tx.now, time.Duration(s.lease)*time.Microsecond)
		until[i] = s.until
		return nil
	})
	for i := range entries {
		if until[i] != 0 && es.Of(err, i) == nil {
			entries[i].Deadline = timeOf(until[i])
		}
	}
	return err
}

// eachHeld has do answer each entry that is still the caller's, in a transaction. For the others there is an error.
func (o *Outbox) eachHeld(ctx context.Context, entries []es.Entry, how durability,
	do func(a *outboxAnswers, i int, seq int64, s *outboxStream) error,
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
		a := o.answers(tx)
		for i := range entries {
			seq, s, err := a.held(entries[i])
			switch {
			case err == nil:
				err = do(a, i, seq, s)
			case !isFault(err):
				if errs == nil {
					errs = make([]error, len(entries))
				}
				errs[i], err = err, nil
			}
			if err != nil {
				return err
			}
		}
		return a.settle()
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

// Forward appends each entry's message to its stream, expecting [es.Any], and completes the entry, both or neither.
func (o *Outbox) Forward(ctx context.Context, entries []es.Entry) []es.Outcome {
	outcomes := make([]es.Outcome, len(entries))
	err := o.db.handle.begin(ctx)
	if err == nil {
		defer o.db.handle.leave()
		if len(entries) == 0 {
			return outcomes
		}
		err = o.db.write(ctx, &op{run: func(tx *txn) error { return o.forward(tx, entries, outcomes) }})
	}
	if err != nil {
		for i := range outcomes {
			outcomes[i] = es.Outcome{Err: err}
		}
	}
	return outcomes
}

func (o *Outbox) forward(tx *txn, entries []es.Entry, outcomes []es.Outcome) error {
	a := o.answers(tx)
	var held map[string]bool // streams whose later entries must not overtake one that failed
	for i, entry := range entries {
		outcomes[i] = es.Outcome{}
		if entry.Message != nil && held[entry.Stream] {
			outcomes[i].Err = es.ErrHeldBack
			continue
		}
		var err error
		outcomes[i].Appended, err = a.forward(entry)
		if isFault(err) {
			return err
		}
		outcomes[i].Err = err
		if err != nil && !es.Permanent(err) && entry.Message != nil {
			if held == nil {
				held = map[string]bool{}
			}
			held[entry.Stream] = true
		}
	}
	return a.settle()
}

func (a *outboxAnswers) forward(entry es.Entry) (es.Appended, error) {
	seq, s, err := a.held(entry)
	if err != nil {
		return es.Appended{}, err
	}
	to := es.AppendTo(entry.Stream, es.Any, entry.Message)
	done, err := a.outbox.db.events.appendIn(a.tx, &to)
	if err != nil {
		return es.Appended{}, err
	}
	return done, a.complete(seq, s)
}
