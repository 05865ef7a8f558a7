package projection_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/projection"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

var errCut = errors.New("the connection is lost")

// cutting are read models whose calls fail now and then: before they have done anything, or after. Now and then one is paused.
type cutting struct {
	es.ReadModels

	mu     sync.Mutex
	random *rand.Rand
}

func (c *cutting) draw(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(n)
}

func (c *cutting) Commit(ctx context.Context, commit es.Commit) error {
	what := c.draw(12)
	switch what {
	case 0:
		return errCut
	case 1:
		<-time.After(time.Duration(c.draw(20)) * time.Millisecond)
	}
	if err := c.ReadModels.Commit(ctx, commit); err != nil {
		return err
	}
	if what == 2 {
		return errCut
	}
	return nil
}

func (c *cutting) Load(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
	if c.draw(50) == 0 {
		return nil, errCut
	}
	return c.ReadModels.Load(ctx, model, keys...)
}

func (c *cutting) Progress(ctx context.Context, projection string) (es.Progress, error) {
	if c.draw(20) == 0 {
		return es.Progress{}, errCut
	}
	return c.ReadModels.Progress(ctx, projection)
}

// TestEachEventHasItsEffectOnce lets one to three copies of a projection run beside each other, over stores that fail now and then, which are
// stopped and started again, while events are appended.
func TestEachEventHasItsEffectOnce(t *testing.T) {
	t.Parallel()
	backends := map[string]func(t *testing.T) es.Backend{
		"memory": func(*testing.T) es.Backend { return memory.New() },
		"SQLite": func(t *testing.T) es.Backend {
			t.Helper()
			db, err := sqlite.Open(sqlite.Config{Path: filepath.Join(t.TempDir(), "events.db")})
			if err != nil {
				t.Fatal(err)
			}
			return db
		},
	}
	for name, open := range backends {
		for copies := 1; copies <= 3; copies++ {
			for _, lease := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, copies: %d, lease: %v", name, copies, lease), func(t *testing.T) {
					t.Parallel()
					backend := open(t)
					t.Cleanup(func() { _ = backend.Close() }) // the events were counted by then
					once(t, backend, copies, lease)
				})
			}
		}
	}
}

func once(t *testing.T, backend es.Backend, copies int, lease bool) {
	t.Helper()
	from := rand.Uint64()
	if *seed != 0 {
		from = *seed
	}
	t.Logf("drawn from seed %d", from)
	s := newSource(backend.Events(), rand.New(rand.NewPCG(from, 0)))
	ended := make(chan struct{})
	var running sync.WaitGroup
	for i := range uint64(copies) {
		random := rand.New(rand.NewPCG(from, 1+i))
		c := projection.Config{
			Events: backend.Events(), Models: &cutting{ReadModels: backend.ReadModels(), random: rand.New(rand.NewPCG(from, 100+i))},
			BatchSize: 1 + random.IntN(40), CacheSize: random.IntN(5) - 1, LeaseTTL: 60 * time.Millisecond,
			Backoff: middleware.Backoff{Base: time.Millisecond, Max: 5 * time.Millisecond},
		}
		if lease {
			c.Leases = backend.Leases()
		}
		running.Go(func() {
			for range 6 {
				if err := shortLife(t.Context(), c, random); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	go func() {
		defer close(ended)
		running.Wait()
	}()
	feed(t, s, ended)
	p, err := counting(projection.Config{Events: backend.Events(), Models: backend.ReadModels()})
	if err != nil {
		t.Fatal(err)
	}
	finish(t, s, p)
	s.check(t, backend.ReadModels())
}

// shortLife runs a projection for a while.
func shortLife(ctx context.Context, c projection.Config, random *rand.Rand) error {
	p, err := counting(c)
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	select {
	case <-p.Done():
		return fmt.Errorf("it has ended by itself: %w", p.Err())
	case <-time.After(time.Duration(random.IntN(100)) * time.Millisecond):
	}
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if random.IntN(2) == 0 { // none: what is under way is broken off
		cancel()
	}
	if err := p.Stop(patient); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
