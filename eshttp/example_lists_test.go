package eshttp_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func ExampleHealth() {
	h := eshttp.Health(es.NewGroup("projections")) // which was not started
	for _, path := range []string{"/livez", "/readyz"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		h.ServeHTTP(w, r.WithContext(quiet()))
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 200 {"status":"alive"}
	// 503 {"title":"Service Unavailable","status":503,"detail":"not ready: projections","components":["projections"]}
}

func ExampleWriteList() {
	var products iter.Seq2[string, error] = func(yield func(string, error) bool) {
		_ = yield("tea", nil) && yield("milk", nil)
	}
	w := httptest.NewRecorder()
	eshttp.WriteList(w, httptest.NewRequest(http.MethodGet, "/products", nil), "products", products,
		func(product string) any { return map[string]string{"name": product} })
	fmt.Print(w.Body)
	// Output: {"products":[{"name":"tea"},{"name":"milk"}]}
}

func ExampleMaxBody() {
	upload := eshttp.MaxBody(3, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := r.Body.Read(make([]byte, 10))
		var tooLarge *http.MaxBytesError
		fmt.Println("too large:", errors.As(err, &tooLarge))
		w.WriteHeader(http.StatusNoContent)
	}))
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("four"))
	upload.ServeHTTP(httptest.NewRecorder(), r)
	// Output: too large: true
}

func ExampleCommand() {
	type rename struct {
		Name string `json:"name"`
	}
	backend := memory.New()
	defer backend.Close()
	handler, err := es.NewCommandHandler(es.CommandConfig{Name: "customers", Events: backend.Events()},
		func(_ context.Context, c *es.Message) (es.Append, error) {
			return es.AppendTo(c.Stream, es.Any, es.NewMessage(c.Stream, "Renamed", c.Data)), nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	endpoint, err := eshttp.Command(eshttp.CommandConfig[rename]{
		Handler: handler, Name: "Rename",
		Stream: func(r *http.Request, _ *rename) (string, error) { return "customer-" + r.PathValue("id"), nil },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("POST /customers/{id}/name", endpoint)
	for _, version := range []string{"*", `"1"`, `"1"`} {
		r := httptest.NewRequest(http.MethodPost, "/customers/7/name", strings.NewReader(`{"name":"Ann"}`))
		r.Header.Set("Content-Type", "application/json")
		if version == "*" {
			r.Header.Set("If-None-Match", version)
		} else {
			r.Header.Set("If-Match", version)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Header().Get("ETag"))
	}
	// Output:
	// 200 "1"
	// 200 "2"
	// 412
}
