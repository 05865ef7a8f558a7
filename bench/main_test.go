package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// These run one after the other: what is timed is not to be timed beside something else.

func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), args, &out, io.Discard)
	return out.String(), err
}

func TestQuickFailsWhenAFloorIsNotKept(t *testing.T) { //nolint:paralleltest // see above
	args := []string{"-quick", "-only", "router", "-rounds", "1", "-round", "1ms"}
	out, err := command(t, append(args, "-margin", "1e9")...) // which makes the floor impossible
	if err == nil || !strings.Contains(err.Error(), "floors that are not kept: 2;") {
		t.Errorf("the error is %v, want one that counts the ratio and the allocations", err)
	}
	for _, part := range []string{"FAILED router:", "times Watermill, the floor is 15 (1.5e+10 with the margin)", "allocations a message, at most"} {
		if !strings.Contains(out, part) {
			t.Errorf("it does not say %q:\n%s", part, out)
		}
	}
	if out, err := command(t, append(args, "-margin", "1e-3")...); err != nil {
		t.Errorf("a floor that nobody can miss was missed: %v\n%s", err, out)
	}
}

func TestCompareWritesTheTable(t *testing.T) { //nolint:paralleltest // see above
	out, err := command(t, "-only", "router", "-rounds", "2", "-round", "1ms")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"router without middleware", "Watermill", "bare call", "theirs ÷ ours", "2 of about 1ms"} {
		if !strings.Contains(out, part) {
			t.Errorf("the table does not have %q:\n%s", part, out)
		}
	}
}

func TestAFileIsMeasuredWhereItIsAskedForAndRemoved(t *testing.T) { //nolint:paralleltest // see above
	dir := t.TempDir()
	args := []string{"-files", dir, "-million", "1000", "-only", "sqlite-read-stream"}
	out, err := command(t, append(args, "-quick", "-margin", "1e-3")...)
	if err != nil || !strings.Contains(out, "against bare SELECT") {
		t.Errorf("the error is %v:\n%s", err, out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("there is %v left, %v", left, err)
	}
}

func TestProfileLeavesFourProfiles(t *testing.T) { //nolint:paralleltest // see above
	dir := t.TempDir()
	out, err := command(t, "-profile", "router", "-for", "300ms", "-profiles", dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"cpu", "allocs", "mutex", "block"} {
		path := filepath.Join(dir, "router", kind+".pprof")
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("there is no profile %s: %v", kind, err)
		}
		if !strings.Contains(out, path+"\n") || !strings.Contains(out, "-http=localhost: "+path) {
			t.Errorf("it does not say how to open %s:\n%s", path, out)
		}
	}
	if !strings.Contains(out, "router.(*lane)") {
		t.Errorf("the router is not in its own profile:\n%s", out)
	}
}

func TestListNamesFloorsAndContenders(t *testing.T) {
	t.Parallel()
	out, err := command(t, "-list", "-only", "publish-10")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"publish-10: ", "gochannel", "floor: 40 times Watermill"} {
		if !strings.Contains(out, part) {
			t.Errorf("the list does not have %q:\n%s", part, out)
		}
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"-only rooter", `no workload "rooter"`},
		{"-profile rooter", `no workload "rooter"`},
		{"-profile router,publish-10", "takes one workload"},
		{"router", `"router" is no flag`},
		{"-out x -only router", "-out writes the report of everything"},
		{"-out x -quick", "-out writes the report of everything"},
		{"-quick -margin 0", "-margin is 0"},
		{"-rounds -1", "cannot be negative"},
		{"-million -1", "cannot be negative"},
		{"-files /nowhere -only router", "/nowhere"},
	} {
		if _, err := command(t, strings.Fields(test.args)...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("bench %s: the error is %v, want one with %q", test.args, err, test.want)
		}
	}
}

func TestHelpExplains(t *testing.T) {
	t.Parallel()
	var messages bytes.Buffer
	if err := run(context.Background(), []string{"-h"}, io.Discard, &messages); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("the error is %v", err)
	}
	for _, part := range []string{"-quick", "go run ./bench -profile router-chain", "-margin"} {
		if !strings.Contains(messages.String(), part) {
			t.Errorf("the help does not have %q:\n%s", part, &messages)
		}
	}
}
