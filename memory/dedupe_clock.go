package memory

import (
	"math"
	"time"
)

// dedupeClock tells the time since it was made, by the monotonic clock: half the size of a [time.Time], free of leaps of the wall
// clock, and half the cost of reading both clocks. What time of day that is, which is stated with each lease and hardly ever looked
// at, it derives from a reading of the wall clock that is a millisecond old at the most. So does a leap of that clock get into what
// is stated, and never into what ends.
type dedupeClock struct {
	start  time.Time
	offset time.Duration // from the start of 1970 to that of the clock, by the wall clock
	readAt time.Duration // when the wall clock was read
}

func newDedupeClock() dedupeClock {
	start := time.Now()
	return dedupeClock{start: start, offset: time.Duration(start.UnixNano())}
}

const (
	wallClockAge = time.Millisecond // how old a reading of the wall clock gets
	endOfTime    = math.MaxInt64    // in the year 2262; what would end later ends then
)

// now returns the time since the clock was made.
func (c *dedupeClock) now() time.Duration { return time.Since(c.start) }

// wall returns the offset of the wall clock, for a reading of now that was just made.
func (c *dedupeClock) wall(now time.Duration) time.Duration {
	if now-c.readAt >= wallClockAge {
		both := time.Now()
		c.readAt = both.Sub(c.start)
		c.offset = time.Duration(both.UnixNano()) - c.readAt
	}
	return c.offset
}

// end returns when a lease ends that begins now, and the time of day to state for it. That is a whole microsecond, so that the time
// its holder is told is the very time that the lease ends.
func (c *dedupeClock) end(now, lease time.Duration) (until time.Duration, stated time.Time) {
	offset := c.wall(now)
	end := offset + now
	end += min(lease, endOfTime-end)
	end -= end % time.Microsecond
	return end - offset, timeOfDay(end)
}

// state returns the time of day at which a lease ends. It is rounded, because the two clocks are not read at the very same time.
func (c *dedupeClock) state(now, until time.Duration) time.Time {
	return timeOfDay((c.wall(now) + until).Round(time.Microsecond))
}

// timeOfDay returns the time that is so long after the start of 1970, to the microsecond.
func timeOfDay(d time.Duration) time.Time { return time.UnixMicro(d.Microseconds()).UTC() }
