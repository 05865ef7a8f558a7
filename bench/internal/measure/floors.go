package measure

import "fmt"

// Failure is a floor that was not kept.
type Failure struct {
	Workload string
	What     string
}

func (f Failure) String() string { return f.Workload + ": " + f.What }

// Failures judges a measurement. The margin is what noise may take from a floor: with 0.65, a floor of 20 fails below 13. What we
// did wrong ourselves is always a failure.
func (m Measurement) Failures(margin float64) []Failure {
	var failures []Failure
	fail := func(format string, args ...any) {
		failures = append(failures, Failure{Workload: m.Workload.Name, What: fmt.Sprintf(format, args...)})
	}
	ours := m.Series[0]
	if ours.Faults.Any() {
		fail("we did it wrong, of %d: %s", m.Handled(ours), ours.Faults)
	}
	most := m.Workload.MostAllocations
	if got := ours.Allocations().Median; most > 0 && got > most/margin {
		fail("%.2f allocations a message, at most %.2f are allowed (%.2f with the margin)", got, most, most/margin)
	}
	for _, floor := range m.Workload.Floors {
		s, ok := m.find(floor.Against)
		if !ok {
			fail("%s was not measured", floor.Against)
			continue
		}
		if got := m.Ratio(s).Median; got < floor.Ratio*margin {
			fail("%.3g times %s, the floor is %.3g (%.3g with the margin): %s",
				got, floor.Against, floor.Ratio, floor.Ratio*margin, floor.Why)
		}
	}
	return failures
}

func (m Measurement) find(name string) (Series, bool) {
	for _, s := range m.Series {
		if s.Contender.Name == name {
			return s, true
		}
	}
	return Series{}, false
}
