package middleware_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkOnFakeClock checks a property on a clock that goes on only while everybody waits, and then at once.
func checkOnFakeClock(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(onFakeClock{t}, property)
	})
}

// onFakeClock hides the deadline of the test from rapid: it is one of the real clock.
type onFakeClock struct{ testing.TB }

var errBoom = errors.New("boom")

func delivery(stream string) *es.Delivery {
	return &es.Delivery{Message: es.NewMessage(stream, "Ordered", nil), Topic: "order", Group: "shipping", Attempt: 1}
}

// handlerFunc is short for a handler that takes no notice of its message.
func handlerFunc(f func() error) es.Handler {
	return es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, f() })
}
