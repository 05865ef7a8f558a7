package middleware

import "time"

// windowSlices is into how many slices the time is cut that a window looks at.
const windowSlices = 10

// window counts the calls of the last time, in slices of it: what is older than all slices is forgotten slice by slice.
type window struct {
	slice  time.Duration
	start  time.Time // of the first slice there was
	newest int64     // the number of the slice that was added to last
	slices [windowSlices]struct{ calls, failures int }

	calls, failures int // of all slices
}

// add counts a call and returns the sums.
func (w *window) add(now time.Time, failed bool) (calls, failures int) {
	if w.start.IsZero() {
		w.start = now
	}
	number := max(int64(now.Sub(w.start)/w.slice), w.newest)
	for range min(number-w.newest, windowSlices) {
		w.newest++
		w.drop(w.newest)
	}
	w.newest = number
	slice := &w.slices[number%windowSlices]
	slice.calls++
	w.calls++
	if failed {
		slice.failures++
		w.failures++
	}
	return w.calls, w.failures
}

// drop forgets the slice whose place a number takes.
func (w *window) drop(number int64) {
	slice := &w.slices[number%windowSlices]
	w.calls -= slice.calls
	w.failures -= slice.failures
	slice.calls, slice.failures = 0, 0
}

// clear forgets everything.
func (w *window) clear() { *w = window{slice: w.slice} }
