package measure

import (
	"runtime"
	"time"
)

// Result is what one run of a contender took.
type Result struct {
	// Elapsed, Mallocs and Bytes are of all messages together: time, and what was allocated on the heap.
	Elapsed time.Duration
	Mallocs uint64
	Bytes   uint64
	// Median and Slowest are how long a message took from its beginning to its acknowledgement, at the median and at the 99th
	// percentile, where the workload looks at each.
	Median, Slowest time.Duration
	// Kept is how many bytes are still held, where the workload measures that.
	Kept int64
	// Faults is what went wrong.
	Faults Faults
}

// Stopwatch measures time and allocations between Start and Stop, and adds up when it is started again. What is prepared and
// checked stays outside. Its zero value is ready to use.
type Stopwatch struct {
	result Result
	before runtime.MemStats
	began  time.Time
}

// Start starts it.
func (s *Stopwatch) Start() {
	runtime.ReadMemStats(&s.before)
	s.began = time.Now()
}

// Stop stops it.
func (s *Stopwatch) Stop() {
	s.result.Elapsed += time.Since(s.began)
	mallocs, bytes := s.before.Mallocs, s.before.TotalAlloc
	runtime.ReadMemStats(&s.before)
	s.result.Mallocs += s.before.Mallocs - mallocs
	s.result.Bytes += s.before.TotalAlloc - bytes
}

// Result returns what was measured, with the faults that were found.
func (s *Stopwatch) Result(faults Faults) Result {
	r := s.result
	r.Faults = faults
	return r
}

// Heap returns how many bytes are held, after two collections: the first empties the pools, the second frees what was in them.
func Heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) //nolint:gosec // a heap has less than 2^63 bytes
}
