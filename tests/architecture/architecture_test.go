// Package architecture_test holds the code of all modules to the floors of the house: which package may import which.
package architecture_test

import (
	"strings"
	"testing"
)

// core is the module path of the toolkit and the import path of its root package. The other modules lie below it.
const core = "github.com/eventsourcing-go/eventsourcing"

// floor is a set of rooms under the same rule. A room is a directory right below the root of the repository, with all that is
// in it; the root package alone is the room ".", and each directory in internal/ is a room of its own.
type floor struct {
	name  string
	rooms []string
	// mayImport names the floors that the non-test code of these rooms may import. Its own room a package may always import.
	mayImport []string
}

// floors are the rules. A room that is not here yet has to be put on a floor before it is built.
var floors = []floor{
	{
		name:      "ground", // the vocabulary
		rooms:     []string{"."},
		mayImport: []string{"internal"},
	},
	{
		name:      "internal", // one small package per responsibility
		rooms:     []string{"internal/*"},
		mayImport: []string{"ground", "internal"},
	},
	{
		name:      "runtime", // knows the roles, and no backend
		rooms:     []string{"aggregate", "deadletter", "eshttp", "eventlog", "middleware", "processor", "projection", "router"},
		mayImport: []string{"ground", "internal", "runtime"},
	},
	{
		name:      "backend", // knows the roles, and neither who uses it nor another backend
		rooms:     []string{"memory", "postgres", "sqlite"},
		mayImport: []string{"ground", "internal"},
	},
	{
		name:      "adapter", // makes the parts of another library play our roles, with memory's help where these are poorer
		rooms:     []string{"eswatermill"},
		mayImport: []string{"ground", "internal", "backend"},
	},
	{
		name:      "suite", // what an author of any component tests it with; the runtime suite puts all the parts together
		rooms:     []string{"estest"},
		mayImport: []string{"ground", "internal", "runtime"},
	},
	{
		name:      "roof", // programs and tests, where runtime and backend meet; nobody imports them
		rooms:     []string{"bench", "cmd", "examples", "tests"},
		mayImport: []string{"ground", "internal", "runtime", "backend", "adapter", "suite"},
	},
}

// coreRequires is all that the core module may require. Its test files are under the same rule: a requirement of a test is
// a requirement of the module.
var coreRequires = []string{"github.com/google/uuid"}

func TestArchitecture(t *testing.T) {
	t.Parallel()
	g := loadWorkspace(t, workspaceRoot(t))
	if len(g.packagesOf(core)) == 0 {
		t.Fatalf("found no package of %s: the check would pass whatever the code looks like", core)
	}
	violations := check(g)
	if len(violations) > 0 {
		t.Errorf("the floors are described in CONTRIBUTING.md, the rules in architecture_test.go:\n%s",
			strings.Join(violations, "\n"))
	}
	t.Logf("checked %d packages in %d modules", len(g.packages), len(g.modules))
}
