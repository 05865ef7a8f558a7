package projection

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// State is what a projection does.
type State int

const (
	// StateNew means that it was not started.
	StateNew State = iota
	// StateStandby means that another copy holds the lease.
	StateStandby
	// StateCatchingUp means that it handles what there is.
	StateCatchingUp
	// StateLive means that it has come to the head, and handles what comes.
	StateLive
	// StateTrouble means that a store does not answer, and is tried again.
	StateTrouble
	// StateStopped means that it was stopped.
	StateStopped
	// StateFailed means that it has ended by itself.
	StateFailed
)

func (s State) String() string {
	switch s {
	case StateNew:
		return "new"
	case StateStandby:
		return "standby"
	case StateCatchingUp:
		return "catching up"
	case StateLive:
		return "live"
	case StateTrouble:
		return "trouble"
	case StateStopped:
		return "stopped"
	case StateFailed:
		return "failed"
	}
	return "unknown"
}

// Status tells how a projection is doing. Progress, head and lag are those of the projection, whichever copy does the work; the rest is
// about this copy, since it was made.
type Status struct {
	// State is what this copy does, and Holder who has the lease when it stands by.
	State  State
	Holder string
	// Progress is what is committed, and Position how far was scanned: up to there all has its effect.
	Progress es.Progress
	Position int64
	// Head is the position of the last event that can be read.
	Head int64
	// Lag is how many positions there are from the first event that is for the projection and not handled to the head; 0 when there is none.
	// LagTime is how long ago that event was recorded.
	Lag     int64
	LagTime time.Duration
	// Rate is how many events a second were handled, over the last 10 seconds.
	Rate float64
	// Handled, Skipped and Parked count events: those that were handled and committed, those that were passed over, and those that were set
	// aside. ParkedStreams is how many streams are parked now.
	Handled, Skipped, Parked int64
	ParkedStreams            int
	// Commits counts the batches, and Overtaken how often another copy was first.
	Commits, Overtaken int64
	// LastError is the last thing that went wrong, at LastErrorAt; nil when nothing has.
	LastError   error
	LastErrorAt time.Time
}

// Status reads how the projection is doing. The error is that of a store.
func (p *Projection) Status(ctx context.Context) (Status, error) {
	c := &p.config
	s := p.journal.status()
	progress, err := c.Models.Progress(ctx, c.Name)
	if err != nil {
		return s, fmt.Errorf("read the checkpoint of projection %q: %w", c.Name, err)
	}
	s.Progress, s.Position = progress, progress.Position
	if at, working, _ := p.waiters.look(); working {
		s.Position = max(s.Position, at.Position)
	}
	parked, err := p.Parked(ctx)
	if err != nil {
		return s, err
	}
	s.ParkedStreams = len(parked)
	lag, head, err := p.lag(ctx, es.Checkpoint{Incarnation: progress.Incarnation, Position: s.Position})
	s.Head, s.Lag = head.Position, lag.Messages
	if !lag.Oldest.IsZero() {
		s.LagTime = max(time.Since(lag.Oldest), 0)
	}
	return s, err
}

// Lag tells how far the projection is behind, whichever copy does the work; see [es.Lagger].
func (p *Projection) Lag(ctx context.Context) (es.Lag, error) {
	at, working, _ := p.waiters.look()
	if !working {
		progress, err := p.config.Models.Progress(ctx, p.config.Name)
		if err != nil {
			return es.Lag{}, fmt.Errorf("read the checkpoint of projection %q: %w", p.config.Name, err)
		}
		at = progress.Checkpoint
	}
	lag, _, err := p.lag(ctx, at)
	return lag, err
}

// lag tells how far a checkpoint is behind, and where the head is.
func (p *Projection) lag(ctx context.Context, at es.Checkpoint) (es.Lag, es.Checkpoint, error) {
	head, err := p.config.Events.Head(ctx)
	if err != nil || head.Position <= at.Position {
		return es.Lag{}, head, err
	}
	q := p.config.query().Resume(at)
	q.UpTo, q.Limit = head.Position, 1
	for m, err := range p.config.Events.Read(ctx, q) {
		if err != nil {
			return es.Lag{}, head, err
		}
		return es.Lag{Messages: head.Position - m.Position + 1, Oldest: m.Recorded}, head, nil
	}
	return es.Lag{}, head, nil
}

// rateSeconds is how many seconds the rate looks back.
const rateSeconds = 10

// journal is what this copy has done and seen.
type journal struct {
	handled, skipped, parked, commits, overtaken, good atomic.Int64

	mu        sync.Mutex
	state     State
	holder    string
	last      error
	lastAt    time.Time
	committed time.Time
	buckets   [rateSeconds]bucket
	fresh     time.Duration // how long trouble counts
	since     time.Time     // of trouble without a success
	until     time.Time
	lastly    error
}

// bucket counts the events of a second.
type bucket struct{ second, events int64 }

func (j *journal) init(fresh time.Duration) { j.fresh = fresh }

func (j *journal) enter(s State) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state, j.holder = s, ""
}

func (j *journal) standBy(holder string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state, j.holder, j.lastly = StateStandby, holder, nil
}

// note notes an error that is no trouble of a store.
func (j *journal) note(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last, j.lastAt = err, time.Now()
}

// trouble notes the trouble of a store.
func (j *journal) trouble(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	if j.lastly == nil || now.Sub(j.until) > j.fresh {
		j.since = now
	}
	j.last, j.lastAt = err, now
	j.state, j.until, j.lastly = StateTrouble, now, err
}

// succeed notes that something has worked.
func (j *journal) succeed() {
	j.good.Add(1)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lastly = nil
}

func (j *journal) successes() int64 { return j.good.Load() }

// lasting returns the trouble that has lasted for as long as a limit.
func (j *journal) lasting(limit time.Duration) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lastly == nil || time.Since(j.until) > j.fresh {
		return nil
	}
	if d := time.Since(j.since); d >= limit {
		return fmt.Errorf("failing for %v: %w", d.Round(time.Millisecond), j.lastly)
	}
	return nil
}

// commit notes a batch.
func (j *journal) commit(handled, skipped, parked int64) {
	j.handled.Add(handled)
	j.skipped.Add(skipped)
	j.parked.Add(parked)
	j.commits.Add(1)
	j.succeed()
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.committed = now
	b := &j.buckets[now.Unix()%rateSeconds]
	if b.second != now.Unix() {
		*b = bucket{second: now.Unix()}
	}
	b.events += handled
}

func (j *journal) committedAt() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.committed
}

func (j *journal) status() Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now().Unix()
	events := int64(0)
	for _, b := range j.buckets {
		if b.second > now-rateSeconds {
			events += b.events
		}
	}
	return Status{
		State: j.state, Holder: j.holder, LastError: j.last, LastErrorAt: j.lastAt, Rate: float64(events) / rateSeconds,
		Handled: j.handled.Load(), Skipped: j.skipped.Load(), Parked: j.parked.Load(),
		Commits: j.commits.Load(), Overtaken: j.overtaken.Load(),
	}
}

// tally counts the first events of the page of the run, which are committed, and tells of those that had no effect.
func (p *Projection) tally(done int) {
	handled, skipped, parked := int64(0), int64(0), int64(0)
	for i, v := range p.run.page.verdicts[:done] {
		m := p.run.page.messages[i]
		switch {
		case v.fate == fateSkip:
			skipped++
			p.failed(fateSkip, m, v.err)
		case v.fate == fatePark:
			parked++
			p.failed(fatePark, m, v.err)
		case p.run.setAside(m):
			parked++
		default:
			handled++
		}
	}
	p.journal.commit(handled, skipped, parked)
}

// failed tells of an event that has no effect.
func (p *Projection) failed(f fate, m *es.Message, cause error) {
	failed := &EventError{Projection: p.config.Name, Message: m, Err: cause}
	p.journal.note(failed)
	if f == fatePark {
		p.log.Error("stream is parked", "error", failed)
		return
	}
	p.log.Error("event is skipped", "error", failed)
}
