package eventlog_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
)

// TestAStartThatTakesLongerThanTheLeaseSucceeds: the store stands still between joining the group and taking its partitions, until the
// lease is over.
func TestAStartThatTakesLongerThanTheLeaseSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		backend := &troubled{Backend: f.open()}
		late := 0
		backend.makes(func(ctx context.Context, c es.Commit) error {
			if partitionsOf(c) > 0 && c.Fence != nil && late < 2 {
				late++
				time.Sleep(time.Minute)
			}
			return backend.Backend.ReadModels().Commit(ctx, c)
		}, nil)
		sub := f.subscribe(f.logOn(backend, eventlog.Config{Lease: time.Second}), es.SubscribeOptions{Group: "g"})
		if late != 2 {
			t.Fatalf("%d commits were late, want 2", late)
		}
		f.publish("a1", "b1")
		f.consume(sub, 2)
	})
}
