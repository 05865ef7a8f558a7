package estest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Clock is a clock that stands still until a test moves it. It is for the code of a program that is given its time: its method Now is a
// func() time.Time. Any number of goroutines may use it at once.
//
// The parts of the toolkit are not given a clock. They use package time, and a test moves their time in a bubble of testing/synctest, in
// which everything that waits for a time waits for the bubble's. A Clock does not move with a bubble, and can be used inside one.
type Clock struct {
	mu       sync.Mutex
	now      time.Time
	sleepers []*sleeper // by time
	waiting  noted[int] // has the number of sleepers after each change, as its last item
}

type sleeper struct {
	until time.Time
	awake chan time.Time // has room for one
}

// NewClock makes a clock that shows a time, in UTC and microseconds: the precision that every backend keeps.
func NewClock(now time.Time) *Clock { return &Clock{now: es.Timestamp(now)} }

// Now returns the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Since returns how long ago a time is, by the clock.
func (c *Clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// Advance moves the clock on, and wakes who waits for a time until then, in order. A negative duration moves it back, as the clock of a
// machine is set back, and wakes nobody.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(c.now.Add(d))
}

// Set moves the clock to a time.
func (c *Clock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(es.Timestamp(now))
}

func (c *Clock) set(now time.Time) {
	c.now = now
	woken := 0
	for _, s := range c.sleepers {
		if s.until.After(now) {
			break
		}
		s.awake <- now
		woken++
	}
	c.sleepers = slices.Delete(c.sleepers, 0, woken)
	c.waiting.add(len(c.sleepers))
}

// After returns a channel that is sent the time when the clock has moved on by a duration; at once when that is not above 0.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	return c.sleeper(d).awake
}

// Sleep returns when the clock has moved on by a duration, or when ctx ends, with its error.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	s := c.sleeper(d)
	select {
	case <-s.awake:
		return nil
	case <-ctx.Done():
		c.leave(s)
		return ctx.Err()
	}
}

func (c *Clock) sleeper(d time.Duration) *sleeper {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &sleeper{until: c.now.Add(d), awake: make(chan time.Time, 1)}
	if d <= 0 {
		s.awake <- c.now
		return s
	}
	at, _ := slices.BinarySearchFunc(c.sleepers, s, func(other, s *sleeper) int {
		if other.until.After(s.until) {
			return 1
		}
		return -1 // behind those of the same time
	})
	c.sleepers = slices.Insert(c.sleepers, at, s)
	c.waiting.add(len(c.sleepers))
	return s
}

func (c *Clock) leave(s *sleeper) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := slices.Index(c.sleepers, s); at >= 0 {
		c.sleepers = slices.Delete(c.sleepers, at, at+1)
		c.waiting.add(len(c.sleepers))
	}
}

// AwaitSleepers returns when n goroutines or more wait for the clock, by Sleep or After, so that a test moves it only then. When that
// takes longer than [Patience] the test fails.
func (c *Clock) AwaitSleepers(t testing.TB, n int) {
	t.Helper()
	counts, ok := c.waiting.await(patient(t), func(counts []int) bool { return n <= 0 || len(counts) > 0 && counts[len(counts)-1] >= n })
	if !ok {
		now := 0
		if len(counts) > 0 {
			now = counts[len(counts)-1]
		}
		t.Fatalf("waited in vain for %d to wait for the clock; there are %d", n, now)
	}
}
