package postgres_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	beWriter() // ends the process, when it is one
	goleak.VerifyTestMain(m)
}
