package howto_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func Example_serveHTTP() {
	run(serveHTTP)
	// Output:
	// GET /readyz: 200 application/json {"status":"ready"}
	// POST /orders: 202 application/json {"accepted":true}
	// POST /orders: 422 application/problem+json {"title":"Unprocessable Entity","status":422,"detail":"invalid total: it is 0; it takes 1 or more"}
	// GET /orders/9: 404 application/problem+json {"title":"Not Found","status":404,"detail":"what was asked for is not there"}
	// stopped: <nil>
}

func Example_maxBody() {
	mux := http.NewServeMux()
	mux.Handle("POST /scans", eshttp.MaxBody(10<<20, http.HandlerFunc(scan)))

	for _, size := range []int{10 << 20, 10<<20 + 1} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/scans", strings.NewReader(strings.Repeat("x", size))))
		fmt.Println(w.Code)
	}
	// Output:
	// 204
	// 413
}

// scan takes a file.
func scan(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		eshttp.Error(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func Example_withoutServer() {
	run(func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		backend := memory.New()
		defer backend.Close()
		p, err := processor.NewAtLeastOnce(processor.Config{Outbox: backend.Outbox(), Events: backend.Events()})
		if err != nil {
			return err
		}
		stopped := make(chan error)
		go func() { stopped <- work(ctx, p) }()
		if err := backend.Outbox().Enqueue(ctx, es.NewMessage("order-7", "OrderPlaced", []byte(`{}`))); err != nil {
			return err
		}
		head, err := backend.Events().Wait(ctx, es.Checkpoint{})
		fmt.Println("appended at position", head.Position, err)
		cancel()
		fmt.Println("stopped:", <-stopped)
		return nil
	})
	// Output:
	// appended at position 1 <nil>
	// stopped: <nil>
}

// work runs the parts of a program until ctx ends, or the first of them.
func work(ctx context.Context, parts ...es.Component) error {
	program := es.NewGroup("worker", parts...)
	if err := program.Start(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done(): // signal.NotifyContext makes one that ends with a signal
	case <-program.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 25*time.Second)
	defer cancel()
	return errors.Join(program.Err(), program.Stop(patience))
}

// orders is what the requests are about.
type orders struct {
	outbox es.Outbox
	totals es.Model[int]
}

func (o orders) place(w http.ResponseWriter, r *http.Request) {
	order, err := eshttp.DecodeJSON[struct {
		Total int `json:"total"`
	}](w, r, eshttp.JSONLimits{})
	if err == nil && order.Total < 1 {
		err = es.Invalidf("total", "is %d; it takes 1 or more", order.Total)
	}
	if err == nil {
		m := es.NewMessage("order-7", "OrderPlaced", fmt.Appendf(nil, `{"total":%d}`, order.Total))
		err = o.outbox.Enqueue(r.Context(), m)
	}
	if err != nil {
		eshttp.Error(w, r, err)
		return
	}
	_ = eshttp.WriteJSON(w, http.StatusAccepted, map[string]bool{"accepted": true})
}

func (o orders) show(w http.ResponseWriter, r *http.Request) {
	total, err := o.totals.Load(r.Context(), r.PathValue("id"))
	if err != nil {
		eshttp.Error(w, r, err) // es.ErrNotFound is a 404
		return
	}
	_ = eshttp.WriteJSON(w, http.StatusOK, map[string]int{"total": total.Value})
}

// serve runs the service until ctx ends or a signal comes.
func serve(ctx context.Context, onListen func(net.Addr)) error {
	backend := memory.New()
	defer backend.Close()
	p, err := processor.NewAtLeastOnce(processor.Config{Outbox: backend.Outbox(), Events: backend.Events()})
	if err != nil {
		return err
	}
	o := orders{outbox: backend.Outbox(), totals: es.NewModel[int](backend.ReadModels(), "totals")}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", o.place)
	mux.HandleFunc("GET /orders/{id}", o.show)
	health := eshttp.Health(p)
	mux.Handle("/livez", health)
	mux.Handle("/readyz", health)

	return eshttp.Run(ctx, eshttp.Config{
		Addr:       "127.0.0.1:0", // a free port; 127.0.0.1:8000 by default
		Handler:    mux,
		Components: []es.Component{p}, // started before the server listens, stopped after it has drained
		OnListen:   onListen,
	})
}

func serveHTTP(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	listening, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, func(addr net.Addr) { listening <- addr }) }()
	var base string
	select {
	case addr := <-listening:
		base = "http://" + addr.String()
	case err := <-ended:
		stop()
		return err
	}

	err := errors.Join(
		request(ctx, http.MethodGet, base, "/readyz", ""),
		request(ctx, http.MethodPost, base, "/orders", `{"total":42}`),
		request(ctx, http.MethodPost, base, "/orders", `{"total":0}`),
		request(ctx, http.MethodGet, base, "/orders/9", ""),
	)
	stop()
	fmt.Println("stopped:", <-ended)
	return err
}

// request prints what the service answers.
func request(ctx context.Context, method, base, path, body string) error {
	r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	fmt.Println(method, path+":", response.StatusCode, response.Header.Get("Content-Type"), strings.TrimSpace(string(answer)))
	return nil
}
