package remote

import (
	"context"
	"iter"

	es "github.com/eventsourcing-go/eventsourcing"
)

type events struct{ c *Client }

func (e events) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	if err := a.Validate(es.Limits{}); err != nil { // nil messages do not fit on the wire
		return es.Appended{}, err
	}
	return asking[es.Appended](ctx, e.c, "append", one[es.Append]{a})
}

func (e events) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	outcomes := make([]es.Outcome, len(as))
	var valid []es.Append
	var places []int
	for i, a := range as {
		if outcomes[i].Err = a.Validate(es.Limits{}); outcomes[i].Err == nil {
			valid, places = append(valid, a), append(places, i)
		}
	}
	answers, err := asking[[]outcome](ctx, e.c, "append each", one[[]es.Append]{valid})
	for n, i := range places {
		if err != nil {
			outcomes[i].Err = err
			continue
		}
		outcomes[i] = es.Outcome{Appended: answers[n].Appended, Err: answers[n].Err.err()}
	}
	return outcomes
}

// pageLimit is how many messages cross the wire at a time.
const pageLimit = 256

// Read reads page by page. What a read of the global order sees ends where the head was when it began.
func (e events) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	return func(yield func(*es.Message, error) bool) {
		if err := q.Validate(); err != nil { // before the limit is that of a page
			yield(nil, err)
			return
		}
		left := q.Limit
		for {
			q.Limit = pageLimit
			if left > 0 {
				q.Limit = min(left, pageLimit)
			}
			p, err := asking[page](ctx, e.c, "read", one[es.Query]{q})
			if err != nil {
				yield(nil, err)
				return
			}
			for _, m := range p.Messages {
				if !yield(m, nil) {
					return
				}
			}
			if len(p.Messages) < q.Limit || left > 0 && left == q.Limit {
				return
			}
			if left > 0 {
				left -= q.Limit
			}
			if q = p.Next; q.UpTo > 0 && q.UpTo <= q.After {
				return
			}
		}
	}
}

func (e events) Head(ctx context.Context) (es.Checkpoint, error) {
	return asking[es.Checkpoint](ctx, e.c, "head", one[bool]{})
}

func (e events) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	return asking[es.Checkpoint](ctx, e.c, "wait beyond", one[es.Checkpoint]{after})
}

// Streams are not edited from elsewhere.

func (events) Truncate(context.Context, string, int64) error     { return es.ErrUnsupported }
func (events) Delete(context.Context, string, es.Deletion) error { return es.ErrUnsupported }
func (events) Erase(context.Context, es.Erasure) (es.Appended, error) {
	return es.Appended{}, es.ErrUnsupported
}

// The arguments and results of calls of events.
type (
	outcome struct {
		Appended es.Appended
		Err      *failure
	}
	// page is a part of what a query gives, and the query for what follows.
	page struct {
		Messages []*es.Message
		Next     es.Query
	}
)

// readPage reads a page. What appears after it was read, and is beyond the head, is for another read.
func readPage(ctx context.Context, b es.Backend, q es.Query) (page, error) {
	p := page{Next: q}
	if q.Stream == "" && q.UpTo == 0 && !q.Unsettled {
		head, err := b.Events().Head(ctx)
		if err != nil {
			return p, err
		}
		p.Next.UpTo = max(head.Position, 1)
	}
	for m, err := range b.Events().Read(ctx, q) {
		if err != nil {
			return p, err
		}
		p.Messages = append(p.Messages, m)
		place := m.Position
		if q.Stream != "" {
			place = m.Version
		}
		if q.Reverse {
			p.Next.UpTo = place - 1
			if p.Next.UpTo == 0 { // which would mean as far as there is
				p.Next.UpTo, p.Next.After = 1, 1
			}
		} else {
			p.Next.After = place
		}
	}
	return p, nil
}

// servedEvents are the calls of the role of events.
func servedEvents() map[string]call {
	return map[string]call{
		"append": serving(func(ctx context.Context, b es.Backend, a es.Append) (es.Appended, error) {
			return b.Events().Append(ctx, a)
		}),
		"append each": serving(func(ctx context.Context, b es.Backend, as []es.Append) ([]outcome, error) {
			var all []outcome
			for _, o := range b.Events().AppendEach(ctx, as) {
				all = append(all, outcome{o.Appended, fail(o.Err)})
			}
			return all, nil
		}),
		"read": serving(readPage),
		"head": serving(func(ctx context.Context, b es.Backend, _ bool) (es.Checkpoint, error) { return b.Events().Head(ctx) }),
		"wait beyond": serving(func(ctx context.Context, b es.Backend, after es.Checkpoint) (es.Checkpoint, error) {
			return b.Events().Wait(ctx, after)
		}),
	}
}
