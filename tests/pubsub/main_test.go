package pubsub_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: no goroutine of a pub/sub outlives it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
