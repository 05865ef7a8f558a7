package measure_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// shop notes what becomes of the setups of its contenders.
type shop struct{ notes []string }

type setUp struct {
	*shop

	name   string
	closes error
}

func (s *setUp) Run(_ context.Context, n int) (measure.Result, error) {
	s.notes = append(s.notes, "run "+s.name)
	took := time.Duration(n) * time.Microsecond
	return measure.Result{Elapsed: took, Median: 3 * time.Microsecond, Slowest: 9 * time.Microsecond}, nil
}

func (s *setUp) Close() error {
	s.notes = append(s.notes, "close "+s.name)
	return s.closes
}

func (s *shop) contender(name string, opens, closes error) measure.Contender {
	return measure.Contender{Name: name, Open: func(_ context.Context, stage measure.Stage) (measure.Setup, error) {
		if opens != nil {
			return nil, opens
		}
		s.notes = append(s.notes, "open "+name+" in "+stage.Dir)
		return &setUp{shop: s, name: name, closes: closes}, nil
	}}
}

func TestASetupIsKeptOverTheRounds(t *testing.T) {
	t.Parallel()
	var s shop
	w := workload(s.contender(measure.Ours, nil, nil), s.contender("peer", nil, nil), fake("plain", time.Microsecond))
	w.Messages = 10
	m := mustMeasure(t, w, measure.Plan{Rounds: 2, Stage: measure.Stage{Dir: "here"}})
	turn := []string{"run " + measure.Ours, "run peer"}
	want := slices.Concat([]string{"open " + measure.Ours + " in here", "open peer in here"}, turn, turn,
		[]string{"close " + measure.Ours, "close peer"})
	if !slices.Equal(s.notes, want) {
		t.Errorf("it went %v, want %v", s.notes, want)
	}
	if got := m.Series[1]; !slices.Equal(got.Medians, []float64{3000, 3000}) || !slices.Equal(got.Slowest, []float64{9000, 9000}) {
		t.Errorf("messages took %v and %v", got.Medians, got.Slowest)
	}
	if got := m.Series[2]; got.Medians != nil || got.Slowest != nil {
		t.Errorf("one who did not look has %v and %v", got.Medians, got.Slowest)
	}
}

func TestWhatIsFoundAtTheEndIsAnError(t *testing.T) {
	t.Parallel()
	var s shop
	torn := errors.New("torn")
	w := workload(s.contender(measure.Ours, nil, nil), s.contender("peer", nil, torn))
	w.Messages = 10
	if _, err := measure.Measure(t.Context(), w, measure.Plan{Rounds: 1}); !errors.Is(err, torn) || !strings.Contains(err.Error(), "fake") {
		t.Errorf("the error is %v, want that of the setup with the workload's name", err)
	}
}

func TestWhatCannotBeSetUpTakesTheOthersDown(t *testing.T) {
	t.Parallel()
	var s shop
	full := errors.New("full")
	w := workload(s.contender(measure.Ours, nil, nil), s.contender("peer", full, nil))
	w.Messages = 10
	_, err := measure.Measure(t.Context(), w, measure.Plan{Rounds: 1})
	if !errors.Is(err, full) || !strings.Contains(err.Error(), "fake: peer") {
		t.Errorf("the error is %v, want that of the peer with its name", err)
	}
	if last := s.notes[len(s.notes)-1]; last != "close "+measure.Ours {
		t.Errorf("it went %v, want ours closed", s.notes)
	}
}

func TestAWorkloadHasTheRoundsThatItNeeds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		plan             measure.Plan
		rounds, messages int
	}{
		{measure.Plan{Rounds: 1, Round: time.Millisecond}, 3, 5000},
		{measure.Plan{Rounds: 1, Round: time.Millisecond, FloorsOnly: true}, 3, 1000},
		{measure.Plan{Rounds: 4, Round: 20 * time.Millisecond}, 4, 20_000},
	} {
		w := workload(fake(measure.Ours, time.Microsecond))
		w.LeastRounds, w.LeastRound = 3, 5*time.Millisecond
		s := mustMeasure(t, w, test.plan).Series[0]
		if len(s.Values) != test.rounds || s.Messages != test.messages {
			t.Errorf("%+v: %d rounds of %d messages, want %d of %d", test.plan, len(s.Values), s.Messages, test.rounds, test.messages)
		}
	}
}

func TestLatencyIsJudgedByItsMedian(t *testing.T) {
	t.Parallel()
	var s shop
	w := workload(s.contender(measure.Ours, nil, nil), s.contender("peer", nil, nil))
	w.Messages, w.Unit = 10, measure.Latency
	if got := mustMeasure(t, w, measure.Plan{Rounds: 1}).Series[1].Value().Median; got != 3000 {
		t.Errorf("the figure is %v ns, want the median of 3,000", got)
	}
}

func TestStageIsRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := errors.New("broken")
	var stage measure.Stage
	err := measure.WithStage(t.Context(), dir, 2000, func(s measure.Stage) error {
		stage = s
		if err := os.WriteFile(filepath.Join(s.Dir, "file"), nil, 0o600); err != nil {
			t.Error(err)
		}
		return broken
	})
	if !errors.Is(err, broken) || filepath.Dir(stage.Dir) != dir {
		t.Errorf("the stage was %q, and the error is %v", stage.Dir, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("there is %v left, %v", left, err)
	}
	for stored, want := range map[int]int{1_000_000: 2000, 500: 1, 10_000_000: 20_000} {
		if got := stage.Stored(stored); got != want {
			t.Errorf("%d stand for %d, want %d", got, stored, want)
		}
	}
}
