// Package processor_test starts and stops processors beside each other, with messages in flight.
package processor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// recorder is a publisher that notes what it is given, and lets others have their turn meanwhile.
type recorder struct {
	mu    sync.Mutex
	taken map[string][]string // stream → names
	count int
	more  chan struct{} // closed and made anew with each publish
}

func (r *recorder) Publish(ctx context.Context, pubs ...es.Publication) error {
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range pubs {
		r.taken[p.Message.Stream] = append(r.taken[p.Message.Stream], p.Message.Name)
	}
	r.count += len(pubs)
	close(r.more)
	r.more = make(chan struct{})
	return nil
}

func (r *recorder) Close() error { return nil }

// reached waits until so many messages are published.
func (r *recorder) reached(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		r.mu.Lock()
		count, more := r.count, r.more
		r.mu.Unlock()
		if count >= n {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("%d messages are published, want %d", count, n)
		}
	}
}

// TestProcessorsComeAndGo lets several processors work on one outbox, which are stopped and replaced all the time, some of them
// without patience. Each message is stored once and published once, and each stream in its order: what a stop breaks off was
// not published, and what was published is completed.
func TestProcessorsComeAndGo(t *testing.T) {
	t.Parallel()
	const rounds, beside, streams, each = 12, 3, 20, 10
	backend := memory.New()
	publisher := &recorder{taken: map[string][]string{}, more: make(chan struct{})}
	config := processor.Config{
		Outbox: backend.Outbox(), Events: backend.Events(), Publisher: publisher, InHand: 7, Lease: time.Minute,
	}
	want := map[string][]string{}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	for round := range rounds {
		running := begin(t, config, beside)
		for i := range each {
			var msgs []*es.Message
			for s := range streams {
				stream, name := fmt.Sprint("s-", s), strconv.Itoa(round*each+i)
				msgs = append(msgs, es.NewMessage(stream, name, nil))
				want[stream] = append(want[stream], name)
			}
			if err := backend.Outbox().Enqueue(t.Context(), msgs...); err != nil {
				t.Fatal(err)
			}
		}
		publisher.reached(t, round*streams*each/2) // and not all there is
		for i, p := range running {
			ctx := t.Context()
			if (round+i)%2 == 0 {
				ctx = impatient
			}
			if err := p.Stop(ctx); err != nil && !errors.Is(err, ctx.Err()) {
				t.Errorf("stop: %v", err)
			}
		}
	}
	last := begin(t, config, 1)
	publisher.reached(t, rounds*streams*each)
	if err := last[0].Stop(t.Context()); err != nil {
		t.Error(err)
	}

	for stream, names := range want {
		if got := publisher.taken[stream]; !slices.Equal(got, names) {
			t.Errorf("published of %s: %v", stream, got)
		}
		var stored []string
		for m, err := range backend.Events().Read(t.Context(), es.Query{Stream: stream}) {
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, m.Name)
		}
		if !slices.Equal(stored, names) {
			t.Errorf("stored of %s: %v", stream, stored)
		}
	}
	stats, err := backend.Outbox().Stats(t.Context())
	if err != nil || stats.Depth != 0 || stats.Dead != 0 || stats.Failures != 0 {
		t.Errorf("the outbox has %+v, %v", stats, err)
	}
}

func begin(t *testing.T, c processor.Config, n int) []*processor.AtLeastOnce {
	t.Helper()
	processors := make([]*processor.AtLeastOnce, n)
	for i := range processors {
		p, err := processor.NewAtLeastOnce(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		processors[i] = p
	}
	return processors
}
