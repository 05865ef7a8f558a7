package measure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// Plan says how thoroughly to measure.
type Plan struct {
	// Rounds is how often each contender has its turn, the odd one for the warm-up not counted.
	Rounds int
	// Round is how long a contender's turn takes, about.
	Round time.Duration
	// Patience is how long a turn may take before it is given up: a contender that has lost a message may wait for it for ever.
	// It is a minute by default.
	Patience time.Duration
	// FloorsOnly leaves out the contenders that no floor is stated against.
	FloorsOnly bool
	// Stage is where contenders that need files have them.
	Stage Stage
}

// Measurement is what was measured of a workload.
type Measurement struct {
	Workload Workload
	// Rounds and Round are how often each contender had its turn, and for how long, about, where the number of messages is not
	// fixed.
	Rounds int
	Round  time.Duration
	// Series has one for each contender that took part, ours first.
	Series []Series
}

// Series is what was measured of a contender, a figure for each round.
type Series struct {
	Contender Contender
	// Messages is how many a round had.
	Messages int
	// Values are what the workload's unit says, for a message. Mallocs and Bytes are allocations for a message.
	Values, Mallocs, Bytes []float64
	// Medians and Slowest are how many nanoseconds a message took from its beginning to its acknowledgement, at the median and at
	// the 99th percentile; empty where nobody looked.
	Medians, Slowest []float64
	// Faults are those of all rounds.
	Faults Faults
}

// ballast is what a service has in memory besides the messages of the moment, in bytes. Without, the heap of these programs is so small
// that the garbage collector runs every two milliseconds, for every contender, and it is the collector that is compared.
const ballast = 64 << 20

// Measure lets the contenders of a workload take turns.
func Measure(ctx context.Context, w Workload, plan Plan) (m Measurement, err error) {
	if err := w.Validate(); err != nil {
		return Measurement{}, err
	}
	plan.Rounds, plan.Round = max(plan.Rounds, w.LeastRounds), max(plan.Round, w.leastRound(plan))
	heap := make([]byte, ballast)
	defer runtime.KeepAlive(heap)
	m = Measurement{Workload: w, Rounds: plan.Rounds, Round: plan.Round}
	contenders, takeDown, err := Set(ctx, w.taking(plan), plan.Stage)
	if err != nil {
		return m, fmt.Errorf("%s: %w", w.Name, err)
	}
	defer func() {
		if down := takeDown(); down != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", w.Name, down))
		}
	}()
	for _, c := range contenders {
		n, err := calibrate(ctx, w, c, plan)
		if err != nil {
			return m, fmt.Errorf("%s: %s: %w", w.Name, c.Name, err)
		}
		m.Series = append(m.Series, Series{Contender: c, Messages: n})
	}
	for range plan.Rounds {
		for i := range m.Series {
			s := &m.Series[i]
			if err := s.round(ctx, w.Unit, plan); err != nil {
				return m, fmt.Errorf("%s: %s: %w", w.Name, s.Contender.Name, err)
			}
		}
	}
	return m, nil
}

// leastRound is how long a round takes at the least.
func (w Workload) leastRound(plan Plan) time.Duration {
	if plan.FloorsOnly {
		return w.LeastRound / 5
	}
	return w.LeastRound
}

// taking are the contenders that take part.
func (w Workload) taking(plan Plan) []Contender {
	if !plan.FloorsOnly {
		return w.Contenders
	}
	against := map[string]bool{Ours: true}
	for _, f := range w.Floors {
		against[f.Against] = true
	}
	var taking []Contender
	for _, c := range w.Contenders {
		if against[c.Name] {
			taking = append(taking, c)
		}
	}
	return taking
}

const firstMessages = 2_000 // of a calibration: enough for ten microseconds each, and for nobody too many

// calibrate finds how many messages fill a round. It is the warm-up as well.
func calibrate(ctx context.Context, w Workload, c Contender, plan Plan) (int, error) {
	if w.Messages > 0 {
		return w.Messages, nil
	}
	for n := firstMessages; ; {
		result, err := turn(ctx, c, n, plan)
		if err != nil {
			return 0, err
		}
		fill := int(float64(n) * float64(plan.Round) / float64(max(result.Elapsed, time.Microsecond)))
		if w.MostMessages > 0 {
			fill = min(fill, w.MostMessages)
		}
		if fill <= 3*n/2 {
			return max(fill, 1), nil
		}
		n = min(fill, 20*n) // the first ones are slow, and say little about many
	}
}

// round gives the contender its turn. What the one before left behind is collected first.
func (s *Series) round(ctx context.Context, unit Unit, plan Plan) error {
	runtime.GC()
	if s.Contender.Open != nil {
		settle(ctx)
	}
	result, err := turn(ctx, s.Contender, s.Messages, plan)
	if err != nil {
		return err
	}
	n := float64(s.Messages)
	value := float64(result.Elapsed.Nanoseconds()) / n
	switch unit {
	case Kept:
		value = float64(result.Kept) / n
	case Latency:
		value = float64(result.Median.Nanoseconds())
	case PerMessage:
	}
	if result.Median > 0 {
		s.Medians = append(s.Medians, float64(result.Median.Nanoseconds()))
		s.Slowest = append(s.Slowest, float64(result.Slowest.Nanoseconds()))
	}
	s.Values = append(s.Values, value)
	s.Mallocs = append(s.Mallocs, float64(result.Mallocs)/n)
	s.Bytes = append(s.Bytes, float64(result.Bytes)/n)
	s.Faults = s.Faults.Plus(result.Faults)
	return nil
}

// turn runs a contender. One that does not come back, not even when its context has ended, is left behind: the error ends the
// program.
func turn(ctx context.Context, c Contender, n int, plan Plan) (Result, error) {
	patience := cmp.Or(plan.Patience, time.Minute)
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%d messages took longer than %v; was one lost?", n, patience))
	defer cancel()
	type answer struct {
		result Result
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		result, err := c.Run(ctx, n)
		answers <- answer{result, err}
	}()
	select {
	case a := <-answers:
		return a.result, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-answers:
		return Result{}, errors.Join(context.Cause(ctx), a.err) // it may know more
	case <-time.After(time.Second):
		return Result{}, context.Cause(ctx)
	}
}

// Value is what a message takes, in the unit of the workload.
func (s *Series) Value() Spread { return SpreadOf(s.Values) }

// Allocations is how many allocations a message costs.
func (s *Series) Allocations() Spread { return SpreadOf(s.Mallocs) }

// AllocatedBytes is how many bytes they have.
func (s *Series) AllocatedBytes() Spread { return SpreadOf(s.Bytes) }

// Handled is how many deliveries a contender had to make in all rounds, of which its faults are some.
func (m Measurement) Handled(s Series) int64 {
	return int64(s.Messages) * int64(len(s.Values)) * int64(max(m.Workload.Deliveries, 1))
}

// Ratio is a contender's figure divided by ours, round by round: above 1 we are better.
func (m Measurement) Ratio(s Series) Spread {
	ratios := make([]float64, len(s.Values))
	for i, value := range s.Values {
		ratios[i] = value / m.Series[0].Values[i]
	}
	return SpreadOf(ratios)
}
