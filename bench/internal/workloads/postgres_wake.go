package workloads

import (
	"context"
	"errors"
	"fmt"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

const nobodyWaits = "eventsourcing, nobody waits"

// postgresWakeUps compares appends that somebody elsewhere waits for with those that nobody waits for.
func postgresWakeUps(m *models) measure.Workload {
	p := wakingDatabase{databasePlan{models: m, callers: 64}}
	return measure.Workload{
		Name:  "postgres-wake-ups-64",
		Title: "PostgreSQL: append from 64 goroutines while another handle waits for each event and reads it",
		About: "64 goroutines append single events. A second handle, which shares nothing with the first, as that of another process, waits " +
			"for what is new and reads it. It has to have read all of it at the end of each round. " + aboutDatabase,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.open, How: howPostgres + ", and EventStore.Wait and Read on another handle"},
			{Name: nobodyWaits, Open: p.ours, How: "the same without the other handle"},
		},
		Floors: []measure.Floor{
			{Against: nobodyWaits, Ratio: 0.5, Why: "the reader shares two cores with those who append and the server; 0.9 is aimed at"},
		},
	}
}

type wakingDatabase struct{ databasePlan }

func (p wakingDatabase) open(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	d, plan, err := p.copied(ctx, s)
	if err != nil {
		return nil, err
	}
	ours, err := openOurDatabase(ctx, d, 2)
	if err != nil {
		return nil, errors.Join(err, d.drop())
	}
	f, err := follow(ctx, ours.handles[1].Events())
	if err != nil {
		_, closing := ours.close()
		return nil, errors.Join(err, closing, d.drop())
	}
	first := &firstHandle{ours}
	return &woken{appending: newAppending(first, p.callers, plan, ownStreams), follower: f}, nil
}

// firstHandle appends by the first handle alone.
type firstHandle struct{ *ourDatabase }

func (h *firstHandle) append(ctx context.Context, a es.Append) (es.Place, error) {
	done, err := h.handles[0].Events().Append(ctx, a)
	if err != nil {
		return es.Place{}, err
	}
	return done.Places[0], nil
}

// follower reads what is new.
type follower struct {
	stop  context.CancelFunc
	ended chan struct{}
	err   error

	mu   sync.Mutex
	read int
	more chan struct{} // closed when more was read
}

func follow(ctx context.Context, events es.EventStore) (*follower, error) {
	at, err := events.Head(ctx)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	f := &follower{stop: stop, ended: make(chan struct{}), more: make(chan struct{})}
	go func() {
		defer close(f.ended)
		for {
			head, err := events.Wait(ctx, at)
			if err == nil {
				err = f.readUpTo(ctx, events, at, head)
			}
			if err != nil {
				f.err = err
				return
			}
			at = head
		}
	}()
	return f, nil
}

func (f *follower) readUpTo(ctx context.Context, events es.EventStore, at, head es.Checkpoint) error {
	read := 0
	for _, err := range events.Read(ctx, es.Query{UpTo: head.Position}.Resume(at)) {
		if err != nil {
			return err
		}
		read++
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read += read
	close(f.more)
	f.more = make(chan struct{})
	return nil
}

// await waits until so many events were read.
func (f *follower) await(ctx context.Context, events int) error {
	for {
		f.mu.Lock()
		read, more := f.read, f.more
		f.mu.Unlock()
		if read == events {
			return nil
		}
		if read > events {
			return fmt.Errorf("%d events were read where %d were appended", read, events)
		}
		select {
		case <-more:
		case <-f.ended:
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// woken are goroutines that append while somebody follows.
type woken struct {
	*appending

	follower *follower
	appended int
}

// Run is a round.
func (w *woken) Run(ctx context.Context, n int) (measure.Result, error) {
	result, err := w.appending.Run(ctx, n)
	w.appended += n
	if err != nil {
		return result, err
	}
	return result, w.follower.await(ctx, w.appended)
}

// Close ends both.
func (w *woken) Close() error {
	w.follower.stop()
	<-w.follower.ended
	if errors.Is(w.follower.err, context.Canceled) {
		w.follower.err = nil
	}
	return errors.Join(w.follower.err, w.appending.Close())
}
