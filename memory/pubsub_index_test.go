package memory

import (
	"math/rand/v2"
	"testing"
)

func TestNumberIndexIsAMap(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var index numberIndex
	want := map[uint64]int32{}
	for step := range 200_000 {
		id := uint64(random.IntN(3000))
		if step%20_000 < 10_000 { // it grows and shrinks in turn
			id = uint64(random.IntN(300))
		}
		slot, at := index.find(id)
		if at != want[id] {
			t.Fatalf("step %d: %d is at %d, want %d", step, id, at, want[id])
		}
		if at != 0 {
			index.remove(slot)
			delete(want, id)
			continue
		}
		index.put(id, int32(step+1))
		want[id] = int32(step + 1)
	}
	if index.count != len(want) {
		t.Errorf("it has %d, want %d", index.count, len(want))
	}
	for id, at := range want {
		if _, got := index.find(id); got != at {
			t.Errorf("%d is at %d, want %d", id, got, at)
		}
	}
}

func TestKeysAreTidiedUp(t *testing.T) {
	t.Parallel()
	var keys orderKeys
	const gone = 10 * idleKeys
	for hash := range uint64(gone) {
		keys.tidy(keys.get(hash))
	}
	if keys.index.count > idleKeys || len(keys.all) > 4*idleKeys {
		t.Errorf("after %d keys that are gone, %d are left, in %d places", gone, keys.index.count, len(keys.all))
	}
}
