package eventlog_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: no goroutine of a log outlives it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
