package main

import (
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
)

// TestReadModelsAreRebuiltWhileMoneyIsMoved rebuilds both projections, again and again, beside two programs that clients use all the while.
func TestReadModelsAreRebuiltWhileMoneyIsMoved(t *testing.T) {
	t.Parallel()
	servicetest.ForEachDurableStore(t, func(t *testing.T, where string) {
		b := &branch{T: t, where: where}
		projections := []string{"overview", "statements"}
		var left atomic.Int32 // projections that are being rebuilt
		left.Add(int32(len(projections)))
		b.audit(program.Kill(t, servicetest.Killing{
			Setups: b.programs(), Clients: clients,
			Client: func(c *servicetest.Client) {
				b.open(c)
				if c.Number < len(projections) {
					defer left.Add(-1)
					b.rebuild(projections[c.Number])
					return
				}
				for n := 0; n < least || left.Load() > 0; n++ {
					b.move(c, n)
				}
			},
		}))
	})
}

// rebuild rebuilds a projection three times.
func (b *branch) rebuild(name string) {
	for range 3 {
		out, err := exec.CommandContext(b.Context(), program.Binary, "-store", b.where, "-rebuild", name).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "switched: true") {
			b.Errorf("rebuild %s: %v\n%s", name, err, out)
		}
	}
}

func TestARebuildOfNothing(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), program.Binary, "-store", "memory:", "-rebuild", "nothing").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `no projection "nothing"`) {
		t.Errorf("it ends with %v and says %s", err, out)
	}
}
