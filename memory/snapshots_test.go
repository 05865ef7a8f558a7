package memory_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func TestLatestSnapshotWinsARace(t *testing.T) {
	t.Parallel()
	ctx, snapshots := t.Context(), memory.New().Snapshots()
	key := es.SnapshotKey{Stream: "order-7", Name: "Order", Schema: 1}
	const versions = 64
	var savers sync.WaitGroup
	for v := int64(1); v <= versions; v++ {
		savers.Go(func() {
			data := []byte{byte(v)}
			if err := snapshots.Save(ctx, es.Snapshot{SnapshotKey: key, Version: v, Time: time.Now(), Data: data}); err != nil {
				t.Errorf("save version %d: %v", v, err)
			}
			data[0] = 0 // the store has a copy
		})
	}
	savers.Wait()
	s, err := snapshots.Load(ctx, key)
	if err != nil || s.Version != versions || len(s.Data) != 1 || s.Data[0] != versions {
		t.Fatalf("loaded %+v, %v; want version %d with its data", s, err, versions)
	}
	if err := snapshots.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshots.Load(ctx, key); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("loaded after delete: %v, want ErrNotFound", err)
	}
	if err := snapshots.Save(ctx, es.Snapshot{SnapshotKey: key, Version: 1}); err != nil {
		t.Fatal(err)
	}
	if s, err := snapshots.Load(ctx, key); err != nil || s.Version != 1 {
		t.Errorf("loaded %+v, %v; want version 1, as the later one was deleted", s, err)
	}
}
