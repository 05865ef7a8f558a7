package projection

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// stride is how many positions are read for at the most until the checkpoint moves, also when nothing matches.
const stride = 1 << 20

// run is one way through the log: that of the projection, or of a rebuild beside it. Only one goroutine uses it at a time.
type run struct {
	p      *Projection
	name   string // of the checkpoint
	parkAt string // the model of the parked streams
	target sink
	query  es.Query
	fence  func() *es.Lease // nil: there is no lease
	quit   <-chan struct{}  // closed when nothing new is to be begun; nil: never
	onMove func()           // nil, or told when more was scanned
	onDone func(done int)   // nil, or told when the first events of the page were committed

	works bool // it does the work of the projection: what it holds in memory is what is committed

	turn sync.Mutex // held from handling to commit: who holds it knows that nothing happens

	at          es.Progress // what is committed
	scanned     int64       // all up to here is committed, or is not for the projection
	aheadSince  time.Time   // since when not all of that is committed, when it is not
	incarnation uuid.UUID   // of the event store

	crew     *crew // nil until several streams are handled at a time
	page     page
	ledger   *ledger
	batch    Batch
	decoded  []es.Decoded
	parked   map[string]Parked // the streams that are parked, by name
	parking  map[string]Parked // what the present commit changes about them
	alone    bool              // one event in a commit: a commit of more was turned down for what is in it
	trying   int64             // the position of the event that is tried again
	attempts int               // how often it was
}

// newRun makes a run with a checkpoint of a name. aside says where a model is kept; nil: under its own name.
func newRun(p *Projection, name string, aside func(model string) string) *run {
	r := &run{
		p: p, name: name, target: p.target, query: p.config.query(), parkAt: parkedModel(p.config.Name),
		ledger: newLedger(&p.config, aside), parked: map[string]Parked{}, parking: map[string]Parked{},
	}
	if aside != nil {
		r.parkAt = aside(r.parkAt)
		r.batch.aside = true
	}
	r.batch.ledger = r.ledger
	return r
}

// load reads where the run stands, and forgets what it has in memory.
func (r *run) load(ctx context.Context) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	return r.reload(ctx)
}

// reload is load for who has the turn.
func (r *run) reload(ctx context.Context) error {
	r.page.clear()
	r.ledger.forget()
	clear(r.parking)
	r.alone = false
	at, err := r.p.config.Models.Progress(ctx, r.name)
	if err != nil {
		return fmt.Errorf("read the checkpoint of projection %q: %w", r.name, err)
	}
	parked, err := loadParked(ctx, r.p.config.Models, r.parkAt) // after the checkpoint: who changes it, changes that too
	if err != nil {
		return err
	}
	r.at, r.incarnation = at, at.Incarnation
	r.parked = parked
	r.moveTo(at.Position)
	return nil
}

// catchUp handles and commits all that there is up to the head.
func (r *run) catchUp(ctx context.Context, head es.Checkpoint) error {
	r.incarnation = head.Incarnation
	for r.scanned < head.Position {
		if err := r.scan(ctx, min(head.Position, r.scanned+stride)); err != nil {
			return err
		}
		if r.scanned >= head.Position {
			break
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// scan handles and commits all that there is up to a position.
func (r *run) scan(ctx context.Context, upTo int64) error {
	r.page.clear() // what was left of an earlier one is read again
	q := r.query.Resume(es.Checkpoint{Incarnation: r.incarnation, Position: r.scanned})
	q.UpTo = upTo
	for m, err := range r.p.config.Events.Read(ctx, q) {
		if err != nil {
			return fmt.Errorf("read events after position %d: %w", r.scanned, err)
		}
		r.page.add(m)
		if !r.page.full(&r.p.config) {
			continue
		}
		if err := r.flush(ctx, m.Position); err != nil {
			return err
		}
	}
	return r.flush(ctx, upTo)
}

// flush handles and commits what was read up to a position.
func (r *run) flush(ctx context.Context, upTo int64) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	for len(r.page.messages) > 0 {
		if r.quits() {
			return errQuit
		}
		if err := r.flushSome(ctx, upTo); err != nil {
			return err
		}
	}
	r.alone = false
	r.moveTo(upTo)
	return nil
}

// moveTo notes how far was scanned.
func (r *run) moveTo(position int64) {
	if r.scanned <= r.at.Position {
		r.aheadSince = time.Now()
	}
	r.scanned = position
	if r.onMove != nil {
		r.onMove()
	}
}

func (r *run) quits() bool {
	select {
	case <-r.quit:
		return true
	default:
		return false
	}
}

// outcome is what came of handling events.
type outcome struct {
	done  int   // so many are to be committed
	stop  error // why the others are not; nil: there are no others, or they are a batch of their own
	again int   // so many are to be handled again, and to be committed then; 0: all is well
	err   error // why nothing can be committed now
}

// flushSome handles and commits some of the events that were read, most often all of them.
func (r *run) flushSome(ctx context.Context, upTo int64) error {
	n := len(r.page.messages)
	if r.alone {
		n = 1
	}
	var stop error // what comes after the commit
	for {
		var o outcome
		var to es.Progress
		err := r.target.commit(ctx, &r.batch, func(ctx context.Context) (es.Commit, error) {
			o = r.handleFirst(ctx, n)
			switch {
			case o.err != nil:
				return es.Commit{}, o.err
			case o.again > 0:
				return es.Commit{}, errAgain
			case o.done == 0:
				return es.Commit{}, errNothing
			}
			to = r.after(o.done, upTo)
			return r.commit(to)
		})
		switch {
		case err == nil && o.stop == nil && o.done == n:
			r.committed(to, o.done)
			return stop
		case err == nil: // it did not come as far as the event that made it stop
			r.committed(to, o.done)
			return o.stop
		case errors.Is(err, errAgain):
			n, stop = o.again, o.stop
		case errors.Is(err, errNothing):
			r.ledger.reset()
			r.moveTo(r.page.messages[0].Position - 1)
			return o.stop
		case !r.unfit(err, o):
			return err
		case n > 1:
			n, r.alone, stop = 1, true, nil
		default:
			if stop = r.reject(err); stop != nil {
				r.ledger.reset()
				r.moveTo(r.page.messages[0].Position - 1)
				return stop
			}
		}
	}
}

// unfit tells whether a commit was turned down for what is in it.
func (*run) unfit(err error, o outcome) bool {
	return o.err == nil && (errors.Is(err, es.ErrInvalid) || errors.As(err, new(*unfitError)))
}

// reject deals with the one event of a commit that was turned down for what is in it. It returns why the run cannot go on.
func (r *run) reject(cause error) error {
	if r.page.verdicts[0].fate != fateHandle { // it is not even in the commit
		return cause
	}
	return r.judge(0, cause).stop
}

// after is the progress when the first events are done.
func (r *run) after(done int, upTo int64) es.Progress {
	to := r.at
	to.Checkpoint = es.Checkpoint{Incarnation: r.incarnation, Position: upTo}
	if done < len(r.page.messages) {
		to.Position = r.page.messages[done].Position - 1 // nothing that is for the projection is between
	}
	return to
}

// commit makes the commit of what was handled.
func (r *run) commit(to es.Progress) (es.Commit, error) {
	writes, err := r.ledger.pending(make([]es.Write, 0, len(r.parking)))
	if err == nil {
		writes, err = r.pendingParked(writes)
	}
	if err != nil {
		return es.Commit{}, &unfitError{err}
	}
	c := es.Commit{Writes: writes, Progress: es.ProgressUpdate{Projection: r.name, From: r.at, To: to}}
	if r.fence != nil {
		c.Fence = r.fence()
	}
	return c, nil
}

// committed notes that the first events are done.
func (r *run) committed(to es.Progress, done int) {
	r.at = to
	r.ledger.keep()
	r.keepParked()
	if r.onDone != nil {
		r.onDone(done)
	}
	r.page.drop(done)
	r.moveTo(to.Position)
}

// settle commits how far was read, when nothing was for the projection since the last commit.
func (r *run) settle(ctx context.Context) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	if !r.ahead() {
		return nil
	}
	to := r.at
	to.Checkpoint = es.Checkpoint{Incarnation: r.incarnation, Position: r.scanned}
	return r.move(ctx, to)
}

// verify tells whether the checkpoint is still where the run has left it; otherwise it is a [*es.ProjectionError]. While another copy is
// faster, a handler may be given an event together with documents that have its effect already, and no wonder if it fails.
func (r *run) verify(ctx context.Context) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	at, err := r.p.config.Models.Progress(ctx, r.name)
	if err != nil {
		return fmt.Errorf("read the checkpoint of projection %q: %w", r.name, err)
	}
	if !at.Same(r.at) {
		return &es.ProjectionError{Projection: r.name, Expected: r.at, Actual: at}
	}
	return nil
}

// unsettled tells, to who has the turn, how long it may take until it is committed how far was read; [forever] when it is already.
func (r *run) unsettled() time.Duration {
	if !r.ahead() {
		return forever
	}
	return settleDelay - time.Since(r.aheadSince)
}

// ahead tells, to who has the turn, whether more was scanned than is committed.
func (r *run) ahead() bool { return r.scanned > r.at.Position }

// move commits a checkpoint and nothing else.
func (r *run) move(ctx context.Context, to es.Progress) error {
	r.ledger.reset()
	clear(r.parking)
	return r.moveWith(ctx, to)
}

// moveWith commits a checkpoint with what is pending.
func (r *run) moveWith(ctx context.Context, to es.Progress) error {
	err := r.target.commit(ctx, &r.batch, func(context.Context) (es.Commit, error) { return r.commit(to) })
	if err != nil {
		return err
	}
	r.at = to
	r.ledger.keep()
	r.keepParked()
	return nil
}
