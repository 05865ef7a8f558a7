package projection_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: no goroutine of a projection outlives its Stop.
func TestMain(m *testing.M) {
	beChild() // ends the process, when it is one
	beRebuilder()
	goleak.VerifyTestMain(m)
}
