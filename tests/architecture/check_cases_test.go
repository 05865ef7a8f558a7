package architecture_test

import (
	"slices"
	"strings"
	"testing"
)

// room describes a package by paths below the core: "." is the core itself, "=path" is a path as it stands.
type room struct {
	path    string
	imports []string
	tests   []string
}

func expand(paths ...string) []string {
	var full []string
	for _, p := range paths {
		switch {
		case p == ".":
			full = append(full, core)
		case strings.HasPrefix(p, "="):
			full = append(full, p[1:])
		default:
			full = append(full, core+"/"+p)
		}
	}
	return full
}

// newGraph makes a graph of the given packages, in modules as the repository has them.
func newGraph(rooms ...room) graph {
	g := graph{modules: []module{{path: core, requires: []string{"github.com/google/uuid"}}}}
	for _, m := range []string{"bench", "examples", "postgres", "sqlite", "tests"} {
		g.modules = append(g.modules, module{path: core + "/" + m, requires: []string{core, "example.com/driver"}})
	}
	for _, r := range rooms {
		p := pkg{path: expand(r.path)[0], imports: expand(r.imports...), testImports: expand(r.tests...)}
		p.module = g.moduleOf(p.path)
		g.packages = append(g.packages, p)
	}
	return g
}

// legal is the house as it is meant to be.
func legal() graph {
	return newGraph(
		room{path: ".", imports: []string{"=iter", "=github.com/google/uuid", "internal/text"}, tests: []string{".", "memory", "router"}},
		room{path: "internal/text", imports: []string{"=strings"}},
		room{path: "internal/group", imports: []string{".", "internal/text"}},
		room{path: "middleware", imports: []string{".", "=log/slog"}},
		room{
			path:    "router",
			imports: []string{".", "middleware", "internal/group", "router/internal/lane"},
			tests:   []string{"memory", "estest"},
		},
		room{path: "router/internal/lane", imports: []string{"."}},
		room{path: "processor", imports: []string{"."}},
		room{path: "memory", imports: []string{".", "internal/group"}, tests: []string{"estest", "router", "processor"}},
		room{path: "estest", imports: []string{".", "=testing", "=testing/synctest"}, tests: []string{"memory"}},
		room{path: "sqlite", imports: []string{".", "=example.com/driver"}, tests: []string{"estest", "=example.com/driver/test"}},
		room{path: "postgres", imports: []string{".", "=example.com/driver"}, tests: []string{"estest"}},
		room{path: "examples/items", imports: []string{".", "router", "memory", "sqlite", "postgres", "eshttp"}},
		room{path: "bench", imports: []string{".", "router", "sqlite", "=example.com/peer"}},
		room{path: "cmd/es", imports: []string{".", "router", "memory"}},
		room{path: "tests/oracle", imports: []string{".", "=example.com/checker"}, tests: []string{"memory", "sqlite"}},
	)
}

func TestCheckAllowsTheHouse(t *testing.T) {
	t.Parallel()
	for _, breach := range check(legal()) {
		t.Error(breach)
	}
}

// Every graph here breaks one rule. Without these cases a checker that allows everything would pass.
func TestCheckForbids(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		room room
		want string
	}{
		{"ground on a backend", room{path: ".", imports: []string{"memory"}}, ". (ground) imports memory (backend)"},
		{"ground on a runtime package", room{path: ".", imports: []string{"router"}}, ". (ground) imports router (runtime)"},
		{"ground on the suite", room{path: ".", imports: []string{"estest"}}, ". (ground) imports estest (suite)"},
		{"internal on a runtime package", room{path: "internal/x", imports: []string{"router"}}, "internal/x (internal) imports router"},
		{"internal on a backend", room{path: "internal/x", imports: []string{"memory"}}, "internal/x (internal) imports memory"},
		{"backend on a runtime package", room{path: "memory", imports: []string{"eventlog"}}, "memory (backend) imports eventlog (runtime)"},
		{"backend on another", room{path: "postgres", imports: []string{"sqlite"}}, "postgres (backend) imports sqlite (backend)"},
		{"backend on the memory backend", room{path: "sqlite", imports: []string{"memory"}}, "sqlite (backend) imports memory (backend)"},
		{"backend on the suite", room{path: "memory", imports: []string{"estest"}}, "memory (backend) imports estest (suite)"},
		{"backend's inner package on a runtime package", room{path: "sqlite/internal/x", imports: []string{"router"}}, "sqlite/internal/x (backend)"},
		{"runtime package on the suite", room{path: "router", imports: []string{"estest"}}, "router (runtime) imports estest (suite)"},
		{"suite on a backend", room{path: "estest", imports: []string{"memory"}}, "estest (suite) imports memory (backend)"},
		{"adapter on a runtime package", room{path: "eswatermill", imports: []string{"router"}}, "eswatermill (adapter) imports router (runtime)"},
		{"backend on a program", room{path: "sqlite", imports: []string{"examples/items"}}, "sqlite (backend) imports examples/items (roof)"},
		{"program on another program", room{path: "bench", imports: []string{"examples/items"}}, "bench (roof) imports examples/items (roof)"},
		{"room without a floor", room{path: "util", imports: []string{"."}}, `util is on no floor: put the room "util" on one`},

		{"core on a library", room{path: "router", imports: []string{"=example.com/lib"}}, "router imports example.com/lib"},
		{"core on a library of a similar name", room{path: ".", imports: []string{"=github.com/google/uuidx"}}, ". imports github.com/google/uuidx"},
		{"core on cgo", room{path: "memory", imports: []string{"=C"}}, "memory imports C"},
		{"core's test on a library", room{path: "memory", tests: []string{"=pgregory.net/rapid"}}, "memory imports pgregory.net/rapid"},
		{"core's test on another module", room{path: "router", tests: []string{"sqlite"}}, "router imports sqlite, which is another module"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mustBreak(t, newGraph(tt.room), tt.want)
		})
	}
}

func TestCheckForbidsBackendsToEveryRuntimePackage(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"aggregate", "eshttp", "eventlog", "middleware", "processor", "projection", "router"} {
		for _, backend := range []string{"memory", "postgres", "sqlite"} {
			mustBreak(t, newGraph(room{path: user, imports: []string{backend}}), user+" (runtime) imports "+backend+" (backend)")
			mustBreak(t, newGraph(room{path: backend, imports: []string{user}}), backend+" (backend) imports "+user+" (runtime)")
		}
	}
}

func TestCheckForbidsCycles(t *testing.T) {
	t.Parallel()
	t.Run("ground and internal", func(t *testing.T) {
		t.Parallel()
		g := newGraph(
			room{path: ".", imports: []string{"internal/a"}},
			room{path: "internal/a", imports: []string{"internal/b"}},
			room{path: "internal/b", imports: []string{"."}},
		)
		mustBreak(t, g, "cycle of rooms: . -> internal/a -> internal/b -> .")
	})
	t.Run("rooms whose packages have no cycle", func(t *testing.T) {
		t.Parallel()
		g := newGraph(
			room{path: "router", imports: []string{"processor"}},
			room{path: "processor"},
			room{path: "processor/admin", imports: []string{"router"}},
		)
		mustBreak(t, g, "cycle of rooms: processor -> router -> processor")
	})
	t.Run("modules by their tests", func(t *testing.T) {
		t.Parallel()
		g := newGraph(
			room{path: "sqlite", tests: []string{"postgres"}},
			room{path: "postgres", tests: []string{"sqlite"}},
		)
		mustBreak(t, g, "cycle of modules: postgres -> sqlite -> postgres")
	})
	t.Run("modules by requirement", func(t *testing.T) {
		t.Parallel()
		g := newGraph()
		i := slices.IndexFunc(g.modules, func(m module) bool { return m.path == core })
		g.modules[i].requires = append(g.modules[i].requires, core+"/sqlite")
		mustBreak(t, g, "cycle of modules: . -> sqlite -> .")
	})
}

func TestCheckForbidsRequirementsOfTheCore(t *testing.T) {
	t.Parallel()
	g := newGraph()
	g.modules[0].requires = append(g.modules[0].requires, "go.uber.org/goleak")
	mustBreak(t, g, "the core's go.mod requires go.uber.org/goleak")
}

func TestCheckNamesEveryBreach(t *testing.T) {
	t.Parallel()
	g := newGraph(
		room{path: "router", imports: []string{"memory", "sqlite"}},
		room{path: "memory", imports: []string{"postgres"}},
	)
	// Three arrows leave their floors, two of them also leave the core, and modules that require the core close a cycle.
	if got := check(g); len(got) != 3+2+1 {
		t.Errorf("got %d breaches, want 6:\n%s", len(got), strings.Join(got, "\n"))
	}
}

func TestFindCycle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		edges map[string][]string
		want  []string
	}{
		{"nothing", nil, nil},
		{"a chain", map[string][]string{"a": {"b"}, "b": {"c"}}, nil},
		{"two ways to one node", map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {"d"}}, nil},
		{"a loop", map[string][]string{"a": {"a"}}, []string{"a", "a"}},
		{"a cycle behind a chain", map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}, []string{"b", "c", "d", "b"}},
		{"a cycle that the first node does not reach", map[string][]string{"a": {"z"}, "c": {"d"}, "d": {"c"}}, []string{"c", "d", "c"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := findCycle(tt.edges); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func mustBreak(t *testing.T, g graph, want string) {
	t.Helper()
	got := check(g)
	if !slices.ContainsFunc(got, func(breach string) bool { return strings.HasPrefix(breach, want) }) {
		t.Errorf("got\n\t%s\nwant a breach that begins with\n\t%s", strings.Join(got, "\n\t"), want)
	}
}
