package howto_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_liveUpdates() {
	run(liveUpdates)
	// Output:
	// data: {"placed":0}
	// data: {"placed":1}
	// stopped: <nil>
}

// board is what is shown.
type board struct {
	Placed int `json:"placed"`
}

// serveBoard runs a service that shows how many orders were placed, and each order.
func serveBoard(ctx context.Context, backend *memory.Backend, onListen func(net.Addr)) error {
	live, err := eshttp.NewLive(eshttp.LiveConfig{
		Events: backend.Events(),
		// Waiter: es.WaitForProgress(backend.ReadModels(), "orders"), when Load reads a read model that a projection keeps
	})
	if err != nil {
		return err
	}
	orders, err := eshttp.LiveState(eshttp.LiveStateConfig[board]{
		Live: live,
		Load: func(ctx context.Context, _ string) (board, error) {
			var b board
			for _, err := range backend.Events().Read(ctx, es.Query{Category: "order"}) {
				if err != nil {
					return b, err
				}
				b.Placed++
			}
			return b, nil
		},
	})
	if err != nil {
		return err
	}
	events, err := eshttp.LiveEvents(eshttp.LiveEventsConfig{
		Live: live,
		Query: func(*http.Request) (es.Query, error) {
			return es.Query{Category: "order", Names: []string{"OrderPlaced"}}, nil
		},
	})
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("GET /orders/live", orders)
	mux.Handle("GET /orders/events", events)
	return eshttp.Run(ctx, eshttp.Config{
		Addr: "127.0.0.1:0", Handler: mux,
		Components: []es.Component{live},
		OnListen:   onListen,
	})
}

func liveUpdates(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	backend := memory.New()
	defer backend.Close()
	listening, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- serveBoard(ctx, backend, func(addr net.Addr) { listening <- addr }) }()
	var addr net.Addr
	select {
	case addr = <-listening:
	case err := <-ended:
		return err
	}

	r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, "http://"+addr.String()+"/orders/live", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	shown := 0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); { // until the server stops
		if !strings.HasPrefix(lines.Text(), "data:") {
			continue
		}
		fmt.Println(lines.Text())
		if shown++; shown == 2 {
			stop()
			continue
		}
		placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{}`))
		if _, err := backend.Events().Append(ctx, es.AppendTo("order-7", es.NoStream, placed)); err != nil {
			return err
		}
	}
	fmt.Println("stopped:", <-ended)
	return nil
}
