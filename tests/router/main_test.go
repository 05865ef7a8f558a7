package router_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: no goroutine of a router outlives its Stop.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
