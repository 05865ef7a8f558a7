//go:build unix

package sqlite_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

const (
	wakes = 200
	// idleFor is how long a process waits for what does not come.
	idleFor = 5 * time.Second
)

// waitForEvents waits for one event after the other, and tells how long after the call of Append each has come, in nanoseconds. In the end
// it waits for one that does not come, and tells what processor time that has taken.
func waitForEvents(ctx context.Context, w *worker) (err error) {
	db, err := sqlite.Open(sqlite.Config{Path: w.Path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	at, err := db.Events().Head(ctx)
	if err != nil {
		return err
	}
	for range wakes {
		w.tell("ready")
		woken, err := db.Events().Wait(ctx, at)
		if err != nil {
			return err
		}
		now := time.Now()
		for m, err := range db.Events().Read(ctx, es.Query{}.Resume(at)) {
			if err != nil {
				return err
			}
			w.tell("woken", now.Sub(m.Time).Nanoseconds())
		}
		at = woken
	}
	runtime.GC()
	before, err := processorTime()
	if err != nil {
		return err
	}
	idle, cancel := context.WithTimeout(ctx, idleFor)
	defer cancel()
	if _, err := db.Events().Wait(idle, at); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("what does not come has come: %w", err)
	}
	after, err := processorTime()
	w.tell("idle", (after - before).Nanoseconds())
	return err
}

// processorTime is what the process has taken so far.
func processorTime() (time.Duration, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0, err
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), nil
}

// TestAProcessIsWokenByAnother: soon, and at next to no cost while nothing comes. Without the doorbell, or with a look at the file in each
// millisecond, one of the two fails.
func TestAProcessIsWokenByAnother(t *testing.T) {
	path := newPath(t)
	db, err := sqlite.Open(sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	text, err := json.Marshal(job{Kind: "wait", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), jobVariable+"="+string(text))
	child.Stderr = os.Stderr
	lines, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var delays []time.Duration
	idle := time.Duration(-1)
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		kind, number, _ := strings.Cut(scanner.Text(), " ")
		n, _ := strconv.ParseInt(number, 10, 64) // the other lines have none
		switch kind {
		case "ready":
			if _, err := db.Events().Append(t.Context(), es.AppendTo("order-1", es.Any, es.NewMessage("order-1", "Placed", nil))); err != nil {
				t.Error(err)
			}
		case "woken":
			delays = append(delays, time.Duration(n))
		case "idle":
			idle = time.Duration(n)
		}
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(delays) != wakes || idle < 0 {
		t.Fatalf("it was woken %d times, and has told of %v of idle time", len(delays), idle)
	}
	slices.Sort(delays)
	late := delays[wakes*99/100]
	share := 100 * idle.Seconds() / idleFor.Seconds()
	t.Logf("woken after %v at the median and %v at the 99th percentile, appending included; idle at %.3f %% of a core", delays[wakes/2], late, share)
	const promised, busyMachine = 20 * time.Millisecond, 10
	if late > promised*busyMachine {
		t.Errorf("the 99th percentile is %v; %v is promised", late, promised)
	}
	const most, noise = 0.1, 3
	if share > most*noise {
		t.Errorf("waiting takes %.3f %% of a core; %v %% is promised", share, most)
	}
}
