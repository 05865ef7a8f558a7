package measure

import (
	"context"
	"fmt"
	"time"
)

// Ours is the name of the toolkit's own contender. It is the first of each workload.
const Ours = "eventsourcing"

// Workload is work that several contenders do, each in its own way.
type Workload struct {
	// Name is short, for the command line and for file names.
	Name string
	// Title is the line of the table.
	Title string
	// Backend is what keeps the data, such as "SQLite"; empty for memory.
	Backend string
	// About says what is done and what is checked, in a sentence or two.
	About string
	// Unit is what is measured; [PerMessage] by default.
	Unit Unit
	// Messages fixes how many messages a round has. When it is 0 each contender gets as many as fill the round.
	Messages int
	// MostMessages bounds what fills a round, for work whose memory grows with it; 0 for no bound.
	MostMessages int
	// LeastRounds and LeastRound are what it takes at the least for a ratio that holds, whatever the plan says. Where only the
	// floors are looked at, a fifth of such a round is enough.
	LeastRounds int
	LeastRound  time.Duration
	// Long marks one that takes minutes. It is measured when it is named, or when everything is asked for.
	Long bool
	// Deliveries is how often a message is handled: once for each subscriber. 0 means once.
	Deliveries int
	// Contenders are who does it, [Ours] first.
	Contenders []Contender
	// Floors are what a change may never fall below.
	Floors []Floor
	// MostAllocations is how many allocations a message may cost us; 0 for any number. A small part of one is left for what is
	// set up once in a round.
	MostAllocations float64
}

// Unit is what is measured of a message. Less is better.
type Unit int

// The units.
const (
	// PerMessage is time: nanoseconds from one message to the next.
	PerMessage Unit = iota
	// Kept is memory: bytes that are still held when everything is done.
	Kept
	// Latency is time as well: nanoseconds from the beginning of a message to what it is there for, at the median.
	Latency
)

func (u Unit) String() string {
	if u == Kept {
		return "bytes kept"
	}
	return "ns"
}

// Of says what a figure is of.
func (u Unit) Of() string {
	if u == Latency {
		return "from beginning to end, at the median"
	}
	return "a message"
}

// Contender does the work of a workload.
type Contender struct {
	Name string
	// How says how it is set up.
	How string
	// Run does n messages, and checks that each was handled once, in order, and acknowledged. What it did wrong is in the
	// result; an error means that there is no result.
	Run func(ctx context.Context, n int) (Result, error)
	// Open, in the place of Run, sets up what is kept over all rounds of a measurement, such as a file that is filled and grows.
	Open func(ctx context.Context, s Stage) (Setup, error)
	// Aside marks one that is shown to explain another, and not needed to judge a floor.
	Aside bool
}

// Floor is the least that we have to be better than a contender by.
type Floor struct {
	Against string
	// Ratio is the contender's figure divided by ours.
	Ratio float64
	// Why says where the ratio comes from.
	Why string
}

// Validate finds mistakes in a workload: the floors are judged by names.
func (w Workload) Validate() error {
	if len(w.Contenders) == 0 || w.Contenders[0].Name != Ours {
		return fmt.Errorf("workload %q: the first contender has to be %q", w.Name, Ours)
	}
	if len(w.Floors) == 0 && w.MostAllocations == 0 {
		return fmt.Errorf("workload %q states no floor: nothing would notice when it gets slow", w.Name)
	}
	names := map[string]bool{}
	for _, c := range w.Contenders {
		if names[c.Name] {
			return fmt.Errorf("workload %q has contender %q twice", w.Name, c.Name)
		}
		names[c.Name] = true
	}
	for _, f := range w.Floors {
		if !names[f.Against] || f.Against == Ours {
			return fmt.Errorf("workload %q has a floor against %q, which is no other contender of it", w.Name, f.Against)
		}
		if f.Ratio <= 0 || f.Why == "" {
			return fmt.Errorf("workload %q has a floor against %q without a ratio or a reason", w.Name, f.Against)
		}
	}
	return nil
}
