package main_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestQuickstart(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "quickstart")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), binary).CombinedOutput()
	if err != nil {
		t.Fatalf("quickstart: %v\n%s", err, out)
	}
	const want = `read version 1 of cart-7: {"product":"tea"}
read version 2 of cart-7: {"product":"milk"}
handled version 1 of cart-7: tea
handled version 2 of cart-7: milk
`
	if string(out) != want {
		t.Errorf("it prints\n%s\nwant\n%s", out, want)
	}
}
