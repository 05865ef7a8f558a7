package roles_test

import (
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// checkOnFakeClock checks a property on a clock that goes on only while everybody waits, and then at once.
func checkOnFakeClock(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(onFakeClock{t}, property)
	})
}

// onFakeClock hides the deadline of the test from rapid: it is one of the real clock.
type onFakeClock struct{ testing.TB }

// repeat does actions in any order, several times as long as rapid does by itself: what is wrong may take many steps to show.
func repeat(t *rapid.T, actions map[string]func(*rapid.T)) {
	const longer = 5
	for range longer {
		t.Repeat(actions)
	}
}
