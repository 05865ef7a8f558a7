// Package profile says where the time of a workload goes.
package profile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// kind is a profile: its file, what of it is shown, and what that means.
type kind struct{ name, sample, what string }

// kinds are the profiles, in the order in which they are shown.
func kinds() []kind {
	return []kind{
		{"cpu", "", "where the processors were"},
		{"allocs", "alloc_space", "who allocated, in bytes"},
		{"mutex", "", "who held a lock that others waited for, and how long"},
		{"block", "", "who waited, and how long; an idle goroutine waits too"},
	}
}

// Write runs our side of a workload again and again for about so long, and leaves the profiles in a directory of its name below
// dir. It shows what is at the top of each, and how to see more.
//
// Locks and waits are looked at in a run of their own, a third of the time, because looking at every one of them slows down.
func Write(
	ctx context.Context, w measure.Workload, s measure.Stage, lasting time.Duration, dir string, out io.Writer,
) (err error) {
	dir = filepath.Join(dir, w.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	ready, takeDown, err := measure.Set(ctx, w.Contenders[:1], s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, takeDown()) }()
	ours := ready[0]
	perTurn := messages(w)
	n, err := cpu(ctx, ours, perTurn, lasting*2/3, filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return err
	}
	if err := save("allocs", filepath.Join(dir, "allocs.pprof")); err != nil {
		return err
	}
	if err := waits(ctx, ours, perTurn, lasting/3, dir); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d messages, by us\n", w.Title, n)
	for _, k := range kinds() {
		if err := show(ctx, filepath.Join(dir, k.name+".pprof"), k, out); err != nil {
			return err
		}
	}
	return nil
}

func messages(w measure.Workload) int {
	const (
		fill  = 500_000 // what a run prepares is in the profile as well, and disappears among so many
		setUp = 10_000  // it was prepared before
	)
	if w.Messages > 0 {
		return w.Messages
	}
	if w.Contenders[0].Open != nil {
		return setUp
	}
	return fill
}

func cpu(ctx context.Context, c measure.Contender, perTurn int, lasting time.Duration, path string) (n int64, err error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return 0, err
	}
	defer pprof.StopCPUProfile()
	return repeat(ctx, c, perTurn, lasting)
}

func waits(ctx context.Context, c measure.Contender, perTurn int, lasting time.Duration, dir string) error {
	before := runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(1)
	_, err := repeat(ctx, c, perTurn, lasting)
	runtime.SetBlockProfileRate(0)
	runtime.SetMutexProfileFraction(before)
	if err != nil {
		return err
	}
	return errors.Join(
		save("mutex", filepath.Join(dir, "mutex.pprof")),
		save("block", filepath.Join(dir, "block.pprof")),
	)
}

// repeat runs a contender until the time is up, once at least, and returns how many messages it did.
func repeat(ctx context.Context, c measure.Contender, perTurn int, lasting time.Duration) (int64, error) {
	var n int64
	for began := time.Now(); n == 0 || time.Since(began) < lasting; {
		result, err := c.Run(ctx, perTurn)
		if err != nil {
			return n, err
		}
		if result.Faults.Any() {
			return n, fmt.Errorf("there is no use in a profile of what does it wrong: %s", result.Faults)
		}
		n += int64(perTurn)
	}
	return n, nil
}

func save(profile, path string) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return pprof.Lookup(profile).WriteTo(file, 0)
}

// show prints the top of a profile, as go tool pprof has it.
func show(ctx context.Context, path string, k kind, out io.Writer) error {
	args := []string{"tool", "pprof"}
	if k.sample != "" {
		args = append(args, "-sample_index="+k.sample)
	}
	top := exec.CommandContext(ctx, "go", append(args, "-top", "-nodecount=15", path)...) //nolint:gosec // the tool of this toolchain
	top.Stderr = io.Discard
	text, err := top.Output()
	if err != nil {
		return fmt.Errorf("go tool pprof %s: %w", path, err)
	}
	open := "go " + strings.Join(append(args, "-http=localhost:", path), " ")
	_, err = fmt.Fprintf(out, "\n%s: %s\n%s\n\n%s", path, k.what, open, text)
	return err
}
