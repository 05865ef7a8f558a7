package workloads_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/workloads"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// faulty are the contenders that are shown for what they do wrong.
var faulty = map[string]bool{"Watermill, not waiting": true, "Watermill, default dedupe key": true}

func TestEachContenderHandlesEachMessageOnceAndInOrder(t *testing.T) {
	t.Parallel()
	for _, w := range workloads.All() {
		for _, c := range w.Contenders {
			t.Run(w.Name+"/"+c.Name, func(t *testing.T) {
				t.Parallel()
				c, most := ready(t, w, c), 3001
				if w.Backend != "" {
					most = 100 // a commit takes as long as the disk does
				}
				if w.Unit == measure.Latency {
					most = 32 // they come at a pace
				}
				for _, n := range []int{1, min(256, most-1), most} { // less than a batch, a whole one, and several with a remainder
					r, err := c.Run(t.Context(), n)
					if err != nil {
						t.Fatal(err)
					}
					if r.Faults.Any() && !faulty[c.Name] {
						t.Errorf("of %d messages: %s", n, r.Faults)
					}
					if w.Unit != measure.Kept && r.Elapsed <= 0 || w.Unit == measure.Latency && r.Slowest < r.Median {
						t.Errorf("%d messages: measured %+v", n, r)
					}
				}
			})
		}
	}
}

func TestALoserIsCaught(t *testing.T) {
	t.Parallel()
	const n, streams = 3000, 64
	r, err := contender(t, "router-chain", "Watermill, default dedupe key").Run(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	// The payloads of a stream are alike, so that only the first of each is handled.
	if want := int64(n - streams); r.Faults.Lost != want {
		t.Errorf("found %s, want %d lost", r.Faults, want)
	}
}

func TestWorkloadsAreValid(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, w := range workloads.All() {
		if err := w.Validate(); err != nil {
			t.Error(err)
		}
		if seen[w.Name] || w.Name == "" || strings.ContainsAny(w.Name, " /,") {
			t.Errorf("%q is not a name for a file and the command line, or there twice", w.Name)
		}
		seen[w.Name] = true
		for _, c := range w.Contenders {
			if c.How == "" {
				t.Errorf("%s: nobody is told how %s is set up", w.Name, c.Name)
			}
			if faulty[c.Name] && !c.Aside {
				t.Errorf("%s: %s is what a floor may be stated against", w.Name, c.Name)
			}
		}
		for _, f := range w.Floors {
			if contender(t, w.Name, f.Against).Aside {
				t.Errorf("%s has a floor against %s, which is only shown aside", w.Name, f.Against)
			}
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	all, err := workloads.Find("")
	if err != nil || len(all) != len(workloads.All()) {
		t.Errorf("found %d workloads, %v", len(all), err)
	}
	some, err := workloads.Find("append-64, router")
	if err != nil || len(some) != 2 || some[0].Name != "router" || some[1].Name != "append-64" {
		t.Errorf("found %v, %v", some, err)
	}
	if _, err := workloads.Find("router,rooter"); err == nil || !strings.Contains(err.Error(), `"rooter"`) {
		t.Errorf("the error is %v, want one that names it", err)
	}
}

// server is that of all tests. It ends with the process.
var server = sync.OnceValues(func() (*pgserver.Server, error) {
	settings := map[string]string{"max_connections": "2000"} // contenders with 256 connections each are tested side by side
	return pgserver.Start(context.Background(), pgserver.Config{NoSync: true, Install: true, Settings: settings})
})

// ready is a contender that can run. When the test ends, it is taken down, which checks what it has left on the disk.
func ready(t *testing.T, w measure.Workload, c measure.Contender) measure.Contender {
	t.Helper()
	million := 1000
	if w.Long {
		million /= 10
	}
	stage := measure.Stage{Dir: t.TempDir(), Million: million, Postgres: server}
	set, takeDown, err := measure.Set(t.Context(), []measure.Contender{c}, stage)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := takeDown(); err != nil {
			t.Error(err)
		}
	})
	return set[0]
}

func contender(t *testing.T, workload, name string) measure.Contender {
	t.Helper()
	found, err := workloads.Find(workload)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range found[0].Contenders {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("%s has no contender %q", workload, name)
	return measure.Contender{}
}
