package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// reader is a reader of the global order that keeps a checkpoint.
type reader struct {
	*hostile

	db    *postgres.DB
	query es.Query
	pause time.Duration // between the steps

	stop  context.CancelFunc
	ended chan struct{}
	err   error

	mu       sync.Mutex
	at       es.Checkpoint
	advanced chan struct{}
	seen     []place
	failures int // calls that found no server
}

type place struct {
	position, version int64
	stream            string
}

// ofEverything is how many readers, the first ones, read everything and are to be close behind.
const ofEverything = 2

// readers starts readers: on a straight way, on a way with delays, and such of which only the connection is delayed that looks at the end of
// the log.
func (h *hostile) readers(delayed string) []*reader {
	h.Helper()
	straight := h.open(postgres.Config{URL: h.url})
	late := h.open(postgres.Config{URL: delayed})
	lateEnd := h.open(postgres.Config{URL: h.url, DirectURL: delayed})
	var readers []*reader
	for _, r := range []*reader{
		{db: straight},
		{db: late},
		{db: straight, query: es.Query{Limit: 1}},
		{db: late, query: es.Query{Category: "cat1"}},
		{db: late, query: es.Query{Names: []string{"Name1", "Name3"}, Limit: 7}},
		{db: late, query: es.Query{Limit: 1000}, pause: 100 * time.Millisecond},
		{db: lateEnd},
		{db: lateEnd, query: es.Query{Tags: []string{"tag:2"}}, pause: 30 * time.Millisecond},
		{db: lateEnd, query: es.Query{Any: []es.Criterion{{Tags: []string{"tag:1"}}, {Names: []string{"Name0"}}}, Limit: 20}},
	} {
		ctx, stop := context.WithCancel(context.WithoutCancel(h.Context()))
		r.hostile, r.stop, r.ended, r.advanced = h, stop, make(chan struct{}), make(chan struct{})
		go func() {
			defer close(r.ended)
			r.err = r.run(ctx)
		}()
		h.Cleanup(func() {
			stop()
			<-r.ended
		})
		readers = append(readers, r)
	}
	return readers
}

func (h *hostile) open(config postgres.Config) *postgres.DB {
	h.Helper()
	db, err := postgres.Open(h.Context(), config)
	h.must(err)
	h.Cleanup(func() {
		if err := db.Close(); err != nil {
			h.Errorf("close: %v", err)
		}
	})
	return db
}

func (r *reader) run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := r.step(ctx)
		switch {
		case errors.Is(err, postgres.ErrUnavailable):
			r.failures++
			<-time.After(5 * time.Millisecond)
		case err != nil && ctx.Err() == nil:
			return err
		}
		if r.pause > 0 {
			<-time.After(r.pause)
		}
	}
	return nil
}

// step waits for what is new and reads some of it.
func (r *reader) step(ctx context.Context) error {
	head, err := r.db.Events().Wait(ctx, r.at)
	if err != nil {
		return err
	}
	q := r.query.Resume(r.at)
	q.UpTo = head.Position
	var seen []place
	for m, err := range r.db.Events().Read(ctx, q) {
		if err != nil {
			return err // what came of it comes again
		}
		seen = append(seen, place{m.Position, m.Version, m.Stream})
	}
	if r.query.Limit > 0 && len(seen) == r.query.Limit {
		head.Position = seen[len(seen)-1].position
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, seen...)
	r.at = head
	close(r.advanced)
	r.advanced = make(chan struct{})
	return nil
}

func (r *reader) reached() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at.Position
}

// end waits until the reader has come to a position, as long as it goes on, and ends it.
func (r *reader) end(last int64) {
	r.Helper()
	defer func() {
		r.stop()
		<-r.ended
		if r.err != nil {
			r.Errorf("reader of %+v: %v", r.query, r.err)
		}
	}()
	for {
		r.mu.Lock()
		at, advanced := r.at.Position, r.advanced
		r.mu.Unlock()
		if at >= last {
			return
		}
		select {
		case <-advanced:
		case <-r.ended:
			return
		case <-time.After(patience):
			r.Errorf("reader of %+v has come to %d and goes no further, and the last event is %d", r.query, at, last)
			return
		}
	}
}

// compare fails the test unless the reader has seen what it was to see.
func (r *reader) compare(truth []committed) {
	r.Helper()
	var want []place
	for _, c := range truth {
		if r.query.Matches(&es.Message{Stream: c.stream, Name: c.name, Tags: c.tags}) {
			want = append(want, place{c.position, c.version, c.stream})
		}
	}
	if slices.Equal(r.seen, want) {
		return
	}
	i := 0
	for i < min(len(want), len(r.seen)) && want[i] == r.seen[i] {
		i++
	}
	around := func(all []place) string { return fmt.Sprint(all[max(i-2, 0):min(i+4, len(all))]) }
	r.Errorf("reader of %+v has seen %d events where %d were committed; from the %d. on %s where there are %s", r.query, len(r.seen), len(want), i,
		around(r.seen), around(want))
}
