package eshttp_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: no goroutine of a server outlives its Run.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
