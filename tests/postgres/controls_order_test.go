package postgres_test

import (
	"context"
	"sync"
	"time"
)

// controlsFrom is how long a run has to be for the controls to take part: it is to be seen that what TestNoEventIsSkipped does to readers
// has others miss events, and they need time of the machine.
const controlsFrom = time.Minute

// control is a reader that makes a mistake.
type control struct {
	*hostile

	way  string
	feed feed
	sure bool // it is certain to miss events

	stop  context.CancelFunc
	ended chan struct{}
	err   error

	mu   sync.Mutex
	seen map[int64]bool
	at   int64
}

// controls starts the controls, when the run is long enough.
func (h *hostile) controls(url string) []*control {
	h.Helper()
	if *lasting < controlsFrom {
		return nil
	}
	var controls []*control
	for _, c := range []struct {
		way  string
		open func(context.Context, string) (feed, error)
		sure bool
	}{{"naive", openNaive, true}, {"filtered", openFiltered, false}, {"eager", openEager, false}, {"silent", openSilent, false}} {
		feed, err := c.open(h.Context(), url)
		h.must(err)
		ctx, stop := context.WithCancel(context.WithoutCancel(h.Context()))
		one := &control{hostile: h, way: c.way, feed: feed, sure: c.sure, stop: stop, ended: make(chan struct{}), seen: map[int64]bool{}}
		go func() {
			defer close(one.ended)
			one.err = one.run(ctx)
		}()
		h.Cleanup(func() {
			stop()
			<-one.ended
			_ = feed.close() // the server may have closed it
		})
		controls = append(controls, one)
	}
	return controls
}

func (c *control) run(ctx context.Context) error {
	for ctx.Err() == nil {
		positions, err := c.feed.more(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		c.mu.Lock()
		for _, p := range positions {
			c.seen[p], c.at = true, max(c.at, p)
		}
		c.mu.Unlock()
		<-time.After(2 * time.Millisecond)
	}
	return nil
}

// end gives it time to come to a position, and ends it.
func (c *control) end(last int64) {
	c.Helper()
	for deadline := time.Now().Add(10 * time.Second); c.reached() < last && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
	}
	c.stop()
	<-c.ended
	if c.err != nil {
		c.Errorf("%s reader: %v", c.way, c.err)
	}
}

func (c *control) reached() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// compare tells how many events it has missed of those that it has gone by.
func (c *control) compare(truth []committed) {
	c.Helper()
	by, missed := 0, 0
	for _, e := range truth {
		if e.position > c.at {
			break
		}
		if by++; !c.seen[e.position] {
			missed++
		}
	}
	c.Logf("%s reader: it has gone by %d of %d events, and missed %d", c.way, by, len(truth), missed)
	if missed == 0 && c.sure {
		c.Errorf("the %s reader cannot but miss events, and has missed none", c.way)
	}
}
