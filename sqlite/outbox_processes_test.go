package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// The environment variables that make the test binary a process that works on the outbox of a file.
const (
	outboxFileVariable = "SQLITE_OUTBOX_FILE"
	outboxJobVariable  = "SQLITE_OUTBOX_JOB"
)

// outboxProcess is the whole life of such a process. It returns at once where there is none.
func outboxProcess() {
	path, ok := os.LookupEnv(outboxFileVariable)
	if !ok {
		return
	}
	code := 0
	if err := workOnOutbox(path, os.Getenv(outboxJobVariable)); err != nil {
		fmt.Fprintln(os.Stderr, "a process on the outbox:", err)
		code = 1
	}
	os.Exit(code)
}

func workOnOutbox(path, job string) error {
	db, err := sqlite.Open(sqlite.Config{Path: path})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	gone := make(chan struct{}) // closed when the test is
	go func() {
		defer close(gone)
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with the test, whatever that has died of
	}()
	if job == "hang" {
		return sqlite.ClaimAndHang(ctx, db, 100, func(claimed int) {
			fmt.Println("claimed", claimed)
			<-gone
		})
	}
	return completeAll(ctx, db.Outbox(), "process", func(name string) error {
		_, err := fmt.Println(name)
		return err
	})
}

// completeAll claims a few entries at a time and completes them, until an error, and reports each that it has completed.
func completeAll(ctx context.Context, o es.Outbox, owner string, report func(name string) error) error {
	dst := make([]es.Entry, 3)
	for {
		n, err := o.Claim(ctx, dst, es.ClaimOptions{Owner: owner, Lease: time.Hour})
		if err == nil && n == 0 {
			err = o.Wait(ctx)
		}
		if err == nil {
			err = o.Complete(ctx, dst[:n])
		}
		if err != nil {
			return err
		}
		for _, e := range dst[:n] {
			if err := report(e.Name); err != nil {
				return err
			}
		}
	}
}

// startOutboxProcess starts a process on a file. It is killed by kill, or when the test ends. What it prints comes line by line.
func startOutboxProcess(t *testing.T, path, job string) (lines <-chan string, kill func()) {
	t.Helper()
	binary, err := os.Executable()
	must(t, err)
	command := exec.Command(binary, "-test.run=^$")
	command.Env = append(os.Environ(), outboxFileVariable+"="+path, outboxJobVariable+"="+job)
	command.Stderr = os.Stderr
	_, err = command.StdinPipe() // held open until the process has ended
	must(t, err)
	output, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	printed := make(chan string, 10_000)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(printed)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			printed <- scanner.Text()
		}
	}()
	kill = func() {
		_ = command.Process.Kill() // it may have ended by itself
		<-read
		_ = command.Wait() // it says that it was killed
	}
	t.Cleanup(kill)
	return printed, kill
}

// firstLine waits for the first line of a process.
func firstLine(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case line, ok := <-lines:
		if !ok {
			t.Fatal("the process has ended (does TestMain call outboxProcess?)")
		}
		return line
	case <-time.After(30 * time.Second):
		t.Fatal("the process says nothing")
	}
	return ""
}

// TestKillInTheMiddleOfAClaim kills a process that has written its claim and not committed it: it has claimed nothing.
func TestKillInTheMiddleOfAClaim(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	u := useOutbox(t, openStore(t, sqlite.Config{Path: path}))
	u.add("a", 3)
	u.add("b", 2)
	abandoned := u.take(1, time.Millisecond) // the claim that is killed begins by counting this as an attempt
	u.wait()
	lines, kill := startOutboxProcess(t, path, "hang")
	if got := firstLine(t, lines); got != "claimed 5" {
		t.Fatalf("the process says %q", got)
	}
	kill()
	if err := u.Complete(t.Context(), abandoned); es.Of(err, 0) == nil {
		t.Error("an entry whose lease has ended was completed")
	}
	got := entryNames(u.take(100, time.Hour))
	slices.Sort(got)
	if want := []string{"a/0#2", "a/1#1", "a/2#1", "b/0#1", "b/1#1"}; !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
}

// TestTwoProcessesClaimBesideEachOther has this process and another one complete what is in the outbox: each entry once, and those of a
// stream in order.
func TestTwoProcessesClaimBesideEachOther(t *testing.T) {
	t.Parallel()
	const streams, each = 20, 15
	path := tempFile(t)
	u := useOutbox(t, openStore(t, sqlite.Config{Path: path}))
	for i := range streams {
		u.add(fmt.Sprintf("s%02d", i), each)
	}
	held := u.take(3, time.Hour) // so that there is something to do for this process, however fast the other one is
	lines, kill := startOutboxProcess(t, path, "complete")
	theirs := []string{firstLine(t, lines)}
	must(t, u.Complete(t.Context(), held))
	ours := []string{held[0].Name, held[1].Name, held[2].Name}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- completeAll(ctx, u.Outbox, "test", func(name string) error {
			ours = append(ours, name)
			return nil
		})
	}()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for left := 1; left > 0; <-look.C {
		stats, err := u.Stats(ctx)
		must(t, err)
		left = stats.Depth
	}
	cancel()
	wantError(t, "the life of an owner", <-done, context.Canceled)
	kill() // what it has completed it may not have said yet
	for line := range lines {
		theirs = append(theirs, line)
	}
	t.Logf("%d entries by this process, and %d by the other one", len(ours), len(theirs))
	inOrder(t, ours)
	inOrder(t, theirs)
	seen := map[string]bool{}
	for _, name := range slices.Concat(ours, theirs) {
		if seen[name] {
			t.Errorf("%s was done twice", name)
		}
		seen[name] = true
	}
	if missing := streams*each - len(seen); missing < 0 || missing > 3 { // the last claim of the other one
		t.Errorf("%d entries were done, of %d", len(seen), streams*each)
	}
}

// inOrder fails the test unless entries, named stream/0, stream/1 and so on, come in the order of each stream.
func inOrder(t *testing.T, names []string) {
	t.Helper()
	last := map[string]int{}
	for _, name := range names {
		stream, number, _ := strings.Cut(name, "/")
		n := 0
		_, err := fmt.Sscan(number, &n)
		must(t, err)
		if before, ok := last[stream]; ok && n <= before {
			t.Errorf("%s comes after number %d of its stream", name, before)
		}
		last[stream] = n
	}
}

// TestOutboxIsWholeAfterKills kills processes while they work, at any moment. What they have said to be done is done, and all the rest
// comes back.
func TestOutboxIsWholeAfterKills(t *testing.T) {
	t.Parallel()
	const rounds, streams = 4, 10
	path := tempFile(t)
	db := openStore(t, sqlite.Config{Path: path})
	u := useOutbox(t, db)
	enqueued, done := map[string]bool{}, map[string]bool{}
	for round := range rounds {
		for i := range streams {
			stream := fmt.Sprintf("r%d-%d", round, i)
			for _, m := range u.add(stream, 40) {
				enqueued[m.Name] = true
			}
		}
		lines, kill := startOutboxProcess(t, path, "complete")
		for range 1 + 17*round { // at another moment in each round
			done[firstLine(t, lines)] = true
		}
		kill()
		for line := range lines {
			done[line] = true
		}
		wantWholeOutbox(t, db)
	}
	left := map[string]bool{}
	for _, table := range []string{"es_outbox_1", "es_outbox_dead_1"} {
		for name := range strings.Lines(rows(t, db, 1, "SELECT name FROM "+table)) {
			left[strings.TrimSpace(name)] = true
		}
	}
	silent := 0
	for name := range enqueued {
		switch {
		case done[name] && left[name]:
			t.Errorf("%s is there, and was completed", name)
		case !done[name] && !left[name]:
			silent++
		}
	}
	if most := 3 * rounds; silent > most { // a process may be killed before it says what it has completed
		t.Errorf("%d entries are neither there nor completed; at most %d can be", silent, most)
	}
}
