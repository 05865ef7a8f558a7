package docs_test

import (
	"strings"
	"testing"
	"testing/fstest"
)

// sound is a repository without a breach.
func sound() map[string]string {
	return map[string]string{
		"README.md": "# Top\n\nSee [the docs](docs/README.md), [adding](docs/how-to/add.md#two-words) and [code](config.go).\n",
		"docs/README.md": "# Docs\n\n- [Add](how-to/add.md \"how to add\")\n- [Configure](how-to/configure.md)\n" +
			"- [elsewhere](https://example.com/no-such-page), [here](#docs), `[no](link)`\n\n[ref]: ../README.md\n",
		"docs/adr/README.md":       "# Records\n\n- [A](0001-a.md)\n",
		"docs/adr/0001-a.md":       "# A\n",
		"docs/how-to/add.md":       "# Add\n\n## Two words!\n\n```go\nif x {\n\tadd(1)\n}\n```\n",
		"docs/how-to/configure.md": "| `ES_NAME` | a name |\n",
		"config.go":                "package p\n\n// ES_COMMENT is not read.\nvar _ = os.Getenv(\"ES_NAME\")\n",
		"examples/add/add_test.go": "package add\n\nfunc f() {\n\tif x {\n\t\tadd(1)\n\t}\n}\n",
	}
}

// breachesOf checks a repository of these files.
func breachesOf(files map[string]string) ([]string, error) {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	c, err := newChecker(fsys)
	if err != nil {
		return nil, err
	}
	return c.check(), nil
}

func TestSoundPagesPass(t *testing.T) {
	t.Parallel()
	breaches, err := breachesOf(sound())
	if err != nil || len(breaches) > 0 {
		t.Errorf("sound pages have breaches: %v\n%s", err, strings.Join(breaches, "\n"))
	}
}

// TestBreachesAreFound spoils the sound pages in one way each, and wants exactly the breach that comes of it.
func TestBreachesAreFound(t *testing.T) {
	t.Parallel()
	const add, configure = "docs/how-to/add.md", "docs/how-to/configure.md"
	code := func(lines ...string) string { return "# Add\n\n## Two words!\n\n" + strings.Join(lines, "\n") + "\n" }
	for name, c := range map[string]struct {
		file, text string // what is different
		want       string // a part of the only breach; none when empty
	}{
		"code that is in no example":  {add, code("```go", "add(2)", "```"), add + ":5: the Go block stands in no .go file"},
		"code with a line left out":   {add, code("```go", "if x {", "}", "```"), "stands in no .go file"},
		"code with another indent":    {add, code("```go", "if x {", "\t\tadd(1)", "}", "```"), "stands in no .go file"},
		"code with spaces for a tab":  {add, code("```go", "if x {", "    add(1)", "}", "```"), "stands in no .go file"},
		"a part of a line":            {add, code("```go", "add(", "```"), "stands in no .go file"},
		"the end of a line":           {add, code("```go", "x {", "\tadd(1)", "}", "```"), "stands in no .go file"},
		"more than the file has":      {add, code("```go", "\t}", "}", "", "func g()", "```"), "stands in no .go file"},
		"an empty block":              {add, code("```go", "", "```"), "it is empty"},
		"a block with attributes":     {add, code("```go title=\"x\"", "add(2)", "```"), "stands in no .go file"},
		"a block in tildes":           {add, code("~~~~ golang", "add(2)", "```", "~~~~"), "stands in no .go file"},
		"a block in a list":           {add, code("- so:", "", "  ```go", "  add(2)", "  ```"), "stands in no .go file"},
		"a block that is not closed":  {add, code("```go", "add(1)"), add + ":5: the block is not closed"},
		"a marker without a reason":   {add, code("<!-- not compiled: -->", "```go", "add(2)", "```"), ":5: the marker \"not compiled\" gives no reason"},
		"a marker too far above":      {add, code("<!-- not compiled: a sketch -->", "", "```go", "add(1)", "```"), ":5: the marker \"not compiled\" is not right above"},
		"a marker at the end":         {add, code("text", "<!-- not compiled: a sketch -->"), "is not right above a block"},
		"a marker on what is no Go":   {add, code("<!-- not compiled: a sketch -->", "```sh", "ls", "```"), ":6: the block is marked as not compiled and is no Go"},
		"a link to nothing":           {add, code("[gone](gone.md)"), add + ":5: the link to \"gone.md\" leads nowhere: there is no docs/how-to/gone.md"},
		"an image that is not there":  {add, code("![gone](gone.png)"), "leads nowhere"},
		"a link with code in it":      {add, code("[`f()`](gone.go) and more"), "leads nowhere"},
		"a reference to nothing":      {add, code("[gone]: gone.md"), "leads nowhere"},
		"a link out of the tree":      {add, code("[out](../../../out.md)"), "leads out of the repository"},
		"an absolute link":            {add, code("[root](/README.md)"), "leads out of the repository"},
		"an anchor that is not there": {add, code("[self](#three-words)"), "leads to no heading of " + add + "; it has add, two-words"},
		"an anchor on another page":   {"README.md", "[x](docs/how-to/add.md#three)", "leads to no heading of " + add},
		"an anchor into code":         {add, code("[line](../../config.go#L3)"), "is not one of the pages"},
		"a link in CONTRIBUTING.md":   {"CONTRIBUTING.md", "[gone](gone.md)", "CONTRIBUTING.md:1: the link to \"gone.md\" leads nowhere"},
		"a page that is not listed":   {"docs/how-to/new.md", "# New", index + " does not link to docs/how-to/new.md"},
		"a record that is not listed": {"docs/adr/0002-b.md", "# B", "docs/adr/README.md does not link to docs/adr/0002-b.md"},
		"a variable that is not read": {configure, "`ES_NAME` and `ES_OTHER`", configure + " names ES_OTHER, which config.go does not read"},
		"a longer variable":           {configure, "ES_NAME and ES_NAME_TOO", configure + " names ES_NAME_TOO"},
		"a variable that is missing":  {configure, "none", configure + " does not name ES_NAME, which config.go reads"},
		"code that does not parse":    {config, "pack age", config + ": "},

		"code as it stands, deeper":  {add, code("```go", "\t\tadd(1)", "```"), ""},
		"a block in a list is read":  {add, code("- so:", "", "  ```go", "  add(1)", "  ```"), ""},
		"a marked block":             {add, code("<!-- not compiled: a sketch -->", "```go", "add(2)", "```"), ""},
		"another language":           {add, code("```sh", "add 2", "```", "", "```", "add(2)", "```"), ""},
		"links in code are no links": {add, code("```sh", "[x](gone.md)", "```", "and ``[`x`](gone.md)``"), ""},
		"a heading in code is none":  {add, code("```sh", "# Two words", "```", "[x](#two-words)"), ""},
		"headings of the same name":  {add, code("## Two words", "[x](#two-words-1)"), ""},
		"a heading with marks":       {add, code("### What's `x.Y`, and *why*?", "[x](#whats-xy-and-why)"), ""},
		"Go in CONTRIBUTING.md":      {"CONTRIBUTING.md", "```go\nanything()\n```", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := sound()
			files[c.file] = c.text
			breaches, err := breachesOf(files)
			switch {
			case err != nil:
				t.Error(err)
			case c.want == "" && len(breaches) > 0:
				t.Errorf("found breaches where there are none:\n%s", strings.Join(breaches, "\n"))
			case c.want != "" && (len(breaches) != 1 || !strings.Contains(breaches[0], c.want)):
				t.Errorf("want one breach with %q, found %d:\n%s", c.want, len(breaches), strings.Join(breaches, "\n"))
			}
		})
	}
}

func TestWhatIsGoneIsMissed(t *testing.T) {
	t.Parallel()
	for name := range sound() {
		files := sound()
		delete(files, name)
		if breaches, err := breachesOf(files); err == nil && len(breaches) == 0 {
			t.Errorf("without %s nothing is missed", name)
		}
	}
}
