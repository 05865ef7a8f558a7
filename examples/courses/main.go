// Command courses offers courses with a number of seats to students who may take three of them. No course ever has more students than seats
// and no student more than three courses, however many ask at once, in however many copies of the program.
//
// Neither rule is that of one stream: a seat is a matter between a course and a student. A decision reads the events that are tagged with
// either, and is appended on the condition that nothing else has come to be tagged so.
//
//	POST ─▶ command handler ─▶ decision over tags ─▶ event store ─▶ catalog ─▶ GET
//
// Try it:
//
//	post() { curl -s -H 'Content-Type: application/json' -H "Idempotency-Key: $1" -d "$2" "127.0.0.1:8000/courses/$3"; }
//	post k1 '{"title":"Go","seats":1}' go-101
//	post k2 '{"student":"ann"}' go-101/enrollments
//	post k3 '{"student":"bob"}' go-101/enrollments    # the course has no seat left
//	curl 127.0.0.1:8000/courses
//	curl 127.0.0.1:8000/students/ann
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
	where := flag.String("store", "sqlite:courses.db", store.Usage)
	lease := flag.Duration("lease", 5*time.Second, "how long the projection waits for this process after it was killed")
	flag.Parse()
	if err := run(*addr, *where, *lease); err != nil {
		fmt.Fprintln(os.Stderr, "courses:", err)
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

	types := newTypes()
	office, err := newOffice(backend.Events(), types)
	if err != nil {
		return err
	}
	// Of several copies of this program one does the work of the projection, and another takes over when it has gone.
	catalog, err := newCatalog(projection.Config{
		Events: backend.Events(), Models: backend.ReadModels(), Types: types, Category: category,
		Leases: backend.Leases(), LeaseTTL: lease, Logger: log,
	})
	if err != nil {
		return err
	}
	requests, err := (&api{
		office: office, events: backend.Events(), models: backend.ReadModels(), catalog: catalog,
	}).routes()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", requests)
	mux.Handle("GET /livez", eshttp.Health())
	mux.Handle("GET /readyz", eshttp.Health(catalog))
	return eshttp.Run(context.Background(), eshttp.Config{
		Addr: addr, Handler: mux, Components: []es.Component{catalog}, Logger: log,
		OnListen: func(a net.Addr) { fmt.Printf("listening on http://%s\n", a) },
	})
}
