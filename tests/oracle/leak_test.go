package oracle_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The detector sees a goroutine that nobody waits for, and sees it no more once it is gone. This test is not parallel:
// it must not take another test's goroutines for a leak.
func TestLeakDetector(t *testing.T) {
	before := goleak.IgnoreCurrent()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		<-stop
	}()
	if err := goleak.Find(before); err == nil {
		t.Error("a goroutine that is still running was not found")
	}
	close(stop)
	<-stopped
	if err := goleak.Find(before); err != nil {
		t.Errorf("after the goroutine ended: %v", err)
	}
}
