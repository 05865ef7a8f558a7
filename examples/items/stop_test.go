package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
)

// TestSIGTERMWhileRequestsAreInFlight ends the program while clients send items and list them. It ends in order and in time, what it
// answers until then are whole answers, and what it has accepted is listed when it is started again.
func TestSIGTERMWhileRequestsAreInFlight(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir)
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: servicetest.Patience}
	// ask makes a request and tells whether there was an answer.
	ask := func(list bool) bool {
		var response *http.Response
		var err error
		if list {
			response, err = client.Get(s.URL + "/items/")
		} else {
			response, err = client.Post(s.URL+"/items/?name=ItemAdded", "application/json", strings.NewReader(`{"tea":2}`))
		}
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK || !json.Valid(body) {
			t.Errorf("the answer is %d %q (%v)", response.StatusCode, body, err)
		}
		return true
	}
	const enough = 400
	var answers, accepted atomic.Int64
	reached := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for list := i == 0; ask(list); {
				if !list {
					accepted.Add(1)
				}
				if answers.Add(1) == enough {
					close(reached)
				}
			}
		})
	}
	gone := make(chan struct{})
	go func() { clients.Wait(); close(gone) }()
	select {
	case <-reached:
	case <-gone:
		t.Fatalf("no answer any more after %d", answers.Load())
	}
	s.Stop() // which looks at the exit code
	<-gone
	for _, word := range []string{"panic", "level=ERROR", "broken off"} {
		if strings.Contains(s.Log.String(), word) {
			t.Errorf("%q is in its log: %s", word, s.Log)
		}
	}
	s = startIn(t, dir)
	s.Await("/items/", func(answer string) bool { return int64(strings.Count(answer, "tea")) >= accepted.Load() })
}
