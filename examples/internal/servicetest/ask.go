package servicetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Answer is what a request was answered.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Decode decodes the body of an answer.
func (a Answer) Decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.Body), into); err != nil {
		t.Fatalf("%d %s: %v", a.Status, a.Body, err)
	}
}

// Request is a request with a body in JSON, or without one.
type Request struct {
	Method, Path, Body string
	// Headers are names and values by turns.
	Headers []string
}

// With returns the request with some more headers.
func (r Request) With(headers ...string) Request {
	r.Headers = append(slices.Clip(r.Headers), headers...)
	return r
}

// Post is a request with a body.
func Post(path, body string) Request { return Request{Method: http.MethodPost, Path: path, Body: body} }

// Get is a request without one.
func Get(path string) Request { return Request{Method: http.MethodGet, Path: path} }

// Ask sends a request, which must be answered with a status.
func (s *Service) Ask(status int, r Request) Answer {
	s.Helper()
	answer, err := r.send(s.Context(), http.DefaultClient, s.URL)
	if err != nil {
		s.Fatal(err)
	}
	if answer.Status != status {
		s.Fatalf("%s %s %s %q: %d %s; want %d", r.Method, r.Path, r.Body, r.Headers, answer.Status, answer.Body, status)
	}
	return answer
}

func (r Request) send(ctx context.Context, client *http.Client, url string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.Method, url+r.Path, strings.NewReader(r.Body))
	if err != nil {
		return Answer{}, err
	}
	if r.Body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(r.Headers); i += 2 {
		request.Header.Set(r.Headers[i], r.Headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Header: response.Header, Body: strings.TrimSpace(string(body))}, err
}

// Client sends requests to one of several programs, and sends them again until they are answered. It is for one goroutine.
type Client struct {
	// Number is that of the client, from 0.
	Number int
	// Random is what the client draws from; also the program that a request goes to first.
	Random *rand.Rand

	ctx   context.Context //nolint:containedctx // of the test, whose goroutine the client is
	web   *http.Client
	seats []*seat
	over  <-chan struct{}
}

// More tells whether the client should go on.
func (c *Client) More() bool {
	select {
	case <-c.over:
		return false
	case <-c.ctx.Done():
		return false
	default:
		return true
	}
}

// Settle sends a request until its outcome is known: again when there was no answer, and when the answer is that it is too early, or that
// others were first (409, 503). It is the same request each time, so it must carry an Idempotency-Key if it changes something. The error is
// that of the test's context, or that the service has failed (500).
func (c *Client) Settle(r Request) (Answer, error) {
	for {
		s, err := c.listening()
		if err != nil {
			return Answer{}, err
		}
		answer, err := r.send(c.ctx, c.web, s.address())
		switch {
		case c.ctx.Err() != nil:
			return answer, c.ctx.Err()
		case err != nil, answer.Status == http.StatusConflict, answer.Status == http.StatusServiceUnavailable:
			continue
		case answer.Status >= http.StatusInternalServerError:
			return answer, fmt.Errorf("%s %s: %d %s", r.Method, r.Path, answer.Status, answer.Body)
		}
		s.count()
		return answer, nil
	}
}

// listening waits until the program that was chosen listens, or any other.
func (c *Client) listening() (*seat, error) {
	patience := time.NewTimer(Patience)
	defer patience.Stop()
	chosen := c.seats[c.Random.IntN(len(c.seats))]
	for {
		var changed []<-chan struct{}
		for _, s := range append([]*seat{chosen}, c.seats...) {
			listens, change := s.look()
			if listens {
				return s, nil
			}
			changed = append(changed, change)
		}
		select { // there are two at the most
		case <-changed[0]:
		case <-changed[len(changed)-1]:
		case <-patience.C:
			return nil, fmt.Errorf("no program listens for %v", Patience)
		case <-c.ctx.Done():
			return nil, c.ctx.Err()
		}
	}
}
