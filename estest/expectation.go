package estest

import (
	"strings"
	"sync/atomic"
	"testing"
)

// expectation is what a test owes for something that it has done: that it says what should have come of it. A test that says nothing
// cannot fail, and nobody sees that it tests nothing.
type expectation struct{ met atomic.Bool }

// expect fails a test at its end, in the line that expect is called for, unless the expectation was met. What missing returns says what is
// missing.
func expect(t testing.TB, missing func() string) *expectation {
	t.Helper()
	e := &expectation{}
	t.Cleanup(func() {
		t.Helper() // the testing package reports the line that has called Cleanup
		if !e.met.Load() && !t.Failed() && !t.Skipped() {
			t.Error(strings.TrimSuffix(missing(), "\n"))
		}
	})
	return e
}

func (e *expectation) meet() { e.met.Store(true) }

// wantsError fails a test that wants nil as an error: it would not be about what it seems to be about.
func wantsError(t testing.TB, target error, instead string) {
	t.Helper()
	if target == nil {
		t.Fatalf("the test wants an error and says nil; %s", instead)
	}
}
