// Command prescriptions takes scanned prescriptions and checks them: a chain of handlers that fans out.
//
//	POST ─▶ outbox ─▶ processor ─▶ event store ─▶ ocr ─▶ OCRCompleted ─┬─▶ interactions ──────┐
//	                       ▲                                │           ├─▶ duplicates ────────┼─▶ read model ─▶ GET
//	                       └─────────── outbox ◀────────────┘           └─▶ contraindications ─┘
//
// Each handler returns an event of its own, which goes the same way. All events of a prescription carry the same correlation ID, and each
// names the one that caused it.
//
// Try it:
//
//	printf 'Warfarin 5 mg\nIbuprofen 400 mg' > p.txt
//	curl -F file=@p.txt 127.0.0.1:8000/upload_prescription/
//	curl 127.0.0.1:8000/projections/
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/store"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "`address` to listen on; port 0 takes a free one")
	where := flag.String("store", "sqlite:prescriptions.db", store.Usage)
	lease := flag.Duration("lease", 5*time.Second, "how long what this process has in hand waits for it after it was killed")
	flag.Parse()
	if err := run(*addr, *where, *lease); err != nil {
		fmt.Fprintln(os.Stderr, "prescriptions:", err)
		os.Exit(1)
	}
}

func run(addr, where string, lease time.Duration) error {
	config, err := es.ConfigFromEnv(os.LookupEnv)
	if err != nil {
		return err
	}
	log := es.NewLogger(os.Stderr, config)
	backend, err := store.Open(context.Background(), where, config, log)
	if err != nil {
		return err
	}
	defer backend.Close()
	p, err := processor.NewAtLeastOnce(processor.Config{
		Outbox: backend.Outbox(), Events: backend.Events(),
		DeadStream: config.DeadStream, PollInterval: config.PollInterval, Lease: lease, Logger: log,
	})
	if err != nil {
		return err
	}
	// The log of events is the broker: what the processor stores comes to the routes.
	broker, err := eventlog.New(backend, eventlog.Config{Lease: lease, Logger: log})
	if err != nil {
		return err
	}
	defer broker.Close()
	// What handlers return goes to the outbox, and from there the same way as what is uploaded.
	r, err := router.New(router.Config{
		Subscriber: broker, Emit: router.ToOutbox(backend.Outbox()), DeadStream: config.DeadStream, Logger: log,
	})
	if err != nil {
		return err
	}
	projections := es.NewModel[projection](backend.ReadModels(), "projections")
	err = errors.Join(
		r.Use(
			middleware.Logging(middleware.LoggingConfig{Logger: log}),
			middleware.Correlation(middleware.CorrelationConfig{}),
			middleware.Retry(middleware.RetryConfig{}),
			middleware.Dedupe(backend.Dedupe(), middleware.DedupeConfig{Lease: lease, Logger: log}),
			middleware.Recover(middleware.RecoverConfig{}),
		),
		routes(r, projections),
	)
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("POST /upload_prescription/{$}", upload(backend.Outbox()))
	mux.HandleFunc("GET /projections/{$}", func(w http.ResponseWriter, r *http.Request) {
		prefix := r.URL.Query().Get("prescription") // all of them without
		eshttp.WriteList(w, r, "projections", projections.All(r.Context(), prefix), func(i es.Item[projection]) any { return i.Value })
	})
	mux.Handle("/livez", eshttp.Health())
	mux.Handle("/readyz", eshttp.Health(r, p))
	return eshttp.Run(context.Background(), eshttp.Config{
		Addr: addr, Handler: mux, Components: []es.Component{r, p}, Logger: log,
		OnListen: func(a net.Addr) { fmt.Printf("listening on http://%s\n", a) },
	})
}
