package report

import (
	"encoding/json"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

type jsonReport struct {
	Environment environment    `json:"environment"`
	Rounds      int            `json:"rounds"`
	Round       string         `json:"round"`
	Workloads   []jsonWorkload `json:"workloads"`
}

type jsonWorkload struct {
	Name       string          `json:"name"`
	Title      string          `json:"title"`
	Unit       string          `json:"unit"`
	Backend    string          `json:"backend,omitempty"`
	Contenders []jsonContender `json:"contenders"`
	Floors     []jsonFloor     `json:"floors"`
}

type jsonContender struct {
	Name        string         `json:"name"`
	How         string         `json:"how"`
	Messages    int            `json:"messages"`
	Ratio       measure.Spread `json:"ratio"`
	Value       measure.Spread `json:"value"`
	Values      []float64      `json:"values"`
	Allocations measure.Spread `json:"allocations"`
	Bytes       measure.Spread `json:"bytes"`
	Medians     []float64      `json:"medians,omitempty"`
	Slowest     []float64      `json:"slowest,omitempty"`
	Lost        int64          `json:"lost"`
	Repeated    int64          `json:"repeated"`
	Reordered   int64          `json:"reordered"`
}

type jsonFloor struct {
	Against string  `json:"against"`
	Ratio   float64 `json:"ratio"`
	Why     string  `json:"why"`
}

func (r *Report) json() ([]byte, error) {
	all := jsonReport{Environment: r.environment, Rounds: r.plan.Rounds, Round: r.plan.Round.String()}
	for _, m := range r.measurements {
		w := jsonWorkload{Name: m.Workload.Name, Title: m.Workload.Title, Unit: m.Workload.Unit.String(), Backend: m.Workload.Backend}
		for _, s := range m.Series {
			w.Contenders = append(w.Contenders, jsonContender{
				Name: s.Contender.Name, How: s.Contender.How, Messages: s.Messages,
				Ratio: m.Ratio(s), Value: s.Value(), Values: s.Values, Allocations: s.Allocations(), Bytes: s.AllocatedBytes(),
				Medians: s.Medians, Slowest: s.Slowest,
				Lost: s.Faults.Lost, Repeated: s.Faults.Repeated, Reordered: s.Faults.Reordered,
			})
		}
		for _, f := range m.Workload.Floors {
			w.Floors = append(w.Floors, jsonFloor{Against: f.Against, Ratio: f.Ratio, Why: f.Why})
		}
		all.Workloads = append(all.Workloads, w)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	return append(text, '\n'), err
}
