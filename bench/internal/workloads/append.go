package workloads

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

const (
	appenders       = 64
	appenderStreams = 16 // of each
	bareSlice       = "bare slice"
)

func appendBy64() measure.Workload {
	return measure.Workload{
		Name:  "append-64",
		Title: "in-memory append from 64 goroutines, payload copied",
		About: "Each goroutine appends single events of 256 bytes to 16 streams of its own. Afterwards the log is read: every event is " +
			"there once, in the order of its goroutine, with the versions of its stream. We check an expectation and every ID besides.",
		MostMessages: 1_000_000,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Run: appendOurs, How: "EventStore.Append of memory.New()"},
			{Name: bareSlice, Run: appendBare, How: "a slice of structs behind a mutex, each with a copy of the payload"},
		},
		MostAllocations: 2,
		Floors: []measure.Floor{
			{Against: bareSlice, Ratio: 0.5, Why: "what is kept at the least; 0.7 is aimed at: 500 ns where the bare slice takes 350"},
		},
	}
}

// appender makes the events of one goroutine out of one message, which the store copies.
type appender struct {
	message *es.Message
	append  es.Append
	streams []string
	first   uint64
	count   int
}

// newAppenders share n events: each has numbers of its own, which follow each other.
func newAppenders(n int) []*appender {
	all := make([]*appender, appenders)
	first := 0
	for i := range all {
		a := &appender{message: newMessages(1)[0], first: uint64(first), count: n * (i + 1) / appenders}
		a.count -= first
		a.append = es.AppendTo("", es.Any, a.message)
		for s := range appenderStreams {
			a.streams = append(a.streams, fmt.Sprintf("%s-%d-%d", topic, i, s))
		}
		all[i] = a
		first += a.count
	}
	return all
}

// event returns the append of the i-th event of the goroutine. It is good until the following call.
func (a *appender) event(i int) es.Append {
	number(a.message, a.first+uint64(i)) //nolint:gosec // a count
	a.message.Stream = a.streams[i%len(a.streams)]
	a.append.Streams[0].Stream = a.message.Stream
	return a.append
}

// together runs one goroutine for each of the appenders, and returns an error of one of them.
func together(all []*appender, run func(a *appender) error) error {
	failed := make(chan error, len(all))
	for _, a := range all {
		go func() { failed <- run(a) }()
	}
	var first error
	for range all {
		if err := <-failed; err != nil {
			first = err
		}
	}
	return first
}

func appendOurs(ctx context.Context, n int) (measure.Result, error) {
	backend := memory.New()
	defer backend.Close()
	events := backend.Events()
	all := newAppenders(n)
	var watch measure.Stopwatch
	watch.Start()
	err := together(all, func(a *appender) error {
		for i := range a.count {
			if _, err := events.Append(ctx, a.event(i)); err != nil {
				return err
			}
		}
		return nil
	})
	watch.Stop()
	if err != nil {
		return measure.Result{}, err
	}
	faults, err := readBack(ctx, events, all)
	return watch.Result(faults), err
}

// readBack looks for every event in the log. Messages of one goroutine are of one key, so that its ledger sees the order of each.
func readBack(ctx context.Context, events es.EventStore, all []*appender) (measure.Faults, error) {
	check := newLogCheck(all)
	for m, err := range events.Read(ctx, es.Query{}) {
		if err != nil {
			return measure.Faults{}, err
		}
		if err := check.event(m.Stream, m.Version, numberOf(m.Data)); err != nil {
			return measure.Faults{}, err
		}
	}
	return check.close(), nil
}

// logCheck looks at a log: the numbers of each appender come in order, and each stream has its versions without a gap.
type logCheck struct {
	ledgers  []*measure.Ledger
	firsts   []uint64
	owners   map[string]int
	versions map[string]int64
}

func newLogCheck(all []*appender) *logCheck {
	c := &logCheck{owners: map[string]int{}, versions: map[string]int64{}}
	for i, a := range all {
		c.ledgers = append(c.ledgers, measure.NewLedger(a.count, 1))
		c.firsts = append(c.firsts, a.first)
		for _, stream := range a.streams {
			c.owners[stream] = i
		}
	}
	return c
}

func (c *logCheck) event(stream string, version int64, n uint64) error {
	owner, known := c.owners[stream]
	if !known {
		return fmt.Errorf("the log has stream %q, to which nobody appended", stream)
	}
	c.versions[stream]++
	if version != c.versions[stream] {
		return fmt.Errorf("stream %q has version %d where %d was due", stream, version, c.versions[stream])
	}
	c.ledgers[owner].Take(n - c.firsts[owner])
	return nil
}

func (c *logCheck) close() measure.Faults {
	var faults measure.Faults
	for _, ledger := range c.ledgers {
		faults = faults.Plus(ledger.Close())
	}
	return faults
}

// bareLog is the least that keeps events in order.
type bareLog struct {
	mu     sync.Mutex
	events []bareEvent
}

type bareEvent struct {
	id     uuid.UUID
	stream string
	data   []byte
}

func (l *bareLog) append(m *es.Message) {
	data := make([]byte, len(m.Data))
	copy(data, m.Data)
	l.mu.Lock()
	l.events = append(l.events, bareEvent{id: m.ID, stream: m.Stream, data: data})
	l.mu.Unlock()
}

func appendBare(_ context.Context, n int) (measure.Result, error) {
	var log bareLog
	all := newAppenders(n)
	var watch measure.Stopwatch
	watch.Start()
	err := together(all, func(a *appender) error {
		for i := range a.count {
			log.append(a.event(i).Streams[0].Events[0])
		}
		return nil
	})
	watch.Stop()
	if err != nil {
		return measure.Result{}, err
	}
	check := newLogCheck(all)
	for _, e := range log.events {
		if err := check.event(e.stream, check.versions[e.stream]+1, numberOf(e.data)); err != nil {
			return measure.Result{}, err
		}
	}
	return watch.Result(check.close()), nil
}
