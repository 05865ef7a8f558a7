package report

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	lite "zombiezen.com/go/sqlite"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// environment is where and with what it was measured.
type environment struct {
	Date      string            `json:"date"`
	Go        string            `json:"go"`
	System    string            `json:"system"`
	Processor string            `json:"processor"`
	Cores     int               `json:"cores"`
	Load      string            `json:"load,omitempty"`
	Disk      string            `json:"disk,omitempty"`
	SQLite    string            `json:"sqlite,omitempty"`
	Postgres  string            `json:"postgresql,omitempty"`
	Modules   map[string]string `json:"modules"`
}

const (
	toolkit   = "github.com/eventsourcing-go/eventsourcing"
	watermill = "github.com/ThreeDotsLabs/watermill"
)

func here() environment {
	e := environment{
		Date:      time.Now().UTC().Format(time.DateOnly),
		Go:        runtime.Version(),
		System:    runtime.GOOS + "/" + runtime.GOARCH,
		Processor: processor("/proc/cpuinfo"),
		Cores:     runtime.GOMAXPROCS(0),
		Load:      load("/proc/loadavg"),
		SQLite:    lite.Version,
		Modules:   map[string]string{},
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return e
	}
	for _, module := range info.Deps {
		if slices.Contains(shown(), module.Path) {
			e.Modules[module.Path] = version(module)
		}
	}
	return e
}

// shown are the modules whose versions matter.
func shown() []string {
	return []string{
		toolkit, toolkit + "/sqlite", toolkit + "/postgres", watermill, "zombiezen.com/go/sqlite", "modernc.org/sqlite",
		"github.com/jackc/pgx/v5",
	}
}

// version is that of a module. One of this work tree has none.
func version(module *debug.Module) string {
	if module.Version == "" || module.Version == "v0.0.0" || module.Replace != nil {
		return "(devel)"
	}
	return module.Version
}

func (e environment) lines() [][2]string {
	lines := [][2]string{
		{"date", e.Date},
		{"go", e.Go + " " + e.System},
		{"processor", fmt.Sprintf("%s, %d cores", e.Processor, e.Cores)},
	}
	if e.Load != "" {
		lines = append(lines, [2]string{"load", e.Load + " when it began (processes that ran, on average over the last minute)"})
	}
	if e.Disk != "" {
		lines = append(lines, [2]string{"disk", e.Disk}, [2]string{"SQLite", e.SQLite})
	}
	if e.Postgres != "" {
		lines = append(lines, [2]string{"PostgreSQL", e.Postgres})
	}
	for _, path := range shown() {
		if version, known := e.Modules[path]; known {
			lines = append(lines, [2]string{"module", path + " " + version})
		}
	}
	return lines
}

// installedPostgres is the version of PostgreSQL that a stage starts; empty when there is none, or it is installed by the run itself.
func installedPostgres() string {
	found, err := pgserver.Installed(context.Background())
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0].Version
}

// processor reads the name of the processor as Linux has it; elsewhere it is the architecture.
func processor(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return runtime.GOARCH
	}
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if strings.TrimSpace(string(name)) == "model name" {
			return strings.TrimSpace(string(value))
		}
	}
	return runtime.GOARCH
}

// load reads how busy a Linux machine is.
func load(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
