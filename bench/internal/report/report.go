// Package report writes down what was measured: as text, as Markdown with charts, and as JSON.
package report

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// Report is what was measured in one run.
type Report struct {
	environment  environment
	plan         measure.Plan
	measurements []measure.Measurement
}

// New begins a report. It looks at the disk, where something is to be measured on one.
func New(plan measure.Plan) (*Report, error) {
	r := &Report{environment: here(), plan: plan}
	if plan.Stage.Dir != "" {
		disk, err := lookAtDisk(plan.Stage.Dir)
		if err != nil {
			return nil, err
		}
		r.environment.Disk, r.environment.Postgres = disk, installedPostgres()
	}
	return r, nil
}

// WriteHeader writes what the table has to be read with: versions and hardware.
func (r *Report) WriteHeader(out io.Writer) error {
	for _, line := range r.environment.lines() {
		if _, err := fmt.Fprintf(out, "%-12s %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%-12s %s\n", "rounds", r.rounds())
	return err
}

func (r *Report) rounds() string {
	return fmt.Sprintf("%d of about %v for each contender, in turn; medians, with the least and the most",
		r.plan.Rounds, r.plan.Round)
}

// Add adds a measurement, and writes its part of the table.
func (r *Report) Add(out io.Writer, m measure.Measurement) error {
	r.measurements = append(r.measurements, m)
	if _, err := fmt.Fprintf(out, "\n%s\n", m.Workload.Title); err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	columns := fmt.Sprintf("theirs ÷ ours\t%s %s\tallocations\tbytes\t", m.Workload.Unit, m.Workload.Unit.Of())
	if looked(m) {
		columns += "median\t99th percentile\t"
	}
	fmt.Fprintf(table, "%s  contender\t\n", columns)
	for i, s := range m.Series {
		ratio := "-"
		if i > 0 {
			ratio = times(m.Ratio(s))
		}
		cells := []string{ratio, spread(s.Value()), allocations(m, s), allocated(m, s)}
		if looked(m) {
			cells = append(cells, lap(s.Medians), lap(s.Slowest))
		}
		fmt.Fprintf(table, "%s\t  %s\t\n", strings.Join(cells, "\t"), s.Contender.Name+wrong(m, s))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, f := range m.Failures(1) {
		if _, err := fmt.Fprintf(out, "below the floor: %s\n", f.What); err != nil {
			return err
		}
	}
	return nil
}

// WriteFloors writes a line for each floor of a measurement: what was measured, and what the floor is.
func WriteFloors(out io.Writer, m measure.Measurement) error {
	ours := m.Series[0]
	for _, f := range m.Workload.Floors {
		for _, s := range m.Series {
			if s.Contender.Name != f.Against {
				continue
			}
			text := fmt.Sprintf("%-20s %s against %s, floor %.3g; %s %s %s",
				m.Workload.Name, times(m.Ratio(s)), f.Against, f.Ratio, figure(ours.Value().Median), m.Workload.Unit, m.Workload.Unit.Of())
			if m.Workload.Unit == measure.PerMessage {
				text += fmt.Sprintf(", %.2f allocations", ours.Allocations().Median)
			}
			if looked(m) {
				text += fmt.Sprintf(", %s at the median, %s at the 99th percentile", lap(ours.Medians), lap(ours.Slowest))
			}
			if _, err := fmt.Fprintln(out, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteFiles writes README.md, results.json and a chart for each measurement to a directory.
func (r *Report) WriteFiles(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	figures, err := r.json()
	if err != nil {
		return err
	}
	files := map[string][]byte{"README.md": []byte(r.markdown()), "results.json": figures}
	for _, m := range r.measurements {
		files[m.Workload.Name+".svg"] = chart(m)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil { //nolint:gosec // documentation is for all to read
			return err
		}
	}
	return nil
}

func wrong(m measure.Measurement, s measure.Series) string {
	if !s.Faults.Any() {
		return ""
	}
	return fmt.Sprintf(" (of %d: %s)", m.Handled(s), s.Faults)
}

func times(s measure.Spread) string {
	return fmt.Sprintf("%sx (%s to %s)", figure(s.Median), figure(s.Min), figure(s.Max))
}

func spread(s measure.Spread) string {
	return fmt.Sprintf("%s (%s to %s)", figure(s.Median), figure(s.Min), figure(s.Max))
}

// looked tells whether somebody looked at how long each message took.
func looked(m measure.Measurement) bool {
	return slices.ContainsFunc(m.Series, func(s measure.Series) bool { return len(s.Medians) > 0 })
}

// lap is how long messages took; empty where nobody looked.
func lap(nanos []float64) string {
	if len(nanos) == 0 {
		return ""
	}
	d := time.Duration(measure.SpreadOf(nanos).Median)
	for precision := time.Nanosecond; precision < time.Second; precision *= 10 {
		if d < 1000*precision {
			return d.Round(precision).String()
		}
	}
	return d.Round(time.Second).String()
}

// figure writes a number with as many digits as mean something here.
func figure(v float64) string {
	switch {
	case v >= 10_000:
		return thousands(int64(math.Round(v)))
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func thousands(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// allocations and allocated are empty where memory was measured and not time.
func allocations(m measure.Measurement, s measure.Series) string {
	if m.Workload.Unit == measure.Kept {
		return ""
	}
	return figure(s.Allocations().Median)
}

func allocated(m measure.Measurement, s measure.Series) string {
	if m.Workload.Unit == measure.Kept {
		return ""
	}
	return strings.TrimSuffix(figure(s.AllocatedBytes().Median), ".00")
}
