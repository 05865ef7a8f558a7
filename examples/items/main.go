// Command items is a small service that has everything: items come in by HTTP, are stored as events, and are listed from a read
// model. None is lost on the way, and none is listed twice, also when the process is killed at any moment and started again.
//
//	POST ─▶ outbox ─▶ processor ─▶ event store ─▶ router ─▶ read model ─▶ GET
//
// Try it:
//
//	curl -H 'Content-Type: application/json' -d '{"tea":2}' '127.0.0.1:8000/items/?name=ItemAdded'
//	curl 127.0.0.1:8000/items/
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/store"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

type options struct {
	addr, store, refuse string
	lease               time.Duration
	failFirst           bool
}

func main() {
	var o options
	flag.StringVar(&o.addr, "addr", "127.0.0.1:8000", "`address` to listen on; port 0 takes a free one")
	flag.StringVar(&o.store, "store", "sqlite:items.db", store.Usage)
	flag.DurationVar(&o.lease, "lease", 5*time.Second, "how long what this process has in hand waits for it after it was killed")
	flag.BoolVar(&o.failFirst, "fail-first", false, "let the handler fail once for each item, to see it tried again")
	flag.StringVar(&o.refuse, "refuse", "", "let the handler refuse items of this `name`, to see dead letters")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "items:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	config, err := es.ConfigFromEnv(os.LookupEnv)
	if err != nil {
		return err
	}
	log := es.NewLogger(os.Stderr, config)
	backend, err := store.Open(context.Background(), o.store, config, log)
	if err != nil {
		return err
	}
	defer backend.Close()

	// The processor takes messages from the outbox and stores them as events, in one step.
	p, err := processor.NewAtLeastOnce(processor.Config{
		Outbox: backend.Outbox(), Events: backend.Events(),
		DeadStream: config.DeadStream, PollInterval: config.PollInterval, Lease: o.lease, Logger: log,
	})
	if err != nil {
		return err
	}

	// The log of events is the broker: what is stored comes to those who subscribe to its category.
	broker, err := eventlog.New(backend, eventlog.Config{Lease: o.lease, Logger: log})
	if err != nil {
		return err
	}
	defer broker.Close() // before the backend

	// The router brings events to the handler, through middleware. What fails for good goes to the dead stream.
	r, err := router.New(router.Config{
		Subscriber: broker, DeadLetter: router.ToOutbox(backend.Outbox()), DeadStream: config.DeadStream, Logger: log,
	})
	if err != nil {
		return err
	}
	prometheus, err := middleware.NewPrometheus(middleware.PrometheusConfig{})
	if err != nil {
		return err
	}
	var metrics middleware.MetricsConfig // measures nothing
	if !config.NoMetrics {
		metrics.Recorder = prometheus
	}
	items := es.NewModel[json.RawMessage](backend.ReadModels(), "items")
	err = errors.Join(
		r.Use(
			middleware.Logging(middleware.LoggingConfig{Logger: log}),
			middleware.Metrics(metrics),
			middleware.Retry(middleware.RetryConfig{}),
			middleware.Dedupe(backend.Dedupe(), middleware.DedupeConfig{Lease: o.lease, Logger: log}),
			middleware.Recover(middleware.RecoverConfig{}),
		),
		r.Route("items.events", o.trouble(project(items)), router.Options{
			Name: "items", Start: es.Start{Kind: es.StartBeginning},
		}),
	)
	if err != nil {
		return err
	}

	// Those who look after dead letters list, discard and replay them.
	dead, err := deadletter.New(deadletter.Config{Events: backend.Events(), Outbox: backend.Outbox(), Stream: config.DeadStream})
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /items/{$}", accept(backend.Outbox(), config.DeadStream))
	mux.HandleFunc("GET /items/{$}", func(w http.ResponseWriter, r *http.Request) {
		eshttp.WriteList(w, r, "items", items.All(r.Context(), ""), func(i es.Item[json.RawMessage]) any { return i.Value })
	})
	mux.Handle("/dead/", http.StripPrefix("/dead", eshttp.DeadLetters(dead)))
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", middleware.PrometheusContentType)
		_, _ = prometheus.Expose(r.Context(), w)
	})
	mux.Handle("/livez", eshttp.Health())
	mux.Handle("/readyz", eshttp.Health(r, p))
	return eshttp.Run(context.Background(), eshttp.Config{
		Addr: o.addr, Handler: mux, Components: []es.Component{r, p}, Logger: log,
		OnListen: func(a net.Addr) { fmt.Printf("listening on http://%s\n", a) },
	})
}

// accept puts an item into the outbox. When it answers, the item cannot be lost any more. Who gets no answer sends the request again,
// with the same Idempotency-Key: it makes both the same message, which is stored once.
func accept(outbox es.Outbox, deadStream string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, stream := r.URL.Query().Get("name"), cmp.Or(r.URL.Query().Get("stream"), "items.events")
		switch {
		case name == "":
			eshttp.Error(w, r, es.Invalidf("name", "is missing; say what happened, such as ?name=ItemAdded"))
			return
		case stream == deadStream:
			eshttp.Error(w, r, es.Invalidf("stream", "is %q, which is for dead letters; choose another", stream))
			return
		}
		payload, err := eshttp.ReadJSON(w, r, eshttp.JSONLimits{})
		if err != nil {
			eshttp.Error(w, r, err)
			return
		}
		key, err := eshttp.IdempotencyKey(r.Header)
		if err != nil {
			eshttp.Error(w, r, err)
			return
		}
		m := es.NewMessage(stream, name, payload)
		m.CorrelationID = es.NewID().String()
		if key != "" {
			m.ID = uuid.NewSHA1(uuid.Nil, []byte(key))
		}
		if err := outbox.Enqueue(r.Context(), m); err != nil {
			eshttp.Error(w, r, err)
			return
		}
		_ = eshttp.WriteJSON(w, http.StatusOK, map[string]bool{"accepted": true})
	}
}

// project saves each item under its position in the event store, with leading zeros: so the items are listed in the order in
// which they were stored, and one that is delivered again is written over itself.
func project(items es.Model[json.RawMessage]) es.HandlerFunc {
	return func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
		return nil, items.Save(ctx, fmt.Sprintf("%020d", d.Position), d.Data, es.Any)
	}
}

// trouble makes the trouble that the flags ask for.
func (o options) trouble(next es.Handler) es.HandlerFunc {
	return func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
		switch {
		case o.refuse != "" && d.Name == o.refuse:
			return nil, es.DeadLetter(errors.New("refused, as -refuse asks for"))
		case o.failFirst && d.Attempt == 1:
			return nil, errors.New("failed the first time, as -fail-first asks for")
		}
		return next.Handle(ctx, d)
	}
}
