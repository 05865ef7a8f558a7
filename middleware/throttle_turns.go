package middleware

import (
	"math/rand/v2"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

const (
	// puttingBack is the interval of messages that are put back where workers do not wait, and puttingBackBurst how many of them may
	// be put back at once.
	puttingBack      = 2 * time.Millisecond
	puttingBackBurst = 512
	// horizon is for how long a message is put back at most, unless the next turn is later than that.
	horizon = 10 * time.Second
	// fewKeys is how many keys are remembered without looking whether they are still needed.
	fewKeys = 1024
	// longest keeps sums of times within their bounds.
	longest = 1000 * time.Hour
)

// turn is when a message may be handled.
type turn struct {
	stay time.Duration // for so long the worker stays with it
	over bool          // then it is put back, and otherwise handled
	back time.Duration // for how long
}

// pace is a rate: turns that are an interval apart, of which those that were left out can be made up for within the slack.
type pace struct {
	interval, slack time.Duration
}

func newPace(interval time.Duration, burst int) pace {
	return pace{interval: interval, slack: time.Duration(min(float64(burst-1)*float64(interval), float64(longest)))}
}

// cell is all that there is to know of what is held to a pace by the generic cell rate algorithm (ITU-T Recommendation I.371,
// annex A).
type cell struct {
	next time.Time // the next turn
	last time.Time // when the last of those that were put back comes again
}

// turn returns when the next turn is: in the past when it is made up for.
func (c *cell) turn(p pace, now time.Time) time.Time {
	if earliest := now.Add(-p.slack); c.next.Before(earliest) {
		return earliest
	}
	return c.next
}

// comeBack returns for how long to put back a message that is over the pace. Those that are put back are told to come one after the
// other, an interval apart, and not all at the next turn.
func (c *cell) comeBack(p pace, now time.Time) time.Duration {
	if c.last.Before(c.next) {
		c.last = c.next
	}
	back := c.last.Sub(now)
	if most := max(horizon, c.next.Sub(now)); back > most {
		return most - rand.N(most/2)
	}
	c.last = c.last.Add(p.interval)
	return back
}

// turns gives messages their turns.
type turns struct {
	pace pace
	wait time.Duration
	key  func(*es.Delivery) string

	mu      sync.Mutex
	shared  cell // of all that have no key of their own
	keys    map[string]cell
	sweepAt int  // how many keys there are when those are dropped that are as good as new
	backs   cell // of the messages that are put back
}

func newTurns(c ThrottleConfig) *turns {
	if c.Burst <= 0 {
		c.Burst = max(int(min(c.Rate/10, 1e9)), 1)
	}
	switch {
	case c.Wait == 0 && c.Key == nil:
		c.Wait = time.Second
	case c.Wait == 0:
		c.Wait = 10 * time.Millisecond
	}
	interval := time.Duration(min(max(float64(time.Second)/c.Rate, 1), float64(longest)))
	return &turns{
		pace: newPace(interval, c.Burst), wait: max(c.Wait, 0), key: c.Key, keys: map[string]cell{}, sweepAt: fewKeys,
	}
}

// take gives a message its turn, when that is near, and says for how long to put it back otherwise.
func (t *turns) take(d *es.Delivery) turn {
	if t.key == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.takeFrom(&t.shared, time.Now())
	}
	key := t.key(d)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	c := t.keys[key]
	taken := t.takeFrom(&c, now)
	t.keys[key] = c
	t.sweep(now)
	return taken
}

func (t *turns) takeFrom(c *cell, now time.Time) turn {
	at := c.turn(t.pace, now)
	wait := max(at.Sub(now), 0)
	if wait <= t.wait {
		c.next = at.Add(t.pace.interval)
		return turn{stay: wait}
	}
	stay := t.slowDown(now)
	if t.key == nil { // then there is nothing else to do
		stay = max(stay, t.wait)
	}
	return turn{stay: stay, over: true, back: max(c.comeBack(t.pace, now)-stay, 0)}
}

// slowDown returns for how long a worker has to wait before it puts a message back.
func (t *turns) slowDown(now time.Time) time.Duration {
	p := newPace(puttingBack, puttingBackBurst)
	at := t.backs.turn(p, now)
	t.backs.next = at.Add(p.interval)
	return max(at.Sub(now), 0)
}

// sweep drops the keys that are as good as new, when they may have become many. That is O(1) for each key that came.
func (t *turns) sweep(now time.Time) {
	if len(t.keys) <= t.sweepAt {
		return
	}
	earliest := now.Add(-t.pace.slack)
	for key, c := range t.keys {
		if !c.next.After(earliest) {
			delete(t.keys, key)
		}
	}
	t.sweepAt = max(fewKeys, 2*len(t.keys))
}
