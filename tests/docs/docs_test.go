// Package docs_test holds the pages to the code: what they show compiles, their links lead somewhere, and the variables they
// name are those that are read.
package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocs wants -count=1: the go command does not see that a file outside this module has changed, and would show the result
// of an earlier run.
func TestDocs(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.work")); err != nil {
		t.Fatalf("%s is not the root of the repository: %v", root, err)
	}
	c, err := newChecker(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if breaches := c.check(); len(breaches) > 0 {
		t.Errorf("the pages and the code do not agree:\n%s", strings.Join(breaches, "\n"))
	}
	if c.blocks == 0 || c.links == 0 || c.variables == 0 {
		t.Errorf("found %d Go blocks, %d links and %d variables: the check would pass whatever the pages say",
			c.blocks, c.links, c.variables)
	}
	t.Logf("checked %d pages with %d Go blocks and %d links against %d example files, and %d variables",
		len(c.pages), c.blocks, c.links, len(c.examples), c.variables)
}
