package eshttp_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

func ExampleRun() {
	ctx, stop := context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.Handle("/", eshttp.Health())
	err := eshttp.Run(ctx, eshttp.Config{
		Addr:     "127.0.0.1:0", // a free port
		Handler:  mux,
		OnListen: func(net.Addr) { stop() }, // a program goes on until a signal comes
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleError() {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/orders", nil)
	eshttp.Error(w, r, fmt.Errorf("INSERT INTO orders: %w", es.Invalidf("quantity", "is 0; it takes 1 or more")))
	fmt.Println(w.Body)
	// Output: {"title":"Unprocessable Entity","status":422,"detail":"invalid quantity: it is 0; it takes 1 or more"}
}

func ExampleDecodeJSON() {
	type order struct {
		Product string `json:"product"`
	}
	place := func(w http.ResponseWriter, r *http.Request) {
		o, err := eshttp.DecodeJSON[order](w, r, eshttp.JSONLimits{})
		if err != nil {
			eshttp.Error(w, r, err)
			return
		}
		_ = eshttp.WriteJSON(w, http.StatusCreated, o)
	}
	for _, body := range []string{`{"product":"tea"}`, `{"product":`} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		place(w, r)
		fmt.Println(strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// {"product":"tea"}
	// {"title":"Bad Request","status":400,"detail":"the body is not valid JSON at byte 11: unexpected end of JSON input"}
}
