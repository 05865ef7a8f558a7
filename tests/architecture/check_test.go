package architecture_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// graph is what the checker judges: modules, their packages, and what these import.
type graph struct {
	modules  []module
	packages []pkg
}

type module struct {
	path     string
	requires []string // module paths
}

type pkg struct {
	path        string
	module      string   // its module's path
	imports     []string // by the files that are built into a program, on any platform
	testImports []string // by its test files
}

func (g graph) packagesOf(modulePath string) []pkg {
	return slices.DeleteFunc(slices.Clone(g.packages), func(p pkg) bool { return p.module != modulePath })
}

// moduleOf gives the module that one of our packages belongs to: the one with the longest path that contains it.
func (g graph) moduleOf(importPath string) string {
	longest := ""
	for _, m := range g.modules {
		if within(importPath, m.path) && len(m.path) > len(longest) {
			longest = m.path
		}
	}
	return longest
}

// check returns a sentence for each breach of the rules, in a stable order.
func check(g graph) []string {
	var breaches []string
	for _, p := range g.packages {
		breaches = append(breaches, checkFloor(p)...)
		if p.module == core {
			breaches = append(breaches, checkCoreImports(g, p)...)
		}
	}
	breaches = append(breaches, checkCoreRequires(g)...)
	breaches = append(breaches, checkCycle("rooms", roomEdges(g))...)
	breaches = append(breaches, checkCycle("modules", moduleEdges(g))...)
	slices.Sort(breaches)
	return slices.Compact(breaches)
}

// checkFloor holds the non-test code of a package to its floor. Test files may see everything.
func checkFloor(p pkg) []string {
	from, known := floorOf(p.path)
	if !known {
		return []string{fmt.Sprintf("%s is on no floor: put the room %q on one", short(p.path), roomOf(p.path))}
	}
	var breaches []string
	for _, imported := range p.imports {
		to, known := floorOf(imported)
		if !known || roomOf(imported) == roomOf(p.path) || slices.Contains(from.mayImport, to.name) {
			continue
		}
		breaches = append(breaches, fmt.Sprintf("%s (%s) imports %s (%s): %s may import only %s",
			short(p.path), from.name, short(imported), to.name, from.name, strings.Join(from.mayImport, ", ")))
	}
	return breaches
}

// checkCoreImports holds a package of the core module, with its test files, to the standard library, the core and what the
// core may require.
func checkCoreImports(g graph, p pkg) []string {
	var breaches []string
	for _, imported := range slices.Concat(p.imports, p.testImports) {
		switch {
		case isStandard(imported), isOneOf(imported, coreRequires):
		case !isOurs(imported):
			breaches = append(breaches, fmt.Sprintf("%s imports %s: the core has room for the standard library and %s only",
				short(p.path), imported, strings.Join(coreRequires, ", ")))
		case g.moduleOf(imported) != core:
			breaches = append(breaches, fmt.Sprintf("%s imports %s, which is another module: the core stands alone",
				short(p.path), short(imported)))
		}
	}
	return breaches
}

func checkCoreRequires(g graph) []string {
	var breaches []string
	for _, m := range g.modules {
		if m.path != core {
			continue
		}
		for _, required := range m.requires {
			if !slices.Contains(coreRequires, required) {
				breaches = append(breaches, fmt.Sprintf("the core's go.mod requires %s: it may require only %s",
					required, strings.Join(coreRequires, ", ")))
			}
		}
	}
	return breaches
}

func checkCycle(of string, edges map[string][]string) []string {
	if cycle := findCycle(edges); cycle != nil {
		return []string{fmt.Sprintf("cycle of %s: %s", of, strings.Join(cycle, " -> "))}
	}
	return nil
}

// roomEdges has the arrows between rooms by non-test imports. Go forbids cycles of packages, but lets two packages of one
// room stand on both sides of another room.
func roomEdges(g graph) map[string][]string {
	edges := make(map[string][]string)
	for _, p := range g.packages {
		for _, imported := range p.imports {
			if from, to := roomOf(p.path), roomOf(imported); isOurs(imported) && from != to {
				edges[from] = append(edges[from], to)
			}
		}
	}
	return edges
}

// moduleEdges has the arrows between our modules, by imports of any file and by requirement. Go allows cycles of modules,
// but then none of them can be released before the others.
func moduleEdges(g graph) map[string][]string {
	edges := make(map[string][]string)
	add := func(from, to string) {
		if from != to {
			edges[short(from)] = append(edges[short(from)], short(to))
		}
	}
	for _, m := range g.modules {
		for _, required := range m.requires {
			if isOurs(required) {
				add(m.path, required)
			}
		}
	}
	for _, p := range g.packages {
		for _, imported := range slices.Concat(p.imports, p.testImports) {
			if isOurs(imported) {
				add(p.module, g.moduleOf(imported))
			}
		}
	}
	return edges
}

// findCycle returns the nodes of a cycle, the first of them again at the end, or nil when there is none.
func findCycle(edges map[string][]string) []string {
	done := make(map[string]bool)
	var path []string
	var visit func(node string) []string
	visit = func(node string) []string {
		if start := slices.Index(path, node); start >= 0 {
			return append(slices.Clone(path[start:]), node)
		}
		if done[node] {
			return nil
		}
		path = append(path, node)
		for _, next := range slices.Sorted(slices.Values(edges[node])) {
			if cycle := visit(next); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		done[node] = true
		return nil
	}
	for _, node := range slices.Sorted(maps.Keys(edges)) {
		if cycle := visit(node); cycle != nil {
			return cycle
		}
	}
	return nil
}

// floorOf finds the floor of one of our packages.
func floorOf(importPath string) (floor, bool) {
	if !isOurs(importPath) {
		return floor{}, false
	}
	room := roomOf(importPath)
	if strings.HasPrefix(room, "internal/") {
		room = "internal/*"
	}
	for _, f := range floors {
		if slices.Contains(f.rooms, room) {
			return f, true
		}
	}
	return floor{}, false
}

func roomOf(importPath string) string {
	elements := strings.Split(short(importPath), "/")
	if elements[0] == "internal" && len(elements) > 1 {
		return "internal/" + elements[1]
	}
	return elements[0]
}

// short is the import path below the core, and "." for the core itself.
func short(importPath string) string {
	if importPath == core {
		return "."
	}
	return strings.TrimPrefix(importPath, core+"/")
}

func isOurs(importPath string) bool { return within(importPath, core) }

// isStandard goes by the rule of the go command: outside the standard library the first element has a dot. C is cgo.
func isStandard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".") && importPath != "C"
}

func isOneOf(importPath string, modules []string) bool {
	return slices.ContainsFunc(modules, func(m string) bool { return within(importPath, m) })
}

func within(importPath, root string) bool {
	return importPath == root || strings.HasPrefix(importPath, root+"/")
}
