package remote_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/tests/remote"
)

// memberVariable is the environment variable that makes a test binary a member of a group, at the address that it says.
const memberVariable = "REMOTE_LOG_MEMBER"

// openMember opens a log on a connection of its own, and subscribes.
func openMember(ctx context.Context, address string) (*remote.Client, *eventlog.Log, es.Subscription, error) {
	c, err := remote.Open(address, "log")
	if err != nil {
		return nil, nil, nil, err
	}
	log, err := eventlog.New(c, eventlog.Config{Lease: time.Second})
	if err != nil {
		return c, nil, nil, err
	}
	sub, err := log.Subscribe(ctx, "orders", es.SubscribeOptions{
		Group: "g", Lease: time.Hour, Start: es.Start{Kind: es.StartBeginning},
	})
	return c, log, sub, err
}

// beMember acknowledges the first half of what it receives, keeps the rest, says so, and waits until it is killed.
func beMember(address string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test may have died
	defer cancel()
	_, _, sub, err := openMember(ctx, address)
	for n := 0; err == nil; n++ {
		ds := make([]es.Delivery, 1)
		if _, err = sub.Receive(ctx, ds); err != nil {
			break
		}
		what := "has"
		if n < 10 {
			what, err = "acked", sub.Ack(ctx, ds)
		}
		if err == nil {
			fmt.Println(what, string(ds[0].Data))
		}
	}
	fmt.Fprintln(os.Stderr, "member:", err)
	return 1
}

// TestKilledMemberOfALog kills a process with kill -9 in the middle of its messages. Another one gets what it has not acknowledged,
// and nothing else: what it had in hand with one attempt more, each by itself, and what it had only read as if it had never been.
func TestKilledMemberOfALog(t *testing.T) {
	t.Parallel()
	server, err := remote.Serve(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	publisher, err := remote.Open(server.Address(), "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = publisher.Close() })
	var all []string
	for key := 'a'; key <= 'z'; key++ {
		text := string(key) + "1"
		m := es.NewMessage("orders-"+string(key), "Noted", []byte(text))
		if _, err := publisher.Events().Append(t.Context(), es.AppendTo(m.Stream, es.Any, m)); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	acked, held := runAndKill(t, server.Address(), 15)

	c, log, sub, err := openMember(t.Context(), server.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = log.Close()
		_ = c.Close()
	})
	untold := 1 // message that it was killed with before it could say so
	for len(acked) < len(all) {
		ds := make([]es.Delivery, 8)
		n, err := sub.Receive(t.Context(), ds)
		if err != nil {
			t.Fatalf("after %v: %v", acked, err)
		}
		for _, d := range ds[:n] {
			text, want := string(d.Data), 1
			switch {
			case slices.Contains(held, text):
				want = 2
			case d.Attempt == 2 && untold > 0:
				want = 2
				untold--
			}
			if slices.Contains(acked, text) || d.Attempt != want || want == 2 && n != 1 {
				t.Errorf("%s came as attempt %d, with %d others; acknowledged was %v, and held %v", text, d.Attempt, n-1, acked, held)
			}
			acked = append(acked, text)
		}
		if err := sub.Ack(t.Context(), ds[:n]); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(acked)
	if !slices.Equal(acked, all) {
		t.Errorf("%v was handled, want %v", acked, all)
	}
}

// runAndKill starts a member, and kills it when it has received so many messages.
func runAndKill(t *testing.T, address string, received int) (acked, held []string) {
	t.Helper()
	member := exec.CommandContext(t.Context(), os.Args[0])
	member.Env = append(os.Environ(), memberVariable+"="+address)
	member.Stderr = os.Stderr
	out, err := member.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := member.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for len(acked)+len(held) < received && lines.Scan() {
		switch what, text, _ := strings.Cut(lines.Text(), " "); what {
		case "acked":
			acked = append(acked, text)
		case "has":
			held = append(held, text)
		}
	}
	if err := member.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // what it said before it died
		if text, ok := strings.CutPrefix(lines.Text(), "has "); ok {
			held = append(held, text)
		}
	}
	_ = member.Wait() // that it was killed is its error
	if len(acked)+len(held) < received {
		t.Fatalf("the member had %v and %v before it ended", acked, held)
	}
	return acked, held
}
