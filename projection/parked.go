package projection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Parked is a stream that was set aside, because its event at Version could not be handled; see [Park]. All its events from there on are
// parked, as far as the projection has come.
type Parked struct {
	Stream string `json:"stream"`
	// Version, Position, ID and Name are those of the event that failed.
	Version  int64     `json:"version"`
	Position int64     `json:"position"`
	ID       uuid.UUID `json:"id"`
	Name     string    `json:"name"`
	// Reason is why it failed.
	Reason string `json:"reason"`
	// Since is when that was.
	Since time.Time `json:"since"`
	// Events is how many are parked, with the one that failed.
	Events int64 `json:"events"`
}

// parkedModel is where a projection keeps its parked streams: a document for each, so that however many events come they take no room. The
// events themselves are in the event store.
func parkedModel(projection string) string { return projection + ".parked" }

func parkedDocuments(models es.ReadModels, model string) es.Model[Parked] {
	return es.NewModel[Parked](models, model)
}

// loadParked reads all parked streams, by their names.
func loadParked(ctx context.Context, models es.ReadModels, model string) (map[string]Parked, error) {
	parked := map[string]Parked{}
	for item, err := range parkedDocuments(models, model).All(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("read the parked streams: %w", err)
		}
		parked[item.Key] = item.Value
	}
	return parked, nil
}

// isParked tells whether a stream is parked, by what was committed or by the present batch.
func (r *run) isParked(stream string) bool {
	if _, is := r.parking[stream]; is {
		return true
	}
	_, is := r.parked[stream]
	return is
}

// setAside tells of an event that is committed whether it was parked.
func (r *run) setAside(m *es.Message) bool {
	if len(r.parked) == 0 {
		return false
	}
	entry, is := r.parked[m.Stream]
	return is && m.Version >= entry.Version
}

// parkedStreams is how many streams are parked.
func (r *run) parkedStreams() int {
	n := len(r.parked)
	for stream := range r.parking {
		if _, counted := r.parked[stream]; !counted {
			n++
		}
	}
	return n
}

// park parks an event: with a cause its stream begins to be parked, and otherwise it is already.
func (r *run) park(m *es.Message, cause error) {
	entry, is := r.parking[m.Stream]
	if !is {
		entry = r.parked[m.Stream]
	}
	if entry.Events == 0 {
		entry = parkedAt(m, cause)
	}
	entry.Events++
	r.parking[m.Stream] = entry
}

// parkedAt is a stream that is parked at an event, without any event yet.
func parkedAt(m *es.Message, cause error) Parked {
	return Parked{
		Stream: m.Stream, Version: m.Version, Position: m.Position, ID: m.ID, Name: m.Name,
		Reason: fmt.Sprint(cause), Since: es.Timestamp(time.Now()),
	}
}

// pendingParked appends the writes of what is parked, or is not parked any more.
func (r *run) pendingParked(to []es.Write) ([]es.Write, error) {
	from := len(to)
	for stream, entry := range r.parking {
		if entry.Events == 0 {
			to = append(to, es.Write{Model: r.parkAt, Key: stream, Delete: true})
			continue
		}
		w, err := parkedDocuments(nil, r.parkAt).Put(stream, entry, es.Any)
		if err != nil {
			return to, err
		}
		to = append(to, w)
	}
	slices.SortFunc(to[from:], func(a, b es.Write) int { return cmp.Compare(a.Key, b.Key) })
	return to, nil
}

// keepParked makes what was pending what is committed.
func (r *run) keepParked() {
	for stream, entry := range r.parking {
		if entry.Events == 0 {
			delete(r.parked, stream)
			continue
		}
		r.parked[stream] = entry
	}
	clear(r.parking)
}

// Parked lists the streams that are parked, in the order of their names. Any copy of the projection may be asked.
func (p *Projection) Parked(ctx context.Context) ([]Parked, error) {
	var list []Parked
	for item, err := range parkedDocuments(p.config.Models, parkedModel(p.config.Name)).All(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("read the parked streams of projection %q: %w", p.config.Name, err)
		}
		list = append(list, item.Value)
	}
	return list, nil
}

// Retry handles the events of a parked stream, in order, each with its effect once, and the stream goes on. When one of them fails, those
// before it are done, the stream is parked at that event, and the error is an [*EventError]. A stream that is not parked is
// [es.ErrNotFound].
//
// Any copy of the projection may be asked, whether it was started or not; where another one does the work it competes with that for the
// checkpoint, and [es.ErrConflict] means that it has lost a hundred times.
func (p *Projection) Retry(ctx context.Context, stream string) error {
	return p.unpark(ctx, stream, func(r *run, entry Parked) error { return r.retry(ctx, entry, entry.Version) })
}

// RetryNext is [Projection.Retry] without the event that failed first: that one is given up, and those behind it are handled.
func (p *Projection) RetryNext(ctx context.Context, stream string) error {
	return p.unpark(ctx, stream, func(r *run, entry Parked) error {
		entry.Events--
		return r.retry(ctx, entry, entry.Version+1)
	})
}

// Discard gives up all the events of a parked stream that the projection has come to, and the stream goes on with the next. A stream that
// is not parked is [es.ErrNotFound].
func (p *Projection) Discard(ctx context.Context, stream string) error {
	return p.unpark(ctx, stream, func(r *run, entry Parked) error {
		r.parking[entry.Stream] = Parked{}
		return r.moveWith(ctx, r.anew())
	})
}

// anew is the same place with another epoch, so that who holds what was committed before in memory has to read it again.
func (r *run) anew() es.Progress {
	to := r.at
	to.Epoch++
	return to
}

// unpark does something about a parked stream: with the run of the projection if that does the work, and otherwise with one of its own.
func (p *Projection) unpark(ctx context.Context, stream string, do func(r *run, entry Parked) error) error {
	const attempts = 100
	err := p.unparkOnce(ctx, stream, do)
	for n := 1; n < attempts && overtaken(err) && ctx.Err() == nil; n++ {
		pause(ctx, p.config.Backoff.Delay(1)/10)
		err = p.unparkOnce(ctx, stream, do)
	}
	return err
}

// overtaken tells whether a commit was turned down because somebody else was faster, or is the owner now.
func overtaken(err error) bool {
	_, event := errors.AsType[*EventError](err)
	return !event && (errors.Is(err, es.ErrConflict) || errors.Is(err, es.ErrLeaseLost))
}

func (p *Projection) unparkOnce(ctx context.Context, stream string, do func(r *run, entry Parked) error) error {
	r := p.run
	r.turn.Lock()
	defer r.turn.Unlock()
	if !r.works { // its checkpoint and fence are of no use
		r = newRun(p, p.config.Name, nil)
		if err := r.reload(ctx); err != nil {
			return err
		}
	}
	entry, is := r.parked[stream]
	if !is {
		return fmt.Errorf("stream %q is not parked by projection %q: %w", stream, p.config.Name, es.ErrNotFound)
	}
	r.ledger.reset()
	clear(r.parking)
	err := do(r, entry)
	if err != nil {
		r.ledger.reset()
		clear(r.parking)
	}
	return err
}

// retry handles the events of a parked stream from a version on, and commits them a batch at a time.
func (r *run) retry(ctx context.Context, entry Parked, from int64) error {
	for {
		next, err := r.retryBatch(ctx, entry, from)
		if err != nil || next == 0 {
			return err
		}
		from, entry = next, r.parked[entry.Stream]
	}
}

// retryBatch handles and commits the next events of a parked stream. It returns the version to go on from; 0 when there are no more.
func (r *run) retryBatch(ctx context.Context, entry Parked, from int64) (int64, error) {
	messages, err := r.readParked(ctx, entry.Stream, from)
	if err != nil {
		return 0, err
	}
	done, failed := len(messages), error(nil)
	skipped := map[int]bool{}
	for again := true; again; {
		again = false
		err = r.target.commit(ctx, &r.batch, func(ctx context.Context) (es.Commit, error) {
			r.ledger.reset()
			clear(r.parking)
			r.batch.broken = nil
			n, cause, err := r.handleParked(ctx, messages[:done], skipped)
			verdict, _ := es.Judge(cause)
			switch {
			case err != nil:
				return es.Commit{}, err
			case n < done && verdict == es.VerdictSkip:
				skipped[n], again = true, true
				return es.Commit{}, errAgain
			case n < done:
				done, failed, again = n, cause, true
				return es.Commit{}, errAgain
			}
			r.parking[entry.Stream] = r.leftParked(entry, messages, done, failed)
			return r.commit(r.anew())
		})
	}
	if err != nil {
		return 0, err
	}
	r.at = r.anew()
	r.ledger.keep()
	r.keepParked()
	switch {
	case failed != nil:
		return 0, &EventError{Projection: r.p.config.Name, Message: messages[done], Err: failed}
	case len(messages) < r.p.config.BatchSize:
		return 0, nil
	}
	return messages[done-1].Version + 1, nil
}

// readParked reads a batch of what is parked of a stream: its events from a version on, as far as the run has come.
func (r *run) readParked(ctx context.Context, stream string, from int64) ([]*es.Message, error) {
	var messages []*es.Message
	for m, err := range r.p.config.Events.Read(ctx, es.Query{Stream: stream, After: from - 1}) {
		if err != nil {
			return nil, fmt.Errorf("read the events of stream %q: %w", stream, err)
		}
		if m.Position > r.at.Position || len(messages) == r.p.config.BatchSize {
			break
		}
		if r.query.Matches(m) {
			messages = append(messages, m)
		}
	}
	return messages, nil
}

// handleParked has events handled until one fails. It returns how many were, and why the next one was not.
func (r *run) handleParked(ctx context.Context, messages []*es.Message, skipped map[int]bool) (n int, failed, err error) {
	for i, m := range messages {
		if skipped[i] {
			continue
		}
		cause := r.call(ctx, &r.batch, m)
		if cause == nil {
			continue
		}
		if trouble := r.trouble(ctx, &r.batch, cause); trouble != nil {
			return i, nil, trouble
		}
		return i, cause, nil
	}
	return len(messages), nil, nil
}

// leftParked is what is parked of a stream after the first events are done.
func (r *run) leftParked(entry Parked, messages []*es.Message, done int, failed error) Parked {
	left := max(entry.Events-int64(done), 1)
	switch {
	case failed != nil:
		entry = parkedAt(messages[done], failed)
	case len(messages) < r.p.config.BatchSize:
		return Parked{}
	default: // there may be more
		entry.Version = messages[done-1].Version + 1
	}
	entry.Events = left
	return entry
}
