package eshttp_test

import (
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

func numbers(n int, end error) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
		if end != nil {
			yield(0, end)
		}
	}
}

func TestWriteList(t *testing.T) {
	t.Parallel()
	for n, want := range []string{"{\"n\":[]}\n", "{\"n\":[0]}\n", "{\"n\":[0,1]}\n"} {
		w := httptest.NewRecorder()
		eshttp.WriteList(w, httptest.NewRequest(http.MethodGet, "/", nil), "n", numbers(n, nil), func(i int) any { return i })
		if w.Code != http.StatusOK || w.Body.String() != want || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%d values: %d %q %v", n, w.Code, w.Body.String(), w.Header())
		}
	}
}

func TestWriteListThatFails(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	eshttp.WriteList(w, httptest.NewRequest(http.MethodGet, "/", nil), "n", numbers(0, errors.New("secret")), func(i int) any { return i })
	if w.Code != http.StatusInternalServerError || w.Header().Get("Content-Type") != eshttp.ContentTypeProblem {
		t.Errorf("failed at once: %d %q", w.Code, w.Body.String())
	}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		eshttp.WriteList(w, r, "n", numbers(3, errors.New("secret")), func(i int) any { return i })
	}))
	defer server.Close()
	response, err := http.Get(server.URL)
	if err == nil {
		defer response.Body.Close()
		var rest [1 << 10]byte
		for err == nil {
			_, err = response.Body.Read(rest[:])
		}
		if err.Error() == "EOF" {
			t.Error("half a list looks like a whole one")
		}
	}
}
