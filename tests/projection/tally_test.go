package projection_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

const (
	streams = 7
	name    = "tally"
	// groups is in how many documents all events are counted, whatever their stream.
	groups = 3
)

// Ticked is an event of a stream: its N-th.
type Ticked struct {
	Stream int `json:"stream"`
	N      int `json:"n"`
}

// Tally counts events. In that of a stream each event is the one after the last.
type Tally struct {
	Events int `json:"events"`
	Last   int `json:"last,omitempty"`
}

func newTypes() *es.Types {
	types := es.NewTypes()
	es.Register[Ticked](types, "Ticked")
	return types
}

// counting is a projection that counts the events of each stream, and of groups that cut across streams. It refuses an event that it has
// seen, and one before which another is missing.
func counting(c projection.Config) (*projection.Projection, error) {
	tallies := projection.NewDocuments[Tally](name)
	c.Name, c.Types = name, newTypes()
	return projection.New(c, projection.On(func(ctx context.Context, b *projection.Batch, e Ticked, m *es.Message) error {
		err := tallies.In(b).Update(ctx, m.Stream, func(t *Tally) error {
			if e.N != t.Last+1 {
				return fmt.Errorf("event %d of stream %s comes after event %d", e.N, m.Stream, t.Last)
			}
			t.Last, t.Events = e.N, t.Events+1
			return nil
		})
		if err != nil {
			return err
		}
		return tallies.In(b).Update(ctx, "group "+strconv.Itoa(e.N%groups), func(t *Tally) error {
			t.Events++
			return nil
		})
	}))
}

// source appends events.
type source struct {
	events es.EventStore
	types  *es.Types
	random *rand.Rand

	mu       sync.Mutex
	appended [streams]int
	last     es.Checkpoint
}

func newSource(events es.EventStore, random *rand.Rand) *source {
	return &source{events: events, types: newTypes(), random: random}
}

func streamName(i int) string { return fmt.Sprintf("clock-%d", i) }

// append appends a few events to one stream.
func (s *source) append(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, n := s.random.IntN(streams), 1+s.random.IntN(20)
	var ticks []any
	for j := range n {
		ticks = append(ticks, Ticked{Stream: i, N: s.appended[i] + j + 1})
	}
	a, err := s.types.AppendTo(streamName(i), es.Any, ticks...)
	if err != nil {
		return err
	}
	done, err := s.events.Append(ctx, a)
	if err != nil {
		return err
	}
	s.appended[i] += n
	s.last.Position = done.Position
	return nil
}

// check compares what was counted with what was appended.
func (s *source) check(t *testing.T, models es.ReadModels) {
	t.Helper()
	want, all := map[string]Tally{}, 0
	for i, n := range s.appended {
		if n > 0 {
			want[streamName(i)] = Tally{Events: n, Last: n}
		}
		for k := 1; k <= n; k++ {
			key := "group " + strconv.Itoa(k%groups)
			want[key] = Tally{Events: want[key].Events + 1}
		}
		all += n
	}
	got := 0
	for item, err := range es.NewModel[Tally](models, name).All(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got++
		if item.Value != want[item.Key] {
			t.Errorf("%s is %+v, want %+v", item.Key, item.Value, want[item.Key])
		}
	}
	if got != len(want) {
		t.Errorf("%d documents, want %d", got, len(want))
	}
	t.Logf("%d events were appended", all)
}
