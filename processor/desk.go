package processor

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// desk is where a processor lays out what it has in hand: entry by entry, and stream by stream. It is used again for the next
// claim.
type desk struct {
	config *Config

	items   []item         // one for each entry
	streams []stream       // in the order in which they came
	index   map[string]int // of streams, by name
	order   []int          // the items that were laid out, stream by stream
	sorted  []int          // the items to publish, by the position that they were stored at

	events  []*es.Message
	appends []es.Append
	single  []es.StreamAppend // one for each of appends
	pubs    []es.Publication
	sending []int // the item of each of pubs
	which   []int
}

// item is what is to become of an entry.
type item struct {
	stream int
	fate   fate
	place  es.Place
	stored *es.Message // as it stands in the event store
	err    error       // why it failed
}

// fate is how far an entry has come.
type fate int

const (
	fatePending fate = iota
	fateStored       // to be published
	fateDone         // to be completed
	fateFailed       // to be tried again
	fateHeld         // to be released
	fateSettled      // nothing more is to be done about it
)

// stream is what there is of one stream.
type stream struct {
	name       string
	start, end int    // its items in desk.order
	blocked    bool   // one of its items has failed; those behind it must not overtake
	topic      string // where the present round of publishing sends it; empty when it has nothing in it
	deferred   bool   // it has more for the next round
	passed     bool   // something of it got through

	since time.Time // when a Batch began to collect it
}

func (d *desk) init(c *Config) {
	d.config = c
	d.index = map[string]int{}
}

// lay sorts entries by stream, in the order in which they came. The others are settled.
func (d *desk) lay(h *hand, which []int) {
	d.items = append(d.items[:0], make([]item, len(h.entries))...)
	if len(which) < len(d.items) {
		for i := range d.items {
			d.items[i].fate = fateSettled
		}
	}
	d.streams = d.streams[:0]
	s, last := -1, ""
	for _, i := range which {
		if name := h.entries[i].Stream; s < 0 || name != last { // most come stream by stream
			s, last = d.stream(name), name
		}
		d.items[i] = item{stream: s}
		d.streams[s].end++ // how many it has, for now
	}
	at := 0
	for s := range d.streams {
		count := d.streams[s].end
		d.streams[s].start, d.streams[s].end = at, at
		at += count
	}
	d.order = slices.Grow(d.order[:0], at)[:at]
	for _, i := range which {
		s := &d.streams[d.items[i].stream]
		d.order[s.end] = i
		s.end++
	}
}

func (d *desk) stream(name string) int {
	s, known := d.index[name]
	if !known {
		s = len(d.streams)
		d.index[name] = s
		d.streams = append(d.streams, stream{name: name})
	}
	return s
}

// of lists the items of a stream.
func (d *desk) of(s int) []int { return d.order[d.streams[s].start:d.streams[s].end] }

// with lists the items of a fate, in the order in which they came.
func (d *desk) with(f fate) []int {
	d.which = d.which[:0]
	for i := range d.items {
		if d.items[i].fate == f {
			d.which = append(d.which, i)
		}
	}
	return d.which
}

// sweep lets go of the messages, and keeps the room.
func (d *desk) sweep() {
	clear(d.items)
	clear(d.streams)
	clear(d.index)
	clear(d.events[:cap(d.events)])
	clear(d.appends[:cap(d.appends)])
	clear(d.single[:cap(d.single)])
	clear(d.pubs[:cap(d.pubs)])
}

// append appends parcels, each a list of items of one stream, in one call. Each has an outcome of its own.
func (d *desk) append(ctx context.Context, h *hand, parcels [][]int) []es.Outcome {
	d.events, d.appends = d.events[:0], d.appends[:0]
	for _, parcel := range parcels {
		for _, i := range parcel {
			d.events = append(d.events, h.entries[i].Message)
		}
	}
	d.single = slices.Grow(d.single[:0], len(parcels))[:len(parcels)]
	at := 0
	for j, parcel := range parcels {
		end := at + len(parcel)
		d.single[j] = es.StreamAppend{Stream: h.entries[parcel[0]].Stream, Expect: es.Any, Events: d.events[at:end:end]}
		d.appends = append(d.appends, es.Append{Streams: d.single[j : j+1 : j+1]})
		at = end
	}
	return d.config.Events.AppendEach(ctx, d.appends)
}

// appendOne appends a single item.
func (d *desk) appendOne(ctx context.Context, h *hand, i int) (es.Appended, error) {
	m := h.entries[i].Message
	return d.config.Events.Append(ctx, es.AppendTo(m.Stream, es.Any, m))
}

// place notes where items were stored.
func (d *desk) place(items []int, a es.Appended) {
	for j, i := range items {
		d.items[i].fate, d.items[i].place = fateStored, a.Places[j]
	}
}

// sort lists the items that are stored, in the order in which they stand in the event store.
func (d *desk) sort() {
	d.sorted = d.sorted[:0]
	for i := range d.items {
		if d.items[i].fate == fateStored {
			d.sorted = append(d.sorted, i)
		}
	}
	d.sortByPosition()
}

func (d *desk) sortByPosition() {
	slices.SortFunc(d.sorted, func(i, j int) int { return cmp.Compare(d.items[i].place.Position, d.items[j].place.Position) })
}

// load reads back what is sorted: an append tells the places of its events, and not when they were recorded. An item that
// cannot be read has an error.
func (d *desk) load(ctx context.Context, h *hand) {
	const gap = 16 // of positions, up to which it is cheaper to read on than to begin another read
	for rest := d.sorted; len(rest) > 0; {
		n := 1
		for n < len(rest) && d.items[rest[n]].place.Position-d.items[rest[n-1]].place.Position <= gap {
			n++
		}
		d.loadRun(ctx, h, rest[:n])
		rest = rest[n:]
	}
}

func (d *desk) loadRun(ctx context.Context, h *hand, run []int) {
	first, last := d.items[run[0]].place.Position, d.items[run[len(run)-1]].place.Position
	next := 0
	for m, err := range d.config.Events.Read(ctx, es.Query{After: first - 1, UpTo: last, Unsettled: true}) {
		if err != nil {
			for _, i := range run {
				d.items[i].err = fmt.Errorf("read back: %w", err)
			}
			return
		}
		for next < len(run) && d.items[run[next]].place.Position < m.Position {
			next++
		}
		if next < len(run) && d.items[run[next]].place.Position == m.Position {
			d.items[run[next]].stored = m
		}
	}
	for _, i := range run {
		it := &d.items[i]
		if it.stored == nil { // its stream was truncated or deleted meanwhile; it was promised to be published all the same
			it.stored = h.entries[i].Clone()
			it.stored.Version, it.stored.Position = it.place.Version, it.place.Position
		}
	}
}

// topic asks where a message goes. An answer that is no topic, or none, fails it for good: asking again does not help.
func (d *desk) topic(m *es.Message) (topic string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("find its topic: %w", &es.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	topic = d.config.Topic(m)
	if err := es.ValidateName("topic", topic); err != nil {
		return "", fmt.Errorf("find its topic: %w", err)
	}
	return topic, nil
}
