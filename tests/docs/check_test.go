package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The files that the rules are about.
const (
	index     = "docs/README.md"
	howTo     = "docs/how-to"
	records   = "docs/adr"
	configure = "docs/how-to/configure.md"
	config    = "config.go"
	examples  = "examples"
	adapter   = "eswatermill" // its own examples are code of a page too, so that the other examples need no Watermill
)

// checker judges the pages of a repository. The counters say how much it has found to judge.
type checker struct {
	fsys     fs.FS
	pages    map[string]page     // by path
	examples map[string][]string // the lines of Go files, by path

	blocks, links, variables int
}

func newChecker(fsys fs.FS) (*checker, error) {
	c := &checker{fsys: fsys, pages: map[string]page{}, examples: map[string][]string{}}
	top, err := fs.Glob(fsys, "*.md")
	if err != nil {
		return nil, err
	}
	docs, err := files(fsys, "docs", ".md")
	if err != nil {
		return nil, err
	}
	for _, name := range append(top, docs...) {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		c.pages[name] = parsePage(string(text))
	}
	sources, err := files(fsys, examples, ".go")
	if err != nil {
		return nil, err
	}
	if adapted, err := files(fsys, adapter, "example_test.go"); err == nil { // it need not be there
		sources = append(sources, adapted...)
	}
	for _, name := range sources {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		c.examples[name] = trimmedLines(string(text))
	}
	return c, nil
}

// files lists the files below a directory whose names end in a suffix.
func files(fsys fs.FS, dir, suffix string) ([]string, error) {
	var names []string
	err := fs.WalkDir(fsys, dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// check returns a sentence for each breach, in a stable order.
func (c *checker) check() []string {
	var breaches []string
	for _, name := range slices.Sorted(maps.Keys(c.pages)) {
		p := c.pages[name]
		for _, problem := range p.problems {
			breaches = append(breaches, name+":"+problem)
		}
		if name == "README.md" || strings.HasPrefix(name, "docs/") {
			breaches = append(breaches, c.checkBlocks(name, p)...)
		}
		breaches = append(breaches, c.checkLinks(name, p)...)
	}
	return slices.Concat(breaches, c.checkIndex(index, howTo), c.checkIndex(records+"/README.md", records), c.checkVariables())
}

// checkBlocks wants each Go block of a page to stand in an example.
func (c *checker) checkBlocks(name string, p page) []string {
	var breaches []string
	for _, b := range p.blocks {
		if b.language != "go" && b.language != "golang" {
			if b.marked {
				breaches = append(breaches, fmt.Sprintf("%s:%d: the block is marked as not compiled and is no Go block", name, b.line))
			}
			continue
		}
		c.blocks++
		if !b.marked && !c.stands(b.lines) {
			breaches = append(breaches, fmt.Sprintf("%s:%d: the Go block stands in no .go file below %s/: take it from one, "+
				"or write <!-- not compiled: reason --> in the line above; it begins with\n\t%s", name, b.line, examples, first(b.lines)))
		}
	}
	return breaches
}

func first(lines []string) string {
	if len(lines) == 0 {
		return "(nothing: it is empty)"
	}
	return lines[0]
}

// stands tells whether the lines stand somewhere in the examples, one after the other, all indented by as much more.
func (c *checker) stands(block []string) bool {
	if len(block) == 0 {
		return false
	}
	for _, source := range c.examples {
		for at := range source {
			if standsAt(block, source[at:]) {
				return true
			}
		}
	}
	return false
}

func standsAt(block, source []string) bool {
	indent, found := strings.CutSuffix(source[0], block[0])
	if !found || strings.TrimSpace(indent) != "" || len(source) < len(block) {
		return false
	}
	for i, line := range block {
		if line != "" {
			line = indent + line
		}
		if source[i] != line {
			return false
		}
	}
	return true
}

// checkLinks wants each relative link of a page to lead to a file, or to a heading in it.
func (c *checker) checkLinks(name string, p page) []string {
	var breaches []string
	for _, l := range p.links {
		if strings.Contains(l.target, "://") || strings.HasPrefix(l.target, "mailto:") {
			continue
		}
		c.links++
		if problem := c.checkLink(name, l.target); problem != "" {
			breaches = append(breaches, fmt.Sprintf("%s:%d: the link to %q %s", name, l.line, l.target, problem))
		}
	}
	return breaches
}

func (c *checker) checkLink(from, target string) string {
	file, anchor, _ := strings.Cut(target, "#")
	to := from
	if file != "" {
		to = path.Join(path.Dir(from), file)
	}
	if strings.HasPrefix(file, "/") || !fs.ValidPath(to) {
		return "leads out of the repository"
	}
	if _, err := fs.Stat(c.fsys, to); err != nil {
		return "leads nowhere: there is no " + to
	}
	if anchor == "" {
		return ""
	}
	p, isPage := c.pages[to]
	switch {
	case !isPage:
		return "has an anchor, and " + to + " is not one of the pages"
	case !slices.Contains(p.anchors, anchor):
		return fmt.Sprintf("leads to no heading of %s; it has %s", to, strings.Join(p.anchors, ", "))
	}
	return ""
}

// checkIndex wants a page to link to each other page in a directory.
func (c *checker) checkIndex(list, dir string) []string {
	linked := map[string]bool{}
	for _, l := range c.pages[list].links {
		linked[path.Join(path.Dir(list), l.target)] = true
	}
	var breaches []string
	for _, name := range slices.Sorted(maps.Keys(c.pages)) {
		if path.Dir(name) == dir && name != list && !linked[name] {
			breaches = append(breaches, fmt.Sprintf("%s does not link to %s", list, name))
		}
	}
	return breaches
}

var variable = regexp.MustCompile(`\bES_[A-Z0-9_]+\b`)

// checkVariables wants the page about configuration to name the variables that are read, and no others.
func (c *checker) checkVariables() []string {
	read, err := c.variablesRead()
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", config, err)}
	}
	text, err := fs.ReadFile(c.fsys, configure)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", configure, err)}
	}
	named := map[string]bool{}
	for _, name := range variable.FindAllString(string(text), -1) {
		named[name] = true
	}
	c.variables = len(read)
	var breaches []string
	for _, name := range slices.Sorted(maps.Keys(read)) {
		if !named[name] {
			breaches = append(breaches, fmt.Sprintf("%s does not name %s, which %s reads", configure, name, config))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !read[name] {
			breaches = append(breaches, fmt.Sprintf("%s names %s, which %s does not read", configure, name, config))
		}
	}
	return breaches
}

// variablesRead finds the names of variables among the strings of the code; a comment that names one is not enough.
func (c *checker) variablesRead() (map[string]bool, error) {
	text, err := fs.ReadFile(c.fsys, config)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), config, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	read := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if value, err := strconv.Unquote(literal.Value); err == nil && variable.FindString(value) == value && value != "" {
				read[value] = true
			}
		}
		return true
	})
	return read, nil
}
