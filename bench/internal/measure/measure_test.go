package measure_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// fake is a contender that takes so long for each message, by its own account.
func fake(name string, perMessage time.Duration) measure.Contender {
	return measure.Contender{Name: name, Run: func(_ context.Context, n int) (measure.Result, error) {
		return measure.Result{Elapsed: time.Duration(n) * perMessage, Mallocs: uint64(n), Bytes: uint64(8 * n)}, nil
	}}
}

func workload(contenders ...measure.Contender) measure.Workload {
	return measure.Workload{Name: "fake", Contenders: contenders, MostAllocations: 1}
}

func mustMeasure(t *testing.T, w measure.Workload, plan measure.Plan) measure.Measurement {
	t.Helper()
	m, err := measure.Measure(t.Context(), w, plan)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		figures []float64
		want    measure.Spread
	}{
		{[]float64{7}, measure.Spread{Median: 7, Min: 7, Max: 7}},
		{[]float64{9, 1, 5}, measure.Spread{Median: 5, Min: 1, Max: 9}},
		{[]float64{4, 1, 100, 2}, measure.Spread{Median: 3, Min: 1, Max: 100}},
	} {
		before := slices.Clone(test.figures)
		if got := measure.SpreadOf(test.figures); got != test.want {
			t.Errorf("the spread of %v is %+v, want %+v", test.figures, got, test.want)
		}
		if !slices.Equal(test.figures, before) {
			t.Errorf("the figures were changed from %v to %v", before, test.figures)
		}
	}
}

func TestContendersTakeTurns(t *testing.T) {
	t.Parallel()
	var turns []string
	note := func(name string) measure.Contender {
		return measure.Contender{Name: name, Run: func(context.Context, int) (measure.Result, error) {
			turns = append(turns, name)
			return measure.Result{Elapsed: time.Millisecond}, nil
		}}
	}
	w := workload(note(measure.Ours), note("a"), note("b"))
	w.Messages = 10
	mustMeasure(t, w, measure.Plan{Rounds: 3})
	turn := []string{measure.Ours, "a", "b"}
	if want := slices.Concat(turn, turn, turn); !slices.Equal(turns, want) {
		t.Errorf("they ran in the order %v, want %v", turns, want)
	}
}

func TestEachContenderGetsAsManyMessagesAsFillTheRound(t *testing.T) {
	t.Parallel()
	w := workload(fake(measure.Ours, 50*time.Nanosecond), fake("slow", 20*time.Microsecond), fake("glacial", time.Millisecond))
	w.MostMessages = 1_500_000
	m := mustMeasure(t, w, measure.Plan{Rounds: 1, Round: 100 * time.Millisecond})
	for i, want := range []int{1_500_000, 5_000, 100} {
		if got := m.Series[i].Messages; got < want*9/10 || got > want*11/10 {
			t.Errorf("%s has %d messages, want about %d", m.Series[i].Contender.Name, got, want)
		}
	}
}

func TestRatiosAreThoseOfARound(t *testing.T) {
	t.Parallel()
	// The machine is ten times as slow in the second round, for both.
	slow := func(name string, perMessage ...time.Duration) measure.Contender {
		turn := 0
		return measure.Contender{Name: name, Run: func(_ context.Context, n int) (measure.Result, error) {
			turn++
			return measure.Result{Elapsed: time.Duration(n) * perMessage[turn-1], Mallocs: uint64(3 * n), Bytes: uint64(48 * n)}, nil
		}}
	}
	w := workload(slow(measure.Ours, 10, 100, 20), slow("peer", 50, 500, 100))
	w.Messages, w.Deliveries = 100, 2
	m := mustMeasure(t, w, measure.Plan{Rounds: 3})
	peer := m.Series[1]
	if got, want := m.Ratio(peer), (measure.Spread{Median: 5, Min: 5, Max: 5}); got != want {
		t.Errorf("the ratio is %+v, want %+v", got, want)
	}
	if got, want := peer.Value(), (measure.Spread{Median: 100, Min: 50, Max: 500}); got != want {
		t.Errorf("a message takes %+v, want %+v", got, want)
	}
	if peer.Allocations().Median != 3 || peer.AllocatedBytes().Median != 48 || m.Handled(peer) != 600 {
		t.Errorf("allocations %v, bytes %v, messages %d", peer.Allocations(), peer.AllocatedBytes(), m.Handled(peer))
	}
}

func TestMemoryIsMeasuredByWhatIsKept(t *testing.T) {
	t.Parallel()
	keep := func(name string, kept int64) measure.Contender {
		return measure.Contender{Name: name, Run: func(context.Context, int) (measure.Result, error) {
			return measure.Result{Kept: kept}, nil
		}}
	}
	w := workload(keep(measure.Ours, 3000), keep("payloads", 2000))
	w.Unit, w.Messages = measure.Kept, 10
	m := mustMeasure(t, w, measure.Plan{Rounds: 1})
	if got := m.Ratio(m.Series[1]).Median; got != 2./3 {
		t.Errorf("the ratio is %v, want 2/3", got)
	}
}

func TestFloors(t *testing.T) {
	t.Parallel()
	loser := fake(measure.Ours, time.Microsecond)
	run := loser.Run
	loser.Run = func(ctx context.Context, n int) (measure.Result, error) {
		r, err := run(ctx, n)
		r.Faults.Lost = 2
		return r, err
	}
	peer := fake("peer", 10*time.Microsecond)
	for _, test := range []struct {
		name        string
		ours        measure.Contender
		floor       float64
		allocations float64
		margin      float64
		want        string // nothing: all is well
	}{
		{"kept", fake(measure.Ours, time.Microsecond), 10, 1, 1, ""},
		{"missed", fake(measure.Ours, time.Microsecond), 12, 1, 1, "fake: 10 times peer, the floor is 12 (12 with the margin): reason"},
		{"missed within the margin", fake(measure.Ours, time.Microsecond), 12, 1, 0.8, ""},
		{"impossible", fake(measure.Ours, time.Microsecond), 1e9, 1, 0.8, "the floor is 1e+09 (8e+08 with the margin)"},
		{"too many allocations", fake(measure.Ours, time.Microsecond), 1, 0.5, 1, "1.00 allocations a message, at most 0.50 are allowed"},
		{"a loss of our own", loser, 1, 1, 1, "fake: we did it wrong, of 30: 6 lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := workload(test.ours, peer)
			w.Messages, w.MostAllocations = 10, test.allocations
			w.Floors = []measure.Floor{{Against: "peer", Ratio: test.floor, Why: "reason"}}
			failures := mustMeasure(t, w, measure.Plan{Rounds: 3, FloorsOnly: true}).Failures(test.margin)
			if test.want == "" {
				if len(failures) > 0 {
					t.Errorf("failed: %v", failures)
				}
				return
			}
			if len(failures) != 1 || !strings.Contains(failures[0].String(), test.want) {
				t.Errorf("the failures are %v, want one with %q", failures, test.want)
			}
		})
	}
}

func TestAPeersFaultsAreReportedAndFailNothing(t *testing.T) {
	t.Parallel()
	peer := measure.Contender{Name: "peer", Run: func(_ context.Context, n int) (measure.Result, error) {
		l := measure.NewLedger(n, 1)
		for i := range n - 1 {
			l.Take(uint64(i ^ 1)) // each two exchanged, and the last one never sent
		}
		return measure.Result{Elapsed: time.Second, Faults: l.Close()}, nil
	}}
	w := workload(fake(measure.Ours, time.Microsecond), peer)
	w.Messages = 10
	m := mustMeasure(t, w, measure.Plan{Rounds: 2})
	if got, want := m.Series[1].Faults, (measure.Faults{Lost: 2, Reordered: 8}); got != want {
		t.Errorf("the peer's faults are %+v, want %+v", got, want)
	}
	if failures := m.Failures(1); len(failures) > 0 {
		t.Errorf("failed: %v", failures)
	}
}

func TestOnlyWhatTheFloorsNeedTakesPart(t *testing.T) {
	t.Parallel()
	w := workload(fake(measure.Ours, 1), fake("aside", 1), fake("peer", 1))
	w.Floors = []measure.Floor{{Against: "peer", Ratio: 1, Why: "reason"}}
	w.Messages = 1
	m := mustMeasure(t, w, measure.Plan{Rounds: 1, FloorsOnly: true})
	if len(m.Series) != 2 || m.Series[1].Contender.Name != "peer" {
		t.Errorf("%d took part: %v", len(m.Series), m.Series)
	}
}

func TestAnErrorEndsTheMeasurement(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	w := workload(fake(measure.Ours, 1), measure.Contender{Name: "peer", Run: func(context.Context, int) (measure.Result, error) {
		return measure.Result{}, broken
	}})
	for _, fixed := range []int{0, 10} {
		w.Messages = fixed
		_, err := measure.Measure(t.Context(), w, measure.Plan{Rounds: 1})
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "fake: peer") {
			t.Errorf("the error is %v, want that of the contender with its name", err)
		}
	}
}

func TestAContenderThatWaitsForWhatIsLostIsGivenUp(t *testing.T) {
	t.Parallel()
	w := workload(fake(measure.Ours, 1), measure.Contender{Name: "peer", Run: func(context.Context, int) (measure.Result, error) {
		<-t.Context().Done() // it does not look at its own context
		return measure.Result{}, nil
	}})
	w.Messages = 10
	_, err := measure.Measure(context.WithoutCancel(t.Context()), w, measure.Plan{Rounds: 1, Patience: 100 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "fake: peer: 10 messages took longer than 100ms") {
		t.Errorf("the error is %v, want one that says who took too long", err)
	}
}

func TestMistakesInAWorkload(t *testing.T) {
	t.Parallel()
	floor := func(against string) []measure.Floor {
		return []measure.Floor{{Against: against, Ratio: 1, Why: "reason"}}
	}
	ours, peer := fake(measure.Ours, 1), fake("peer", 1)
	for _, test := range []struct {
		name     string
		workload measure.Workload
		want     string
	}{
		{"nobody", measure.Workload{Floors: floor("peer")}, "the first contender"},
		{"ours not first", measure.Workload{Contenders: []measure.Contender{peer, ours}, Floors: floor("peer")}, "the first contender"},
		{"no floor", measure.Workload{Contenders: []measure.Contender{ours, peer}}, "states no floor"},
		{"twice", measure.Workload{Contenders: []measure.Contender{ours, peer, peer}, Floors: floor("peer")}, "twice"},
		{"unknown", measure.Workload{Contenders: []measure.Contender{ours, peer}, Floors: floor("per")}, `"per"`},
		{"ourselves", measure.Workload{Contenders: []measure.Contender{ours, peer}, Floors: floor(measure.Ours)}, "no other contender"},
		{
			"no reason", measure.Workload{Contenders: []measure.Contender{ours, peer}, Floors: []measure.Floor{{Against: "peer", Ratio: 1}}},
			"reason",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := measure.Measure(t.Context(), test.workload, measure.Plan{Rounds: 1}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want one with %q", err, test.want)
			}
		})
	}
}

// sink keeps what is allocated from being left out. TestStopwatchLeavesOutWhatIsBetween counts allocations of the whole process.
var sink []byte

func TestStopwatchLeavesOutWhatIsBetween(t *testing.T) { //nolint:paralleltest // see sink
	var watch measure.Stopwatch
	for range 2 {
		watch.Start()
		sink = make([]byte, 1<<20)
		watch.Stop()
		sink = make([]byte, 64<<20)
	}
	r := watch.Result(measure.Faults{Lost: 1})
	if r.Bytes < 2<<20 || r.Bytes > 32<<20 || r.Mallocs < 2 || r.Elapsed <= 0 || r.Faults.Lost != 1 {
		t.Errorf("measured %+v, want two allocations of 1 MiB", r)
	}
}
