package component_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/examples/component"
)

func TestReadModels(t *testing.T) {
	estest.RunReadModels(t, harness{}) // J1/…, J2/…, J4/…: one test for each part of a promise
}

// harness opens a new store for each test. By embedding Minimal it claims nothing beyond the role itself.
type harness struct{ estest.Minimal }

func (harness) New(testing.TB) estest.Storage[es.ReadModels] {
	return inProcess[es.ReadModels]{func() es.ReadModels { return component.NewReadModels() }}
}

func TestPubSub(t *testing.T) {
	estest.RunPubSub(t, pubSubHarness{})
}

// pubSubHarness claims consumer groups, and so is held to what they promise.
type pubSubHarness struct{ estest.Minimal }

func (pubSubHarness) Groups() bool { return true }

func (pubSubHarness) New(testing.TB) estest.Storage[estest.PubSub] {
	return inProcess[estest.PubSub]{func() estest.PubSub { return component.NewPubSub() }}
}

// TestPubSubGivesWhatIsOverdueAlone holds the pub/sub to what the suite asks only of those that another process can use.
func TestPubSubGivesWhatIsOverdueAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := component.NewPubSub()
		defer p.Close()
		s, err := p.Subscribe(t.Context(), "order", es.SubscribeOptions{Group: "g", Lease: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for _, stream := range []string{"order-1", "order-2", "order-3"} {
			if err := p.Publish(t.Context(), es.ToCategory(es.NewMessage(stream, "OrderPlaced", nil))...); err != nil {
				t.Fatal(err)
			}
		}
		receive := func(want ...string) {
			t.Helper()
			ds := make([]es.Delivery, 9)
			n, err := s.Receive(t.Context(), ds) // more room than is needed
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range ds[:n] {
				got = append(got, fmt.Sprintf("%s attempt %d", d.Stream, d.Attempt))
			}
			if !slices.Equal(got, want) {
				t.Errorf("received %q, want %q", got, want)
			}
		}
		two := make([]es.Delivery, 2)
		if _, err := s.Receive(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		receive("order-1 attempt 2")
		receive("order-2 attempt 2")
		receive("order-3 attempt 1")
	})
}

// inProcess is the storage of a component that keeps everything in itself: nothing is left when it is closed.
type inProcess[R any] struct{ open func() R }

func (s inProcess[R]) Open(t testing.TB, _ string) R {
	t.Helper()
	role := s.open()
	t.Cleanup(func() {
		if err := s.Close(t, role); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return role
}

func (inProcess[R]) Close(t testing.TB, role R) error {
	t.Helper()
	closer, ok := any(role).(io.Closer)
	if !ok {
		t.Fatalf("%T has no Close", role)
	}
	return closer.Close()
}

func (inProcess[R]) Crash(testing.TB, R) {}
func (inProcess[R]) Address() string     { return "" }
