package memory

import "time"

// wallClock tells the time of day. It reads the clock of the system once a second and counts on from there by the monotonic clock,
// because [time.Now], which reads both, takes twice as long, and each append would wait for it under the lock. So a step of the
// system's clock is seen after a second.
type wallClock struct{ read time.Time }

// microseconds returns the time since 1970.
func (c *wallClock) microseconds() int64 {
	passed := time.Since(c.read)
	if c.read.IsZero() || passed >= time.Second {
		c.read, passed = time.Now(), 0
	}
	return c.read.Add(passed).UnixMicro()
}
