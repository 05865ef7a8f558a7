package report

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// lookedAt has contenders that look at how long each message takes, on a backend.
func lookedAt(t *testing.T, unit measure.Unit) measure.Measurement {
	t.Helper()
	contender := func(name string, median time.Duration) measure.Contender {
		return measure.Contender{Name: name, How: "made up", Run: func(_ context.Context, n int) (measure.Result, error) {
			return measure.Result{Elapsed: time.Duration(n) * time.Microsecond, Median: median, Slowest: 20 * median}, nil
		}}
	}
	m, err := measure.Measure(t.Context(), measure.Workload{
		Name: "timed", Title: "timed work", About: "It is made up.", Messages: 100, Backend: "SQLite", Unit: unit,
		LeastRounds: 4, LeastRound: 2 * time.Second,
		Contenders: []measure.Contender{contender(measure.Ours, 123456*time.Nanosecond), contender("bare", 61728*time.Nanosecond)},
		Floors:     []measure.Floor{{Against: "bare", Ratio: 0.4, Why: "so it was hoped"}},
	}, measure.Plan{Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLatencyStandsBesideTheRate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var table, floors bytes.Buffer
	r := begin(t)
	m := lookedAt(t, measure.PerMessage)
	for _, step := range []func() error{
		func() error { return r.Add(io.Discard, measured(t)) },
		func() error { return r.Add(&table, m) },
		func() error { return WriteFloors(&floors, m) },
		func() error { return r.WriteFiles(dir) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	contains(t, "the table", table.String(), "ns a message", "median  99th percentile", "123µs", "2.47ms", "61.7µs", "1.23ms")
	contains(t, "the text", floors.String(), "1000 ns a message", "123µs at the median, 2.47ms at the 99th percentile")
	page := read(t, dir, "README.md")
	contains(t, "the page", page, "\n### In memory\n", "\n### SQLite\n", "| ns a message | allocations | bytes | median | 99th percentile |",
		"| 123µs | 2.47ms | nothing |", "\n- Here it is 4 rounds of 100 messages.\n", "| ns a message | allocations | bytes | what went wrong |")
	var figures jsonReport
	if err := json.Unmarshal([]byte(read(t, dir, "results.json")), &figures); err != nil {
		t.Fatal(err)
	}
	timed := figures.Workloads[1]
	if timed.Backend != "SQLite" || len(timed.Contenders[0].Medians) != 4 || timed.Contenders[0].Slowest[0] != 20*123456 {
		t.Errorf("the figures are %+v", timed)
	}
}

func TestLatencyCanBeWhatIsMeasured(t *testing.T) {
	t.Parallel()
	var table bytes.Buffer
	m := lookedAt(t, measure.Latency)
	if err := begin(t).Add(&table, m); err != nil {
		t.Fatal(err)
	}
	contains(t, "the table", table.String(), "ns from beginning to end, at the median", "0.50x (0.50 to 0.50)", "123,456 (123,456 to 123,456)")
	contains(t, "the chart", string(chart(m)), "ns from beginning to end, at the median, less is better")
}

func TestTheHeaderSaysWhichDiskAndWhichDatabases(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := begin(t).WriteHeader(&out); err != nil {
		t.Fatal(err)
	}
	contains(t, "the header", out.String(), "syncs of 4 KiB at the end of a file a second", "\nSQLite       3.", "\nPostgreSQL   1")
	r, err := New(measure.Plan{})
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := r.WriteHeader(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "SQLite") || strings.Contains(out.String(), "PostgreSQL ") {
		t.Errorf("nothing is measured on a disk, and the header is\n%s", &out)
	}
}

func TestTheFileSystemIsThatOfTheDeepestMount(t *testing.T) {
	t.Parallel()
	mounts := filepath.Join(t.TempDir(), "mounts")
	text := "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\nshort\n"
	if err := os.WriteFile(mounts, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{"/home": "ext4", "/tmp": "tmpfs", "/tmp/diskette": "tmpfs", "/tmp/disk/bench": "xfs", "/": "ext4"} {
		if got := fileSystem(mounts, dir); got != want {
			t.Errorf("%s is on %q, want %q", dir, got, want)
		}
	}
	if got := fileSystem(filepath.Join(t.TempDir(), "none"), "/"); got != "" {
		t.Errorf("where nothing is known it is %q", got)
	}
}
