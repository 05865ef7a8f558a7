package eventlog

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Publish appends each message to its stream, at whatever version that has; see [es.Publisher]. The topic of a publication has to be
// the category of the message's stream, otherwise it is [es.ErrInvalid] and nothing is published.
//
// It is idempotent by ID, as the store is: what was published before is published, and what has the ID of another message is a
// [*es.DuplicateError]. Messages stand in the log in the order in which they were given.
func (l *Log) Publish(ctx context.Context, pubs ...es.Publication) error {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return es.ErrClosed
	}
	for i, p := range pubs {
		if err := l.validatePublication(p); err != nil {
			return fmt.Errorf("publish message %d of %d: %w", i, len(pubs), err)
		}
	}
	if len(pubs) == 0 {
		return ctx.Err()
	}
	p := publishing{log: l, pubs: pubs}
	for begin := 0; begin < len(pubs); {
		begin = p.turn(ctx, begin)
	}
	return es.BatchErr(p.errs)
}

func (l *Log) validatePublication(p es.Publication) error {
	if err := p.Message.Validate(l.limits); err != nil {
		return err
	}
	if err := es.ValidateName("topic", p.Topic); err != nil {
		return err
	}
	if category := p.Message.Category(); category != p.Topic {
		return es.Invalidf("topic", "is %q for a message of stream %q; in a log it is the category of the stream, %q",
			p.Topic, p.Message.Stream, category)
	}
	return nil
}

// publishing is one Publish. Its messages go to the store in turns: the appends of a turn travel together, each has what follows
// each other of one stream, and no stream is there twice, so that nothing is appended behind something that failed.
type publishing struct {
	log    *Log
	pubs   []es.Publication
	errs   []error             // nil as long as nothing has failed
	failed map[string]struct{} // streams

	appends []es.Append
	streams []es.StreamAppend
	events  []*es.Message
	begins  []int // of each append, among the publications
	inTurn  map[string]struct{}
}

// turn appends the publications from begin on, as many as fit one turn, and returns where the next one begins.
func (p *publishing) turn(ctx context.Context, begin int) int {
	end := p.gather(begin)
	if len(p.appends) == 0 {
		return end
	}
	for i, outcome := range p.log.events.AppendEach(ctx, p.appends) {
		first, n := p.begins[i], len(p.appends[i].Streams[0].Events)
		err := outcome.Err
		if n > 1 && errors.Is(err, es.ErrInvalid) { // an ID that is there twice, for one
			p.oneByOne(ctx, first, n)
			continue
		}
		if err != nil {
			for j := range n {
				p.fail(first+j, err)
			}
		}
	}
	return end
}

// gather makes up the appends of a turn.
func (p *publishing) gather(begin int) int {
	room := len(p.pubs) - begin
	if p.inTurn == nil && room > 1 {
		p.inTurn = make(map[string]struct{}, room)
	}
	clear(p.inTurn)
	if cap(p.events) < room {
		p.events, p.streams, p.appends = make([]*es.Message, 0, room), make([]es.StreamAppend, 0, room), make([]es.Append, 0, room)
		p.begins = make([]int, 0, room)
	}
	p.events, p.streams, p.appends, p.begins = p.events[:0], p.streams[:0], p.appends[:0], p.begins[:0]
	for i := begin; i < len(p.pubs); i++ {
		m := p.pubs[i].Message
		if _, held := p.failed[m.Stream]; held {
			p.fail(i, es.ErrHeldBack)
			continue
		}
		if n := len(p.streams); n > 0 && p.streams[n-1].Stream == m.Stream && p.begins[n-1]+len(p.streams[n-1].Events) == i &&
			len(p.streams[n-1].Events) < p.log.limits.EventsPerAppend {
			p.events = append(p.events, m)
			run := &p.streams[n-1]
			run.Events = p.events[len(p.events)-len(run.Events)-1:]
			continue
		}
		if _, again := p.inTurn[m.Stream]; again {
			return i
		}
		if room > 1 {
			p.inTurn[m.Stream] = struct{}{}
		}
		p.events = append(p.events, m)
		p.streams = append(p.streams, es.StreamAppend{Stream: m.Stream, Events: p.events[len(p.events)-1:]})
		p.begins = append(p.begins, i)
		n := len(p.streams)
		p.appends = append(p.appends, es.Append{Streams: p.streams[n-1 : n : n]})
	}
	return len(p.pubs)
}

// oneByOne appends messages that the store did not take together.
func (p *publishing) oneByOne(ctx context.Context, first, n int) {
	for i := first; i < first+n; i++ {
		m := p.pubs[i].Message
		if _, held := p.failed[m.Stream]; held {
			p.fail(i, es.ErrHeldBack)
			continue
		}
		if _, err := p.log.events.Append(ctx, es.AppendTo(m.Stream, es.Any, m)); err != nil {
			p.fail(i, err)
		}
	}
}

// fail notes that a publication failed, and holds back what follows of its stream.
func (p *publishing) fail(i int, err error) {
	if p.errs == nil {
		p.errs, p.failed = make([]error, len(p.pubs)), map[string]struct{}{}
	}
	p.errs[i] = err
	p.failed[p.pubs[i].Message.Stream] = struct{}{}
}
