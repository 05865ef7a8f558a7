package projection_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

var rebuiltEvents = flag.Int("events", 5_000, "how many events the tests of rebuilds begin with")

// rebuildVariable is the environment variable that makes the test binary a child process that rebuilds.
const rebuildVariable = "TESTS_PROJECTION_REBUILD"

// beRebuilder rebuilds in a child process, and returns at once in any other.
func beRebuilder() {
	text, ok := os.LookupEnv(rebuildVariable)
	if !ok {
		return
	}
	var j job
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		err = j.rebuild()
	}
	fmt.Fprintf(os.Stderr, "child process: %v\n", err)
	os.Exit(exitFailed)
}

// rebuild rebuilds until the process dies, at a commit, or when it is done.
func (j job) rebuild() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the test may have died
	defer cancel()
	backend, err := j.open(ctx)
	if err != nil {
		return err
	}
	p, err := counting(projection.Config{
		Events: backend.Events(), Models: &dying{ReadModels: backend.ReadModels(), job: j}, Leases: backend.Leases(),
		Owner: fmt.Sprint("process ", os.Getpid()), LeaseTTL: leaseTime, BatchSize: 200,
	})
	if err != nil {
		return err
	}
	for {
		_, err := p.Rebuild(ctx, projection.RebuildOptions{Definition: "crash"})
		switch {
		case err == nil:
			die()
		case !errors.Is(err, projection.ErrRebuilding) && !errors.Is(err, es.ErrLeaseLost):
			return err
		}
		<-time.After(leaseTime / 10) // the lease of one that was killed has to end; on a busy machine its own may end early
	}
}

// TestARebuildThatIsKilledIsGoneOnWith rebuilds in processes that are killed with kill -9 again and again, while the projection goes on and
// events are appended. Readers see what is consistent, and nothing that goes back.
func TestARebuildThatIsKilledIsGoneOnWith(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		rebuildAndKill(t, job{Path: filepath.Join(t.TempDir(), "events.db")})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		rebuildAndKill(t, job{URL: pgserver.Database(t)})
	})
}

func rebuildAndKill(t *testing.T, j job) {
	t.Helper()
	from := *seed
	if from == 0 {
		from = rand.Uint64()
	}
	t.Logf("to draw the same moments: go test ./tests/projection -run Rebuild -kills %d -events %d -seed %d", *kills, *rebuiltEvents, from)
	backend, err := j.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	random := rand.New(rand.NewPCG(from, 0))
	s := newSource(backend.Events(), random)
	for s.total() < *rebuiltEvents {
		if err := s.append(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c := projection.Config{Events: backend.Events(), Models: backend.ReadModels()}
	live, err := counting(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := live.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := live.WaitFor(t.Context(), s.last); err != nil {
		t.Fatal(err)
	}

	ended := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { watch(t, backend.ReadModels(), ended) })
	others.Go(func() { feed(t, s, ended) })
	moments := rand.New(rand.NewPCG(from, 1))
	for range *kills {
		dies, longest := draw(j, moments)
		dies.Nth = 1 + moments.Int64N(int64(*rebuiltEvents/200+10))
		if err := dies.liveAs(t.Context(), rebuildVariable, longest+5*time.Second); err != nil {
			t.Error(err)
			break
		}
	}
	last, err := counting(c)
	if err != nil {
		t.Fatal(err)
	}
	report, err := last.Rebuild(t.Context(), projection.RebuildOptions{Definition: "crash"})
	close(ended)
	others.Wait()
	if err != nil || !report.Switched {
		t.Errorf("%+v, %v", report, err)
	}
	t.Logf("the last one handled %d events, resumed: %t", report.Events, report.Resumed)
	if err := live.WaitFor(t.Context(), s.last); err != nil {
		t.Error(err)
	}
	s.check(t, backend.ReadModels())
	if err := live.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// total is how many events were appended.
func (s *source) total() (n int) {
	for _, appended := range s.appended {
		n += appended
	}
	return n
}

// watch reads all tallies at once, again and again: those of the streams and those of the groups count the same events, and never fewer than
// before.
func watch(t *testing.T, models es.ReadModels, ended <-chan struct{}) {
	t.Helper()
	var keys []string
	for i := range streams {
		keys = append(keys, streamName(i))
	}
	for i := range groups {
		keys = append(keys, "group "+strconv.Itoa(i))
	}
	before := 0
	for {
		select {
		case <-ended:
			return
		default:
		}
		docs, err := models.Load(t.Context(), name, keys...)
		if err != nil {
			t.Error(err)
			return
		}
		counts := [2]int{}
		for i, doc := range docs {
			var tally Tally
			if doc.Revision > 0 {
				if err := json.Unmarshal(doc.Data, &tally); err != nil {
					t.Error(err)
				}
			}
			counts[min(i/streams, 1)] += tally.Events
		}
		if counts[0] != counts[1] || counts[0] < before {
			t.Errorf("a reader sees %d events of streams and %d of groups, and has seen %d before", counts[0], counts[1], before)
			return
		}
		before = counts[0]
	}
}
