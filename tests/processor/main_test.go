package processor_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: no goroutine of a processor outlives its Stop.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
