package eshttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// deadProgram is a program with three dead letters, and its administration.
func deadProgram(t *testing.T) (admin http.Handler, queue *deadletter.Queue, letters []uuid.UUID) {
	t.Helper()
	backend := memory.New()
	queue, err := deadletter.New(deadletter.Config{Events: backend.Events(), Outbox: backend.Outbox()})
	if err != nil {
		t.Fatal(err)
	}
	for i, group := range []string{"mailer", "mailer", "printer"} {
		m := es.NewMessage(fmt.Sprintf("order-%d", i), "OrderPlaced", []byte(`{"tea":2}`))
		letter, err := es.NewDeadLetter("dead", group, &es.Delivery{Message: m, Topic: "order", Group: group, Attempt: 3}, errors.New("no"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := backend.Events().Append(t.Context(), es.AppendTo("dead", es.Any, letter)); err != nil {
			t.Fatal(err)
		}
		letters = append(letters, letter.ID)
	}
	return http.StripPrefix("/dead", eshttp.DeadLetters(queue)), queue, letters
}

func answerOf(t *testing.T, h http.Handler, method, target string, status int) (answer map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody))
	if w.Code != status {
		t.Errorf("%s %s is answered by %d, want %d: %s", method, target, w.Code, status, w.Body)
	}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Errorf("%s %s is answered by %q: %v", method, target, w.Body, err)
		}
	}
	return answer
}

func lettersIn(t *testing.T, page map[string]any) (letters []map[string]any) {
	t.Helper()
	list, ok := page["letters"].([]any)
	if !ok {
		t.Fatalf("the page is %v", page)
	}
	for _, l := range list {
		letter, ok := l.(map[string]any)
		if !ok {
			t.Fatalf("the page is %v", page)
		}
		letters = append(letters, letter)
	}
	return letters
}

func TestDeadLettersAreListedAPageAtATime(t *testing.T) {
	t.Parallel()
	h, _, letters := deadProgram(t)
	var got []string
	target := "/dead/?limit=2"
	for pages := 0; target != ""; pages++ {
		page := answerOf(t, h, "GET", target, http.StatusOK)
		for _, l := range lettersIn(t, page) {
			got = append(got, fmt.Sprint(l["id"]))
		}
		target = ""
		if next, more := page["next"]; more {
			target = fmt.Sprintf("/dead/?limit=2&after=%v", next)
		}
		if pages > 2 {
			t.Fatal("there is no last page")
		}
	}
	if want := fmt.Sprint(letters); fmt.Sprint(got) != want {
		t.Errorf("listed are %v, want %v", got, want)
	}
	if page := answerOf(t, h, "GET", "/dead/?group=printer", http.StatusOK); len(lettersIn(t, page)) != 1 {
		t.Errorf("those of one group are %v", page)
	}
	if page := answerOf(t, h, "GET", "/dead/?group=nobody", http.StatusOK); fmt.Sprint(page["letters"]) != "[]" {
		t.Errorf("none is %v, want an empty list", page)
	}
}

func TestADeadLetterIsShownWithItsMessage(t *testing.T) {
	t.Parallel()
	h, _, letters := deadProgram(t)
	l := answerOf(t, h, "GET", "/dead/"+letters[0].String(), http.StatusOK)
	if l["error"] != "no" || l["group"] != "mailer" || fmt.Sprint(l["payload"]) != "map[tea:2]" || l["original"] == nil {
		t.Errorf("got %v", l)
	}
	answerOf(t, h, "GET", "/dead/"+uuid.NewString(), http.StatusNotFound)
	answerOf(t, h, "GET", "/dead/1", http.StatusUnprocessableEntity)
}

func TestDeadLettersAreReplayedAndDiscarded(t *testing.T) {
	t.Parallel()
	h, queue, letters := deadProgram(t)
	left := func(want int) {
		t.Helper()
		if n, err := queue.Count(t.Context(), deadletter.Filter{}); n != want || err != nil {
			t.Errorf("%d letters are left (%v), want %d", n, err, want)
		}
	}
	answerOf(t, h, "POST", "/dead/"+letters[0].String()+"/replay", http.StatusNoContent)
	left(2)
	answerOf(t, h, "POST", "/dead/"+letters[0].String()+"/replay", http.StatusNotFound)
	answerOf(t, h, "POST", "/dead/"+letters[1].String()+"/discard", http.StatusNoContent)
	left(1)
	answerOf(t, h, "POST", "/dead/replay", http.StatusUnprocessableEntity)
	answerOf(t, h, "POST", "/dead/discard?limit=1", http.StatusUnprocessableEntity)
	left(1)
	if a := answerOf(t, h, "POST", "/dead/discard?group=mailer", http.StatusOK); fmt.Sprint(a) != "map[discarded:0]" {
		t.Errorf("got %v", a)
	}
	left(1)
	if a := answerOf(t, h, "POST", "/dead/replay?all=true", http.StatusOK); fmt.Sprint(a) != "map[replayed:1]" {
		t.Errorf("got %v", a)
	}
	left(0)
}

// TestASlipDiscardsNothing narrows what is discarded in ways that were not understood: what is left of them must not be taken for all
// that was asked for.
func TestASlipDiscardsNothing(t *testing.T) {
	t.Parallel()
	h, queue, letters := deadProgram(t)
	for _, query := range []string{
		"topic=order&gruop=printer", "all=true&gruop=printer", // misspelled
		"topic=order&group=", "all=true&group=", // from a form that was not filled in
		"topic=order&group=%zz", "topic=order&group=printer;x", // broken on the way
		"group=mailer&group=printer", "all=true&all=false", // twice
		"all=yes&topic=order", "topic=order&since=", "topic=order&after=",
	} {
		for _, do := range []string{"discard", "replay"} {
			if a := answerOf(t, h, "POST", "/dead/"+do+"?"+query, http.StatusUnprocessableEntity); a["detail"] == nil {
				t.Errorf("%s of %s is answered by %v", do, query, a)
			}
		}
	}
	if n, err := queue.Count(t.Context(), deadletter.Filter{}); n != len(letters) || err != nil {
		t.Errorf("%d letters are left (%v), want %d", n, err, len(letters))
	}
}

// TestWhatStoppedHalfWayIsLogged lets the sending of replays fail after some.
func TestWhatStoppedHalfWayIsLogged(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	defer backend.Close()
	sent := 0
	queue, err := deadletter.New(deadletter.Config{Events: backend.Events(), Send: func(context.Context, []*es.Message) error {
		if sent++; sent > 1 {
			return errors.New("the broker is gone")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 101 { // more than are replayed at a time
		m := es.NewMessage(fmt.Sprintf("order-%d", i), "OrderPlaced", nil)
		letter, err := es.NewDeadLetter("dead", "mailer", &es.Delivery{Message: m, Topic: "order", Group: "mailer"}, errors.New("no"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := backend.Events().Append(t.Context(), es.AppendTo("dead", es.Any, letter)); err != nil {
			t.Fatal(err)
		}
	}
	var log lockedBuffer
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/replay?all=true", http.NoBody)
	r = r.WithContext(eshttp.WithLogger(r.Context(), slog.New(slog.NewTextHandler(&log, nil))))
	w := httptest.NewRecorder()
	eshttp.DeadLetters(queue).ServeHTTP(w, r)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"replayed":100`) || strings.Contains(w.Body.String(), "broker") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "the broker is gone") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestDeadLettersTurnBadInputDown(t *testing.T) {
	t.Parallel()
	h, _, letters := deadProgram(t)
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "after=-1", "after=x", "since=yesterday", "before=x"} {
		if a := answerOf(t, h, "GET", "/dead/?"+query, http.StatusUnprocessableEntity); !strings.Contains(fmt.Sprint(a["detail"]), "it takes") {
			t.Errorf("%s is answered by %v, want what would be right", query, a)
		}
	}
	answerOf(t, h, "DELETE", "/dead/", http.StatusMethodNotAllowed)

	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/dead/"+letters[0].String()+"/discard", http.NoBody)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("a browser's request from another origin is answered by %d %s", w.Code, w.Body)
	}
}
