package workloads

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// eventFile is a file, or a database, with events, under measurement.
type eventFile interface {
	// append appends one event, and returns its place when it is durable.
	append(ctx context.Context, a es.Append) (es.Place, error)
	// close closes the file, and returns where it is.
	close() (path string, err error)
	// check looks at the file when it is closed, and does not ask who wrote it, and removes it. It has so many events; each stream has
	// its versions from 1 without a gap; what each caller appended is there once, in order.
	check(path string, total uint64, shares []share) error
}

// caller is one of the goroutines that append, one event at a time, each to the version that its stream has.
type caller struct {
	message  *es.Message
	append   es.Append
	streams  []string // empty: each event begins a stream
	versions []int64
	first    uint64 // number of the first event of the round
	count    int
	laps     []time.Duration
	position int64 // of the last event, as far as the caller knows
	// decide completes an append by what was decided; nil for nothing.
	decide func(ctx context.Context) error
}

// event makes the append that of the i-th event of the round.
func (c *caller) event(i int) {
	n := c.first + uint64(i) //nolint:gosec // a count
	stamp(c.message, n, time.Now())
	to := &c.append.Streams[0]
	if len(c.streams) == 0 {
		to.Stream, to.Expect = streamName(n), es.NoStream
	} else {
		k := i % len(c.streams)
		to.Stream, to.Expect = c.streams[k], es.Exactly(c.versions[k])
	}
	c.message.Stream = to.Stream
}

// acknowledged takes note of the version that the i-th event got.
func (c *caller) acknowledged(i int, version int64) error {
	want := int64(1)
	if len(c.streams) > 0 {
		k := i % len(c.streams)
		c.versions[k]++
		want = c.versions[k]
	}
	if version != want {
		return fmt.Errorf("event %d of stream %q was given version %d where %d was due", i, c.message.Stream, version, want)
	}
	return nil
}

// run appends the events of the round.
func (c *caller) run(ctx context.Context, file eventFile) error {
	began := time.Now()
	for i := range c.count {
		c.event(i)
		if c.decide != nil {
			if err := c.decide(ctx); err != nil {
				return err
			}
		}
		place, err := file.append(ctx, c.append)
		if err != nil {
			return err
		}
		if err := c.acknowledged(i, place.Version); err != nil {
			return err
		}
		c.position = place.Position
		now := time.Now()
		c.laps = append(c.laps, now.Sub(began))
		began = now
	}
	return nil
}

// appending is a file to which callers append, round by round.
type appending struct {
	file    eventFile
	callers []*caller
	total   uint64 // events in the file
	shares  []share
}

// callerStreams says to which streams callers append.
type callerStreams int

const (
	ownStreams callerStreams = iota // each to 16 of its own, in turn
	allStreams                      // each to its share of all that are stored, in turn
	newStreams                      // each event to a stream of its own
)

func newAppending(file eventFile, callers int, stored storing, kind callerStreams) *appending {
	a := &appending{file: file, total: uint64(stored.events)} //nolint:gosec // a count
	for i := range callers {
		c := &caller{message: newEvent()}
		c.append = es.AppendTo("", es.Any, c.message)
		a.callers = append(a.callers, c)
		of := map[callerStreams]int{ownStreams: callers * appenderStreams, allStreams: stored.streams}[kind]
		for k := i; k < of; k += callers {
			s := k * (stored.streams / of)
			c.streams = append(c.streams, streamName(uint64(s))) //nolint:gosec // a count
			c.versions = append(c.versions, stored.version(s))
		}
	}
	return a
}

// share is what a caller appended in a round: the numbers of the events follow each other.
type share struct {
	first uint64
	count int
}

// Run has the callers append n events.
func (a *appending) Run(ctx context.Context, n int) (measure.Result, error) {
	a.share(n)
	var watch measure.Stopwatch
	watch.Start()
	failed := make(chan error, len(a.callers))
	for _, c := range a.callers {
		go func() { failed <- c.run(ctx, a.file) }()
	}
	var err error
	for range a.callers {
		err = cmp.Or(<-failed, err)
	}
	watch.Stop()
	result := watch.Result(measure.Faults{})
	result.Median, result.Slowest = a.latency()
	return result, err
}

// share gives each caller its part of n events.
func (a *appending) share(n int) {
	shared := 0
	for i, c := range a.callers {
		c.first = a.total + uint64(shared)
		c.count = n*(i+1)/len(a.callers) - shared
		c.laps = slices.Grow(c.laps[:0], c.count)
		shared += c.count
		a.shares = append(a.shares, share{first: c.first, count: c.count})
	}
	a.total += uint64(n) //nolint:gosec // a count
}

// latency is how long an append took, at the median and at the 99th percentile.
func (a *appending) latency() (median, slowest time.Duration) {
	var laps []time.Duration
	for _, c := range a.callers {
		laps = append(laps, c.laps...)
	}
	return percentiles(laps)
}

func percentiles(laps []time.Duration) (median, slowest time.Duration) {
	slices.Sort(laps)
	return laps[len(laps)/2], laps[len(laps)*99/100]
}

// Close closes the file, and looks at all of it without the help of who wrote it.
func (a *appending) Close() error {
	path, err := a.file.close()
	if err != nil {
		return err
	}
	return a.file.check(path, a.total, a.shares)
}
