package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
)

// startIn starts the program in a folder where it may have run before.
func startIn(t *testing.T, dir string, args ...string) service {
	t.Helper()
	s := service{program.Launch(t, servicetest.Setup{Dir: dir, Args: args})}
	s.AwaitListening()
	return s
}

func TestItemsAreListedAgainAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir)
	s.post("name=ItemAdded", `1`)
	s.awaitItems(`{"items":[1]}`)
	s.Stop()
	if _, err := os.Stat(filepath.Join(dir, "items.db")); err != nil {
		t.Error(err)
	}

	s = startIn(t, dir)
	if got := s.Get("/items/"); got != `{"items":[1]}` {
		t.Errorf("after a restart it lists %s", got)
	}
	s.post("name=ItemAdded", `2`)
	s.awaitItems(`{"items":[1,2]}`)
	s.Kill()

	s = startIn(t, dir, "-store", "sqlite:"+filepath.Join(dir, "items.db"))
	if got := s.Get("/items/"); got != `{"items":[1,2]}` {
		t.Errorf("after kill -9 it lists %s", got)
	}
	s.post("name=ItemAdded", `3`)
	s.awaitItems(`{"items":[1,2,3]}`) // when the lease of what was killed has ended
}

func TestAnItemIsAcceptedAndThenTheProgramIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir)
	s.post("name=ItemAdded", `"accepted"`)
	s.Kill()
	s = startIn(t, dir)
	s.awaitItems(`{"items":["accepted"]}`)
}

func TestMemoryKeepsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir, "-store", "memory:")
	s.post("name=ItemAdded", `1`)
	s.awaitItems(`{"items":[1]}`)
	s.Stop()
	s = startIn(t, dir, "-store", "memory:")
	if got := s.Get("/items/"); got != `{"items":[]}` {
		t.Errorf("after a restart it lists %s", got)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("there are files: %v (%v)", files, err)
	}
}

func TestAnItemThatIsSentTwiceWithOneKeyIsListedOnce(t *testing.T) {
	s := start(t)
	send := func(key, body string) (status int, answer string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/items/?name=ItemAdded", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", key)
		status, _, answer = s.Send(r)
		return status, answer
	}
	for _, want := range []string{`[1]`, `[1]`, `[1,1]`} {
		key := map[string]string{`[1]`: "first", `[1,1]`: "second"}[want]
		if status, answer := send(key, `1`); status != http.StatusOK {
			t.Fatalf("with the key %q it is answered by %d %s", key, status, answer)
		}
		s.awaitItems(`{"items":` + want + `}`)
	}
	if status, answer := send(`a"b`, `1`); status != http.StatusBadRequest {
		t.Errorf("a key that cannot be used is answered by %d %s", status, answer)
	}
}
