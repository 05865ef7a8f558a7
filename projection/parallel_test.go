package projection_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// TestSeveralStreamsAtATimeComeToTheSame handles the same events, some of which are bad, one after the other and beside each other.
func TestSeveralStreamsAtATimeComeToTheSame(t *testing.T) {
	t.Parallel()
	for _, policy := range []projection.Policy{projection.Skip, projection.Park, projection.Stop} {
		for seed := range uint64(8) {
			outcome := func(parallel int) string {
				w := newWorld(t)
				w.config.Parallel, w.config.OnError, w.config.BatchSize = parallel, policy, 40
				random := rand.New(rand.NewPCG(seed, 1))
				for range 300 {
					stream := fmt.Sprint("a-", random.IntN(12))
					w.append(stream, Added{To: stream, N: random.IntN(9), Bad: random.IntN(60) == 0})
				}
				p := w.start()
				if policy == projection.Stop {
					<-p.Done()
				} else {
					w.await(p)
				}
				docs, err := w.backend.ReadModels().List(t.Context(), es.ListQuery{Model: "totals"})
				w.ok(err)
				parked, err := p.Parked(t.Context())
				w.ok(err)
				var result strings.Builder
				fmt.Fprint(&result, w.progress().Position, p.Err())
				for _, doc := range docs {
					fmt.Fprintf(&result, " %s=%s", doc.Key, doc.Data)
				}
				for _, stream := range parked {
					fmt.Fprintf(&result, " parked %s from %d: %d", stream.Stream, stream.Version, stream.Events)
				}
				return result.String()
			}
			if one, many := outcome(1), outcome(4); one != many {
				t.Errorf("%v, seed %d: one after the other\n%s\nbeside each other\n%s", policy, seed, one, many)
			}
		}
	}
}
