package estest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ack is an event that a writer was told is appended, or why the writer gave up.
type ack struct {
	ID       string    `json:"id,omitempty"`
	Stream   string    `json:"stream,omitempty"`
	Name     string    `json:"name,omitempty"`
	Tags     []string  `json:"tags,omitempty"`
	Version  int64     `json:"version,omitempty"`
	Position int64     `json:"position,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Err      string    `json:"err,omitempty"`
}

// writeAtRandom makes appends of every kind: of one event and of several, to one stream and to several, alone and in company,
// with expectations and conditions that hold and that do not. It returns what was acknowledged.
func writeAtRandom(ctx context.Context, store es.EventStore, seed, appends int) []ack {
	random := rand.New(rand.NewPCG(uint64(seed), 13))
	var acks []ack
	taken := func(a es.Append, done es.Appended, at time.Time) {
		i := 0
		for _, s := range a.Streams {
			for _, m := range s.Events {
				p := done.Places[i]
				acks = append(acks, ack{m.ID.String(), m.Stream, m.Name, m.Tags, p.Version, p.Position, at, ""})
				i++
			}
		}
	}
	for n := range appends {
		as := []es.Append{randomAppend(random, seed)}
		if n%5 == 4 {
			as = append(as, randomAppend(random, seed), randomAppend(random, seed))
		}
		var outcomes []es.Outcome
		if len(as) == 1 {
			done, err := store.Append(ctx, as[0])
			outcomes = []es.Outcome{{Appended: done, Err: err}}
		} else {
			outcomes = store.AppendEach(ctx, as)
		}
		at := time.Now()
		if len(outcomes) != len(as) {
			return append(acks, ack{Err: fmt.Sprintf("%d appends have %d outcomes", len(as), len(outcomes))})
		}
		for i, o := range outcomes {
			switch {
			case o.Err == nil:
				if err := checkPlaces(as[i], o.Appended); err != nil {
					return append(acks, ack{Err: err.Error()})
				}
				taken(as[i], o.Appended, at)
			case !errors.Is(o.Err, es.ErrConflict):
				return append(acks, ack{Err: fmt.Sprintf("append %d of writer %d: %v", n, seed, o.Err)})
			}
		}
	}
	return acks
}

func randomAppend(random *rand.Rand, writer int) es.Append {
	streams := []string{fmt.Sprintf("own-%d", writer), fmt.Sprintf("shared-%d", random.IntN(4)), fmt.Sprintf("other-%d", random.IntN(100))}
	random.Shuffle(len(streams), func(i, j int) { streams[i], streams[j] = streams[j], streams[i] })
	var a es.Append
	for _, stream := range streams[:1+random.IntN(len(streams))] {
		s := es.StreamAppend{Stream: stream}
		for range 1 + random.IntN(3) {
			m := made(stream, fmt.Sprintf("N%d", random.IntN(4)), fmt.Sprintf("w:%d", writer))
			if random.IntN(2) == 0 {
				m.Tags = append(m.Tags, "odd")
			}
			s.Events = append(s.Events, m)
		}
		switch random.IntN(8) {
		case 0:
			s.Expect = es.Exactly(random.Int64N(30)) // rarely right
		case 1:
			s.Expect = es.NoStream
		}
		a.Streams = append(a.Streams, s)
	}
	if random.IntN(6) == 0 {
		a.Unless = []es.Condition{{Match: []es.Criterion{{Names: []string{"N3"}}}, Seen: random.IntN(3)}}
	}
	return a
}

// followed is what a reader of the global order saw.
type followed struct {
	seen  []sighting
	pages int
	err   error
}

type sighting struct {
	*es.Message
	at time.Time
}

// follow reads the global order from its beginning, as a projection does: wait, read a page up to the head, move the checkpoint
// to the last event of a full page, and to the head otherwise. It ends when written is closed and end is behind it.
func follow(ctx context.Context, store es.EventStore, q es.Query, written <-chan struct{}, end *int64) followed {
	var f followed
	// Once all is written there may be nothing left to wait for.
	waiting, enough := context.WithCancel(ctx)
	defer enough()
	stop := context.AfterFunc(ctx, enough)
	defer stop()
	watched := make(chan struct{})
	over := make(chan struct{})
	defer func() { close(over); <-watched }()
	go func() {
		defer close(watched)
		select {
		case <-written:
			enough()
		case <-over:
		}
	}()
	checkpoint := es.Checkpoint{}
	for {
		head, err := store.Wait(waiting, checkpoint)
		if err != nil && waiting.Err() != nil && ctx.Err() == nil {
			// All is written: what is left is read up to the last of it, which settles in finite time.
			if checkpoint.Position >= *end {
				return f
			}
			head, err = store.Wait(ctx, checkpoint)
		}
		if err != nil {
			f.err = fmt.Errorf("wait beyond %d: %w", checkpoint.Position, err)
			return f
		}
		page := q.Resume(checkpoint)
		page.UpTo = head.Position
		n := 0
		last := checkpoint.Position
		for m, err := range store.Read(ctx, page) {
			if err != nil {
				f.err = fmt.Errorf("read %+v: %w", page, err)
				return f
			}
			f.seen = append(f.seen, sighting{m, time.Now()})
			last = m.Position
			n++
		}
		f.pages++
		if q.Limit > 0 && n == q.Limit {
			checkpoint.Position, checkpoint.Incarnation = last, head.Incarnation
			continue
		}
		checkpoint = head
	}
}

// startTrouble lets a storage that can make trouble make it, until stop is called.
func startTrouble[R any](t testing.TB, ctx context.Context, storage Storage[R]) (stop func()) { //nolint:revive // t comes first
	troubled, ok := storage.(interface {
		Trouble(ctx context.Context, namespace string) error
	})
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- troubled.Trouble(ctx, Namespace) }()
	return func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the storage's own trouble: %v", err)
		}
	}
}
