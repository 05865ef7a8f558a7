// Command bank keeps accounts, and moves money between them. It never makes any and never loses any, also when transfers race, when two
// copies run beside each other, and when they are killed at any moment.
//
//	POST ─▶ command handler ─▶ accounts decide ─▶ event store ─┬─▶ overview ───▶ GET /accounts, /books
//	                               ▲                           └─▶ statements ─▶ GET /accounts/{id}/statement
//	                               └── events and snapshots ────────────────────▶ GET /accounts/{id}
//
// Try it:
//
//	post() { curl -s -H 'Content-Type: application/json' -H "Idempotency-Key: $1" -d "$2" "127.0.0.1:8000/accounts/$3"; }
//	post k1 '{"owner":"Ann"}' ann
//	post k2 '{"owner":"Bob"}' bob
//	post k3 '{"amount":1000}' ann/deposits
//	post k4 '{"to":"bob","amount":300}' ann/transfers
//	post k4 '{"to":"bob","amount":300}' ann/transfers   # again: the answer is the same, and so is the money
//	curl 127.0.0.1:8000/accounts
//
// README.md tells why it is made the way it is.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/store"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "`address` to listen on; port 0 takes a free one")
	where := flag.String("store", "sqlite:bank.db", store.Usage)
	lease := flag.Duration("lease", 5*time.Second, "how long the projections wait for this process after it was killed")
	again := flag.String("rebuild", "", "build the read models of a `projection` once more, overview or statements, and end")
	flag.Parse()
	if err := run(*addr, *where, *lease, *again); err != nil {
		fmt.Fprintln(os.Stderr, "bank:", err)
		os.Exit(1)
	}
}

func run(addr, where string, lease time.Duration, again string) error {
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

	types := newTypes()
	accounts, err := newAccounts(backend, types, log)
	if err != nil {
		return err
	}

	// Of several copies of this program one does the work of each projection, and another takes over when it has gone.
	projected := projection.Config{
		Events: backend.Events(), Models: backend.ReadModels(), Types: types, Category: category,
		Leases: backend.Leases(), LeaseTTL: lease, Logger: log,
	}
	overview, err := newOverview(projected)
	if err != nil {
		return err
	}
	statements, err := newStatements(projected)
	if err != nil {
		return err
	}

	if again != "" {
		return rebuild(again, overview, statements)
	}

	requests, err := (&api{
		bank: &bank{accounts}, events: backend.Events(), models: backend.ReadModels(), overview: overview, statements: statements,
	}).routes()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", requests)
	mux.Handle("GET /livez", eshttp.Health())
	mux.Handle("GET /readyz", eshttp.Health(overview, statements))
	return eshttp.Run(context.Background(), eshttp.Config{
		Addr: addr, Handler: mux, Components: []es.Component{overview, statements}, Logger: log,
		OnListen: func(a net.Addr) { fmt.Printf("listening on http://%s\n", a) },
	})
}
