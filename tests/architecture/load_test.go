package architecture_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// workspaceRoot finds the directory with go.work, from the test's own directory upwards.
func workspaceRoot(t *testing.T) string {
	t.Helper()
	start, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatalf("no go.work in %s or above", start)
		}
	}
}

// loadWorkspace asks the go command for the modules of a workspace and for what their packages import. Code that does not
// compile is listed too (-e): to report it is up to the compiler.
func loadWorkspace(t *testing.T, root string) graph {
	t.Helper()
	var g graph
	for _, m := range runGo[listedModule](t, root, root, "list", "-m", "-json") {
		for _, mod := range runGo[modFile](t, root, m.Dir, "mod", "edit", "-json") {
			loaded := module{path: m.Path}
			for _, r := range mod.Require {
				loaded.requires = append(loaded.requires, r.Path)
			}
			g.modules = append(g.modules, loaded)
		}
		for _, p := range runGo[listedPackage](t, root, m.Dir, "list", "-e", "-deps=false", "-json", "./...") {
			loaded, err := p.load(m.Path)
			if err != nil {
				t.Fatal(err)
			}
			g.packages = append(g.packages, loaded)
		}
	}
	return g
}

type listedModule struct{ Path, Dir string }

type modFile struct {
	Require []struct{ Path string }
}

type listedPackage struct {
	ImportPath, Dir                    string
	Imports, TestImports, XTestImports []string
	IgnoredGoFiles                     []string // left out by build constraints
}

// load also takes in the files that this platform and these build tags leave out: the rules hold everywhere.
func (l listedPackage) load(modulePath string) (pkg, error) {
	p := pkg{path: l.ImportPath, module: modulePath, imports: l.Imports}
	p.testImports = append(p.testImports, l.TestImports...)
	p.testImports = append(p.testImports, l.XTestImports...)
	for _, name := range l.IgnoredGoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(l.Dir, name), nil, parser.ImportsOnly)
		if err != nil {
			return pkg{}, fmt.Errorf("package %s: %w", l.ImportPath, err)
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return pkg{}, fmt.Errorf("package %s: %s: %w", l.ImportPath, name, err)
			}
			if strings.HasSuffix(name, "_test.go") {
				p.testImports = append(p.testImports, imported)
			} else {
				p.imports = append(p.imports, imported)
			}
		}
	}
	return p, nil
}

// runGo runs the go command in dir, with the workspace at root, and decodes the JSON values that it prints.
func runGo[T any](t *testing.T, root, dir string, args ...string) []T {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, "go.work"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s in %s: %v\n%s", strings.Join(args, " "), dir, err, stderr.String())
	}
	var values []T
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var value T
		if err := dec.Decode(&value); errors.Is(err, io.EOF) {
			return values
		} else if err != nil {
			t.Fatalf("go %s in %s: %v", strings.Join(args, " "), dir, err)
		}
		values = append(values, value)
	}
}

func TestLoadWorkspace(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, content := range map[string]string{
		"go.work":                 "go 1.26\n\nuse (\n\t.\n\t./bench\n\t./sqlite\n)\n",
		"go.mod":                  "module " + core + "\n\ngo 1.26\n",
		"doc.go":                  "package eventsourcing\n\nimport _ \"fmt\"\n",
		"inside_test.go":          "package eventsourcing\n\nimport _ \"io\"\n",
		"outside_test.go":         "package eventsourcing_test\n\nimport _ \"os\"\n",
		"memory/doc.go":           "package memory\n",
		"memory/memory_plan9.go":  "package memory\n\nimport _ \"log\"\n",
		"memory/tagged_test.go":   "//go:build never\n\npackage memory\n\nimport _ \"net\"\n",
		"memory/testdata/data.go": "package data\n\nimport _ \"plugin\"\n",
		"sqlite/go.mod":           "module " + core + "/sqlite\n\ngo 1.26\n\nrequire " + core + " v0.0.0\n",
		"sqlite/sqlite.go":        "package sqlite\n\nimport _ \"" + core + "\"\n",
		"bench/go.mod":            "module " + core + "/bench\n\ngo 1.26\n",
	} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	got := fmt.Sprintf("%v", loadWorkspace(t, root))

	want := fmt.Sprintf("%v", graph{
		modules: []module{
			{path: core},
			{path: core + "/bench"}, // has no package yet
			{path: core + "/sqlite", requires: []string{core}},
		},
		packages: []pkg{
			{path: core, module: core, imports: []string{"fmt"}, testImports: []string{"io", "os"}},
			{path: core + "/memory", module: core, imports: []string{"log"}, testImports: []string{"net"}},
			{path: core + "/sqlite", module: core + "/sqlite", imports: []string{core}},
		},
	})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
