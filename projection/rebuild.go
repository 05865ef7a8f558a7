package projection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RebuildOptions say how to rebuild. The zero value is a rebuild without reports and without a comparison.
type RebuildOptions struct {
	// Definition names what the handlers do, such as a version of the program. What an earlier rebuild has left, that was canceled or has
	// crashed, is gone on with when it was of the same definition, and thrown away otherwise.
	Definition string
	// Anew throws away in any case what an earlier rebuild has left.
	Anew bool
	// Discard throws away what was built when the rebuild is canceled, or fails. By default it is kept, to be gone on with.
	Discard bool
	// Report is told how far it has come, every ReportEvery, and at the end. It is called by the goroutine of Rebuild.
	Report func(RebuildReport)
	// ReportEvery is 1 second by default.
	ReportEvery time.Duration
	// Compare is given the differences between the documents that are read and those that were built, before they change places; an error
	// of it ends the rebuild, and nothing is switched. Both go on while they are compared: documents that events change meanwhile may be
	// among the differences. Nil: nothing is compared. What is in [Tables] is not compared.
	Compare func(ctx context.Context, d Differences) error
	// Examples is how many differences of each kind [Differences] names; 10 by default.
	Examples int
}

// RebuildReport says how far a rebuild has come.
type RebuildReport struct {
	// Position is how far the log was scanned, and Head how far it goes.
	Position, Head int64
	// Events is how many were handled by this call of Rebuild.
	Events int64
	// Resumed: it goes on with what an earlier rebuild had left.
	Resumed bool
	// Took is the time since the call, and Rate how many events a second were handled in it.
	Took time.Duration
	Rate float64
	// Left is about how long it will take until Head, at the pace so far; 0 when that is not known, and at the end.
	Left time.Duration
	// Switched: what was built is what is read.
	Switched bool
}

// ErrRebuilding means that the projection is being rebuilt already, here or in another process.
var ErrRebuilding = errors.New("the projection is being rebuilt already")

const (
	// asideSuffix ends the names under which models and the checkpoint of a rebuild are kept until they are switched.
	asideSuffix = "~rebuild"
	// noteSuffix ends the name of the model that says what is being rebuilt.
	noteSuffix = "~rebuilding"
	// freezeTime is how long the projection stands still at the most until what was built takes its place.
	freezeTime = 10 * time.Second
)

func asideName(model string) string { return model + asideSuffix }

// Rebuild handles all events once more, from the first one, into models beside those that are read, and puts them into their place when it
// has caught up: in one step, so that a reader sees the old one or the new one and nothing in between. The projection, in this process or
// another one, goes on meanwhile, stands still for the moment of the switch, and then goes on from where the new one is. It need not run.
//
// Handlers are those of p: make a Projection with the new ones, and call Rebuild before it is started, or let it stand by.
//
// A rebuild that was canceled, or killed, is gone on with by the next call. Events that cannot be handled are dealt with by
// [Config].OnError; with [Stop], the error is an [*EventError]. Other errors: [ErrRebuilding]; [es.ErrUnsupported] for [Tables] that say
// not how; that of [RebuildOptions].Compare; [es.ErrCheckpoint] when the event store is another one than it began with; that of ctx; those
// of the stores that last.
func (p *Projection) Rebuild(ctx context.Context, o RebuildOptions) (RebuildReport, error) {
	if err := o.complete(p); err != nil {
		return RebuildReport{}, err
	}
	if !p.rebuilding.TryLock() {
		return RebuildReport{}, ErrRebuilding
	}
	defer p.rebuilding.Unlock()
	office, err := p.rebuildOffice(ctx)
	if err != nil {
		return RebuildReport{}, err
	}
	defer office.leave() //nolint:contextcheck // the lease is given back also when ctx has ended
	b := &rebuild{p: p, options: o, office: office, begun: time.Now()}
	err = b.do(office.ctx) //nolint:contextcheck // it is derived from ctx, and ends with the lease as well
	if err != nil && office.ctx.Err() != nil && ctx.Err() == nil {
		err = office.lost(err)
	}
	if err != nil && o.Discard {
		err = errors.Join(err, b.discard(context.WithoutCancel(ctx)))
	}
	b.tell()
	return b.report, err
}

func (o *RebuildOptions) complete(p *Projection) error {
	if o.ReportEvery == 0 {
		o.ReportEvery = time.Second
	}
	if o.Examples == 0 {
		o.Examples = 10
	}
	switch {
	case o.ReportEvery < 0:
		return es.Invalidf("rebuild", "has ReportEvery %v; it takes a duration above 0", o.ReportEvery)
	case o.Examples < 0:
		return es.Invalidf("rebuild", "has %d Examples; it takes 1 or more, and 0 for the default", o.Examples)
	}
	if s, ok := p.target.(swapper); ok && !s.swaps() {
		return fmt.Errorf("rebuild projection %q: its Tables have no Clear and Swap, which say how: %w", p.config.Name, es.ErrUnsupported)
	}
	return nil
}

// rebuildOffice takes the lease of the rebuild, if there are leases.
func (p *Projection) rebuildOffice(ctx context.Context) (*office, error) {
	o := &office{p: p}
	o.ctx, o.end = context.WithCancel(ctx)
	o.soft = o.ctx
	if p.config.Leases == nil {
		return o, nil
	}
	lease, err := p.config.Leases.Acquire(ctx, leaseName(p.config.Name)+asideSuffix, p.config.Owner, p.config.LeaseTTL)
	if err != nil {
		o.end()
		if held, ok := errors.AsType[*es.LeaseHeldError](err); ok {
			return nil, fmt.Errorf("%w: %w", ErrRebuilding, held)
		}
		return nil, fmt.Errorf("take the lease of the rebuild of projection %q: %w", p.config.Name, err)
	}
	o.lease = lease
	o.keeping.Go(o.keep)
	return o, nil
}

// rebuild is a call of Rebuild.
type rebuild struct {
	p       *Projection
	options RebuildOptions
	office  *office
	run     *run
	begun   time.Time
	told    time.Time
	from    int64 // the position that this call began at
	report  RebuildReport
}

// note is what is written about a rebuild, for those who go on with it and for the projection.
type note struct {
	Definition string    `json:"definition,omitempty"`
	Frozen     time.Time `json:"frozen,omitzero"` // until then the projection commits nothing
}

const noteKey = "rebuild"

func (p *Projection) note() es.Model[note] {
	return es.NewModel[note](p.config.Models, p.config.Name+noteSuffix)
}

func (b *rebuild) do(ctx context.Context) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	if err := b.catchUp(ctx); err != nil {
		return err
	}
	if b.options.Compare != nil {
		d, err := b.p.compare(ctx, b.options.Examples)
		if err != nil {
			return err
		}
		if err := b.options.Compare(ctx, d); err != nil {
			return err
		}
		if err := b.catchUp(ctx); err != nil { // it may have taken a while
			return err
		}
	}
	return b.takeOver(ctx)
}

// models are all that a rebuild builds.
func (p *Projection) models() []string {
	models := slices.Clone(p.config.Writes)
	for _, also := range []string{parkedModel(p.config.Name), p.config.Name} {
		if !slices.Contains(models, also) {
			models = append(models, also)
		}
	}
	return models
}

// begin goes on with what an earlier rebuild has left, or begins anew.
func (b *rebuild) begin(ctx context.Context) error {
	p := b.p
	live, err := p.config.Models.Progress(ctx, p.config.Name)
	if err != nil {
		return err
	}
	left, err := p.config.Models.Progress(ctx, asideName(p.config.Name))
	if err != nil {
		return err
	}
	before, err := p.note().Load(ctx, noteKey)
	if err != nil && !errors.Is(err, es.ErrNotFound) {
		return err
	}
	b.report.Resumed = err == nil && !b.options.Anew && left.Generation == live.Generation+1 &&
		before.Value.Definition == b.options.Definition
	if !b.report.Resumed {
		if err := b.discard(ctx); err != nil {
			return err
		}
		if err := b.lay(ctx, live.Generation+1); err != nil {
			return err
		}
	}
	b.run = newRun(p, asideName(p.config.Name), asideName)
	b.run.fence = b.office.fence()
	b.run.quit = ctx.Done()
	b.run.onDone = b.done
	if err := b.run.load(ctx); err != nil {
		return err
	}
	b.from = b.run.scanned
	return nil
}

// lay writes what a rebuild begins with. The checkpoint of the projection's own comes last: with it there is something to go on with.
func (b *rebuild) lay(ctx context.Context, generation int64) error {
	p := b.p
	head, err := p.config.Events.Head(ctx)
	if err != nil {
		return err
	}
	written, err := p.note().Put(noteKey, note{Definition: b.options.Definition}, es.Any)
	if err != nil {
		return err
	}
	to := es.Progress{Generation: generation, Checkpoint: es.Checkpoint{Incarnation: head.Incarnation}}
	models := p.models()
	models = append(slices.DeleteFunc(models, func(m string) bool { return m == p.config.Name }), p.config.Name)
	for _, model := range models {
		c := es.Commit{Progress: es.ProgressUpdate{Projection: asideName(model), To: to}, Writes: []es.Write{written}, Fence: b.fence()}
		if s, ok := p.target.(swapper); ok && model == p.config.Name {
			err = s.clear(ctx, c)
		} else {
			err = p.config.Models.Commit(ctx, c)
		}
		if err != nil {
			return b.explained(err)
		}
	}
	return nil
}

// explained says what a conflict of a rebuild means.
func (*rebuild) explained(err error) error {
	if errors.Is(err, es.ErrConflict) {
		return fmt.Errorf("%w: %w", ErrRebuilding, err)
	}
	return err
}

func (b *rebuild) fence() *es.Lease {
	if f := b.office.fence(); f != nil {
		return f()
	}
	return nil
}

// discard throws away what was built.
func (b *rebuild) discard(ctx context.Context) error {
	for _, model := range b.p.models() {
		if err := b.p.config.Models.Drop(ctx, asideName(model)); err != nil {
			return err
		}
	}
	return b.p.config.Models.Drop(ctx, b.p.config.Name+noteSuffix)
}

// done counts what was handled.
func (b *rebuild) done(events int) {
	b.report.Events += int64(events)
	if time.Since(b.told) >= b.options.ReportEvery {
		b.tell()
	}
}

// tell reports how far it has come.
func (b *rebuild) tell() {
	b.told = time.Now()
	if b.run != nil {
		b.report.Position = max(b.run.scanned, b.run.at.Position)
	}
	b.report.Took = time.Since(b.begun)
	if seconds := b.report.Took.Seconds(); seconds > 0 {
		b.report.Rate = float64(b.report.Events) / seconds
	}
	b.report.Left = 0
	if scanned, ahead := b.report.Position-b.from, b.report.Head-b.report.Position; scanned > 0 && ahead > 0 {
		b.report.Left = time.Duration(float64(b.report.Took) * float64(ahead) / float64(scanned))
	}
	if b.options.Report != nil {
		b.options.Report(b.report)
	}
}

// catchUp builds until it has come to the head.
func (b *rebuild) catchUp(ctx context.Context) error {
	failures := 0
	for {
		before := b.report.Events
		err := b.step(ctx)
		if b.report.Events > before {
			failures = 0
		}
		again, waits := errors.AsType[*pauseError](err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case waits:
			pause(ctx, again.delay)
			continue
		case b.p.final(err) || errors.Is(err, es.ErrLeaseLost):
			if moved := b.run.verify(ctx); errors.Is(moved, es.ErrConflict) { // another one was faster, and its documents are what has failed
				return b.explained(moved)
			}
			return err
		case errors.Is(err, es.ErrConflict):
			return b.explained(err)
		}
		failures++
		b.p.log.Warn("rebuild has trouble with a store", "error", err)
		pause(ctx, b.p.config.Backoff.Delay(min(failures, longestStreak)))
		if err := b.run.load(ctx); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// step builds up to the head as it is now, and again up to the head as it is then, until little is left.
func (b *rebuild) step(ctx context.Context) error {
	const little = 1000
	for {
		head, err := b.p.config.Events.Head(ctx)
		if err != nil {
			return err
		}
		b.report.Head = head.Position
		ahead := head.Position - b.run.scanned
		if err := b.run.catchUp(ctx, head); err != nil {
			return err
		}
		if ahead <= little {
			return b.run.settle(ctx)
		}
	}
}

// takeOver puts what was built into the place of what is read. The projection is brought to a stop for it: its checkpoint gets another
// epoch, so that what it has under way comes to nothing, and a note tells it to wait. So nothing that readers have seen is missing
// afterwards.
func (b *rebuild) takeOver(ctx context.Context) error {
	for {
		live, until, err := b.freeze(ctx)
		if errors.Is(err, es.ErrConflict) { // it has just moved
			continue
		}
		if err != nil {
			return err
		}
		if err := b.catchUp(ctx); err != nil {
			return errors.Join(err, b.thaw(context.WithoutCancel(ctx)))
		}
		if time.Until(until) < freezeTime/2 {
			continue // it goes on soon: stop it once more, with less to catch up on
		}
		if live.Position > b.run.at.Position {
			beyond := &es.CheckpointError{Checkpoint: live.Checkpoint, Last: b.run.at.Checkpoint}
			return fmt.Errorf("rebuild projection %q: %w", b.p.config.Name, beyond)
		}
		if err := b.exchange(ctx, live); err != nil {
			return errors.Join(b.explained(err), b.thaw(context.WithoutCancel(ctx)))
		}
		b.report.Switched = true
		return b.p.config.Models.Drop(context.WithoutCancel(ctx), b.p.config.Name+noteSuffix)
	}
}

// freeze stops the projection for a while, and returns where it stands.
func (b *rebuild) freeze(ctx context.Context) (live es.Progress, until time.Time, err error) {
	p := b.p
	from, err := p.config.Models.Progress(ctx, p.config.Name)
	if err != nil {
		return from, until, err
	}
	if from.Generation+1 != b.run.at.Generation {
		return from, until, fmt.Errorf("%w: another one has just been switched", ErrRebuilding)
	}
	live = from
	live.Epoch++
	until = time.Now().Add(freezeTime)
	written, err := p.note().Put(noteKey, note{Definition: b.options.Definition, Frozen: until}, es.Any)
	if err != nil {
		return from, until, err
	}
	return live, until, p.config.Models.Commit(ctx, es.Commit{
		Writes: []es.Write{written}, Progress: es.ProgressUpdate{Projection: p.config.Name, From: from, To: live}, Fence: b.fence(),
	})
}

// thaw lets the projection go on.
func (b *rebuild) thaw(ctx context.Context) error {
	return b.p.note().Save(ctx, noteKey, note{Definition: b.options.Definition}, es.Any)
}

// exchange puts what was built into the place of what is read.
func (b *rebuild) exchange(ctx context.Context, live es.Progress) error {
	p := b.p
	if s, ok := p.target.(swapper); ok {
		to := b.run.at
		err := s.swap(ctx, es.Commit{Progress: es.ProgressUpdate{Projection: p.config.Name, From: live, To: to}, Fence: b.fence()})
		if err != nil {
			return err
		}
		return b.p.config.Models.Drop(ctx, asideName(p.config.Name))
	}
	replacements := make([]es.Replacement, 0, len(p.config.Writes)+2)
	for _, model := range p.models() {
		replacements = append(replacements, es.Replacement{Model: model, With: asideName(model)})
	}
	return p.config.Models.Switch(ctx, replacements...)
}

// frozen returns until when the projection has to stand still, because what a rebuild has built is about to take its place.
func (p *Projection) frozen(ctx context.Context) (time.Time, error) {
	n, err := p.note().Load(ctx, noteKey)
	if errors.Is(err, es.ErrNotFound) {
		return time.Time{}, nil
	}
	if left := time.Until(n.Value.Frozen); left > freezeTime {
		return time.Now().Add(freezeTime), err // a clock that is ahead
	}
	return n.Value.Frozen, err
}
