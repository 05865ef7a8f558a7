package estest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/internal/compare"
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
	waiting  noted[int] // has the number of sleepers as its item
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
	return es.Timestamp(c.now)
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
		s.awake <- es.Timestamp(now)
		woken++
	}
	c.sleepers = slices.Delete(c.sleepers, 0, woken)
	c.waiting.set(len(c.sleepers))
}

// After returns a channel that is sent the time when the clock has moved on by a duration; at once when that is not above 0. Until then
// AwaitSleepers counts it, whether somebody receives or not; where one may give up waiting, Sleep is the better way.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	return c.sleeper(d).awake
}

// Sleep returns when the clock has moved on by a duration, or when ctx ends, with its error; at once when it has ended before. When both
// have come, it has slept.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := c.sleeper(d)
	select {
	case <-s.awake:
		return nil
	case <-ctx.Done():
		c.leave(s)
	}
	select {
	case <-s.awake:
		return nil
	default:
		return ctx.Err()
	}
}

func (c *Clock) sleeper(d time.Duration) *sleeper {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &sleeper{until: c.now.Add(d), awake: make(chan time.Time, 1)}
	if d <= 0 {
		s.awake <- es.Timestamp(c.now)
		return s
	}
	at, _ := slices.BinarySearchFunc(c.sleepers, s, func(other, s *sleeper) int {
		if other.until.After(s.until) {
			return 1
		}
		return -1 // behind those of the same time
	})
	c.sleepers = slices.Insert(c.sleepers, at, s)
	c.waiting.set(len(c.sleepers))
	return s
}

func (c *Clock) leave(s *sleeper) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := slices.Index(c.sleepers, s); at >= 0 {
		c.sleepers = slices.Delete(c.sleepers, at, at+1)
		c.waiting.set(len(c.sleepers))
	}
}

// AwaitSleepers returns when n goroutines or more wait for the clock, by Sleep or After, so that a test moves it only then. When that
// takes longer than [Patience] the test fails.
func (c *Clock) AwaitSleepers(t testing.TB, n int) {
	t.Helper()
	waiting := 0
	_, ok := c.waiting.await(patient(t), func(counts []int) bool {
		if len(counts) > 0 {
			waiting = counts[0]
		}
		return waiting >= n
	})
	if !ok {
		t.Fatalf("waited in vain for %d to wait for the clock; there are %d\n%s", n, waiting, c.describe())
	}
}

// describe writes what the clock shows, and until when is waited for it.
func (c *Clock) describe() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "the clock shows %s\n", compare.Text(es.Timestamp(c.now)))
	describeLast(&b, len(c.sleepers), func(i int) string {
		return fmt.Sprintf("waits until %s, for %v more", compare.Text(es.Timestamp(c.sleepers[i].until)), c.sleepers[i].until.Sub(c.now))
	})
	return strings.TrimSuffix(b.String(), "\n")
}
