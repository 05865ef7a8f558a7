package aggregate_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: neither a repository nor a decision leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
