package eshttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestCommandsFromImpatientClients lets eight clients send each of many commands at once, several times, to a counter that decides by
// what it has counted. Every command counts once, and all who sent it have the same answer.
func TestCommandsFromImpatientClients(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	defer backend.Close()
	count := func(ctx context.Context, c *es.Message) (es.Append, error) {
		n := int64(0)
		for m, err := range backend.Events().Read(ctx, es.Query{Stream: c.Stream}) {
			if err != nil {
				return es.Append{}, err
			}
			n = m.Version
		}
		events := make([]*es.Message, 1+n%3) // another decision each time
		for i := range events {
			events[i] = es.NewMessage(c.Stream, "Counted", fmt.Append(nil, n))
		}
		return es.AppendTo(c.Stream, es.Exactly(n), events...), nil
	}
	handler, err := es.NewCommandHandler(es.CommandConfig{Name: "counter", Events: backend.Events(), Attempts: 100}, count)
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := eshttp.Command(eshttp.CommandConfig[struct{}]{
		Handler: handler, Name: "Count",
		Stream: func(*http.Request, *struct{}) (string, error) { return "counter-1", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, eshttp.Config{Handler: endpoint})
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}

	const commands, clients = 50, 8
	var answers [commands][clients]string
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := range commands {
				answer, err := s.command(t.Context(), client, fmt.Sprint("command ", i))
				if err != nil {
					t.Error(err)
					return
				}
				answers[i][c] = answer
			}
		})
	}
	all.Wait()
	for i, each := range answers {
		for _, answer := range each {
			if answer != each[0] {
				t.Errorf("command %d is answered with %s and with %s", i, each[0], answer)
			}
		}
	}
	causes := map[string]int{}
	for m, err := range backend.Events().Read(t.Context(), es.Query{Stream: "counter-1"}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) == strconv.FormatInt(m.Version-1, 10) { // the first event of a decision
			causes[m.CausationID]++
		}
	}
	if len(causes) != commands {
		t.Errorf("%d commands have led to events, want %d", len(causes), commands)
	}
	for id, n := range causes {
		if n != 1 {
			t.Errorf("command %s was carried out %d times", id, n)
		}
	}
	s.stop()
	if err := <-s.result; err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// command sends a command and returns what it is answered.
func (s *server) command(ctx context.Context, client *http.Client, key string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr, strings.NewReader(`{}`))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", key)
	response, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return fmt.Sprint(response.StatusCode, " ", response.Header.Get("ETag"), " ", string(body)), err
}
