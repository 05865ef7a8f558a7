package report

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// measured has a faulty peer and a bare loop that is better than we are.
func measured(t *testing.T) measure.Measurement {
	t.Helper()
	contender := func(name string, elapsed time.Duration, faults measure.Faults) measure.Contender {
		return measure.Contender{Name: name, How: "a <fake> & nothing else", Run: func(context.Context, int) (measure.Result, error) {
			return measure.Result{Elapsed: elapsed, Mallocs: 100, Bytes: 6400, Faults: faults}, nil
		}}
	}
	m, err := measure.Measure(t.Context(), measure.Workload{
		Name: "fake", Title: "work → <10 & more>", About: "It is made up.", Messages: 100,
		Contenders: []measure.Contender{
			contender(measure.Ours, time.Microsecond, measure.Faults{}),
			contender("Peer & Co", 20*time.Microsecond, measure.Faults{Lost: 3, Reordered: 7}),
			contender("bare", 500*time.Nanosecond, measure.Faults{}),
		},
		Floors: []measure.Floor{{Against: "Peer & Co", Ratio: 15, Why: "so it was decided"}, {Against: "bare", Ratio: 0.6, Why: "so it was hoped"}},
	}, measure.Plan{Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not have %q:\n%s", what, part, text)
		}
	}
}

func begin(t *testing.T) *Report {
	t.Helper()
	r, err := New(measure.Plan{Rounds: 3, Round: time.Second, Stage: measure.Stage{Dir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestChartIsWellFormed(t *testing.T) {
	t.Parallel()
	picture := chart(measured(t))
	elements := map[string]int{}
	for d := xml.NewDecoder(bytes.NewReader(picture)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, picture)
		}
		if start, ok := token.(xml.StartElement); ok {
			elements[start.Name.Local]++
		}
	}
	if elements["svg"] != 1 || elements["rect"] != 3 || elements["line"] != 3 || elements["title"] != 1 {
		t.Errorf("it has the elements %v, want a bar for each of 3 contenders", elements)
	}
	contains(t, "the chart", string(picture), "prefers-color-scheme: dark", "Peer &amp; Co", "ours 20.0x better", "3% lost", "ours 2.00x worse",
		`<rect class="ours" x="220"`)
}

func TestTableHasRatiosFirst(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := begin(t)
	if err := r.WriteHeader(&out); err != nil {
		t.Fatal(err)
	}
	if err := r.Add(&out, measured(t)); err != nil {
		t.Fatal(err)
	}
	contains(t, "the table", out.String(), "3 of about 1s", "20.0x (20.0 to 20.0)", "of 300: 9 lost, 21 out of order",
		"below the floor: 0.5 times bare, the floor is 0.6")
	if ratio, time := strings.Index(out.String(), "20.0x"), strings.Index(out.String(), "200 (200 to 200)"); ratio < 0 || ratio > time {
		t.Errorf("the ratio does not come before the time:\n%s", &out)
	}
}

func TestFloorsAreWrittenOneALine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := WriteFloors(&out, measured(t)); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 2 {
		t.Errorf("there are %d lines, want 2", lines)
	}
	contains(t, "the text", out.String(), "20.0x (20.0 to 20.0) against Peer & Co, floor 15; 10.0 ns a message, 1.00 allocations")
}

func TestFilesOfAReport(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	r := begin(t)
	if err := r.Add(io.Discard, measured(t)); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	page := read(t, dir, "README.md")
	contains(t, "the page", page, "![work → <10 & more>](fake.svg)", "[work → <10 & more>](#fake)", "\n## fake\n",
		"of 300: 9 lost, 21 out of order", "go run ./bench -only fake", "floor is 15 times Peer & Co", "| 20.0x | 15x |")
	for line := range strings.Lines(page) {
		if len(line) > 150 && !strings.HasPrefix(line, "|") {
			t.Errorf("the line is too long: %s", line)
		}
	}
	if !strings.HasPrefix(read(t, dir, "fake.svg"), "<svg ") {
		t.Error("there is no chart")
	}
	var figures jsonReport
	if err := json.Unmarshal([]byte(read(t, dir, "results.json")), &figures); err != nil {
		t.Fatal(err)
	}
	peer := figures.Workloads[0].Contenders[1]
	if peer.Ratio.Median != 20 || peer.Lost != 9 || len(peer.Values) != 3 || figures.Environment.Cores == 0 || figures.Environment.Go == "" {
		t.Errorf("the figures are %+v in %+v", peer, figures.Environment)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0.00", 0.034: "0.03", 9.99: "9.99", 55.55: "55.5", 739.6: "740", 4051: "4051", 14786.4: "14,786", 1002003: "1,002,003"} {
		if got := figure(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}

func TestProcessorAndLoadAreReadAsLinuxHasThem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if got := processor(write("cpuinfo", "processor\t: 0\nmodel name\t: Fast One\nflags\t\t: fpu\n")); got != "Fast One" {
		t.Errorf("the processor is %q", got)
	}
	if got := load(write("loadavg", "1.25 0.5 0.1 2/100 7\n")); got != "1.25" {
		t.Errorf("the load is %q", got)
	}
	none := filepath.Join(dir, "none")
	if processor(none) == "" || load(none) != "" {
		t.Errorf("elsewhere they are %q and %q", processor(none), load(none))
	}
}
