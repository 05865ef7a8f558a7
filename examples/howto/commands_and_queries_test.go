package howto_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_commandsAndQueries() {
	run(commandsAndQueries)
	// Output:
	// at version 1, repeated: false
	// at version 1, repeated: true
	// another command under the same ID: true
	// invalid total: it is 0; it takes 1 or more
	// answered: 42
}

func Example_commandsOverHTTP() {
	run(commandsOverHTTP)
	// Output:
	// POST: 201 "1"
	// POST again: 201 "1" replayed
	// POST for a version that is no more: 412
	// GET what it has led to: 200 {"total":42}
	// GET what is known already: 304
}

// PlaceOrder is a command.
type PlaceOrder struct {
	Total int `json:"total"`
}

// OrderPlaced is what it leads to.
type OrderPlaced struct {
	Total int `json:"total"`
}

// newOrderTypes returns the types that the orders need.
func newOrderTypes() *es.Types {
	types := es.NewTypes()
	es.Register[PlaceOrder](types, "PlaceOrder")
	es.Register[OrderPlaced](types, "OrderPlaced")
	return types
}

// newOrderCommands returns the handler that carries out the commands of orders.
func newOrderCommands(store es.EventStore, types *es.Types) (*es.CommandHandler, error) {
	return es.NewCommandHandler(es.CommandConfig{Name: "orders", Events: store},
		es.DecideAs(types, func(_ context.Context, c PlaceOrder, m *es.Message) (es.Append, error) {
			if c.Total < 1 {
				return es.Append{}, es.Invalidf("total", "is %d; it takes 1 or more", c.Total)
			}
			return types.AppendTo(m.Stream, es.NoStream, OrderPlaced(c))
		}))
}

// OrderByID is a query.
type OrderByID struct {
	ID string `path:"id"`
}

// newOrderQueries returns the handler that answers queries for orders, from the read model "orders".
func newOrderQueries(models es.ReadModels) (*es.QueryHandler[OrderByID, es.Item[OrderPlaced]], error) {
	return es.NewQueryHandler(
		es.QueryConfig{Waiter: es.WaitForProgress(models, "orders")},
		es.FromModel(es.NewModel[OrderPlaced](models, "orders"), func(q OrderByID) string { return "order-" + q.ID }))
}

func commandsAndQueries(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	types := newOrderTypes()
	commands, err := newOrderCommands(backend.Events(), types)
	if err != nil {
		return err
	}
	queries, err := newOrderQueries(backend.ReadModels())
	if err != nil {
		return err
	}

	command, err := types.Encode("order-7", PlaceOrder{Total: 42})
	if err != nil {
		return err
	}
	result, err := commands.Do(ctx, command)
	if err != nil {
		return err
	}
	fmt.Printf("at version %d, repeated: %v\n", result.Version, result.Repeated)

	result, err = commands.Do(ctx, command) // the answer was lost, for example
	if err != nil {
		return err
	}
	fmt.Printf("at version %d, repeated: %v\n", result.Version, result.Repeated)

	other, err := types.Encode("order-8", PlaceOrder{Total: 1})
	if err != nil {
		return err
	}
	other.ID = command.ID
	_, err = commands.Do(ctx, other)
	fmt.Println("another command under the same ID:", errors.Is(err, es.ErrDuplicate))

	empty, err := types.Encode("order-9", PlaceOrder{})
	if err != nil {
		return err
	}
	_, err = commands.Do(ctx, empty)
	fmt.Println(err)

	if err := projectOrders(ctx, backend, types); err != nil {
		return err
	}
	item, err := queries.AskAfter(ctx, OrderByID{ID: "7"}, result.Checkpoint)
	if err != nil {
		return err
	}
	fmt.Println("answered:", item.Value.Total)
	return nil
}

// projectOrders brings the read model of orders up to date.
func projectOrders(ctx context.Context, backend *memory.Backend, types *es.Types) error {
	models := es.NewModel[OrderPlaced](backend.ReadModels(), "orders")
	from, err := backend.ReadModels().Progress(ctx, "orders")
	if err != nil {
		return err
	}
	head, err := backend.Events().Head(ctx)
	if err != nil {
		return err
	}
	next := es.Commit{Progress: es.ProgressUpdate{Projection: "orders", From: from, To: es.Progress{Checkpoint: head}}}
	for m, err := range backend.Events().Read(ctx, es.Query{Category: "order", UpTo: head.Position}.Resume(from.Checkpoint)) {
		if err != nil {
			return err
		}
		placed, err := es.Decode[OrderPlaced](types, m)
		if err != nil {
			return err
		}
		w, err := models.Put(m.Stream, placed, es.Any)
		if err != nil {
			return err
		}
		next.Writes = append(next.Writes, w)
	}
	return backend.ReadModels().Commit(ctx, next)
}

// newOrderService returns the service over HTTP.
func newOrderService(backend *memory.Backend, types *es.Types) (http.Handler, error) {
	commands, err := newOrderCommands(backend.Events(), types)
	if err != nil {
		return nil, err
	}
	place, err := eshttp.Command(eshttp.CommandConfig[PlaceOrder]{
		Handler: commands,
		Types:   types,
		Stream:  func(r *http.Request, _ *PlaceOrder) (string, error) { return "order-" + r.PathValue("id"), nil },
		Scope:   func(r *http.Request) string { return r.Header.Get("X-User") }, // as your authentication has it
		Status:  http.StatusCreated,
	})
	if err != nil {
		return nil, err
	}
	queries, err := newOrderQueries(backend.ReadModels())
	if err != nil {
		return nil, err
	}
	show, err := eshttp.QueryItem(queries)
	if err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	mux.Handle("POST /orders/{id}", place)
	mux.Handle("GET /orders/{id}", show)
	return eshttp.Correlation(mux), nil
}

func commandsOverHTTP(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	types := newOrderTypes()
	service, err := newOrderService(backend, types)
	if err != nil {
		return err
	}
	send := func(method, body string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(ctx, method, "/orders/7", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		service.ServeHTTP(w, r)
		return w
	}

	const key = "8e03978e-40d5-43e8-bc93-6894a57f9324"
	first := send(http.MethodPost, `{"total":42}`, "Idempotency-Key", key)
	fmt.Println("POST:", first.Code, first.Header().Get("ETag"))
	again := send(http.MethodPost, `{"total":42}`, "Idempotency-Key", key)
	fmt.Println("POST again:", again.Code, again.Header().Get("ETag"), map[string]string{"true": "replayed"}[again.Header().Get("Idempotency-Replayed")])
	late := send(http.MethodPost, `{"total":43}`, "If-None-Match", "*")
	fmt.Println("POST for a version that is no more:", late.Code)

	if err := projectOrders(ctx, backend, types); err != nil {
		return err
	}
	shown := send(http.MethodGet, "", eshttp.PositionName, first.Header().Get(eshttp.PositionName))
	fmt.Println("GET what it has led to:", shown.Code, strings.TrimSpace(shown.Body.String()))
	known := send(http.MethodGet, "", "If-None-Match", shown.Header().Get("ETag"))
	fmt.Println("GET what is known already:", known.Code)
	return nil
}
