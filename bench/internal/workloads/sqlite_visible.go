package workloads

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

const (
	fiveMillis      = "5 ms"
	firstItems      = "eventsourcing, the first items"
	visibleMessages = 100
	visibleItems    = 100_000
	itemModel       = "items"
)

func sqliteVisible() measure.Workload {
	return measure.Workload{
		Name:  "sqlite-post-visible",
		Title: "SQLite, synchronous=FULL, 100,000 items: from POST to a GET that shows the item, in one process",
		About: "A client adds one item after the other: it POSTs a command, and GETs what it has led to with the position of the answer. The " +
			"command is carried out once, its event is projected into a document, and the query waits for it. The time is that from the " +
			"beginning of the POST to the end of the GET, which has to show the item.",
		Unit:     measure.Latency,
		Messages: visibleMessages,
		Contenders: []measure.Contender{
			{
				Name: measure.Ours, Open: openItems(visibleItems),
				How: "eshttp.Command, eshttp.Query with es.WaitForProgress, and a loop of Wait, Read and Commit, on sqlite.Open with its " +
					"defaults, with 100,000 items",
			},
			{Name: firstItems, Open: openItems(0), How: "the same on an empty file"},
			{Name: fiveMillis, Run: takeFiveMillis, How: "what it may take; nothing is run"},
		},
		Floors: []measure.Floor{
			{Against: fiveMillis, Ratio: 1, Why: "less than 5 ms at the median"},
			{Against: firstItems, Ratio: 0.8, Why: "the same at the 100,000th item as at the first"},
		},
	}
}

func takeFiveMillis(_ context.Context, n int) (measure.Result, error) {
	const promised = 5 * time.Millisecond
	return measure.Result{Elapsed: time.Duration(n) * promised, Median: promised, Slowest: promised}, nil
}

// items is a service whose items are added and looked at over HTTP.
type items struct {
	*shownProjection

	backend es.Backend
	path    string
	server  *httptest.Server
	stop    context.CancelFunc
	ended   chan error
	next    int
}

// addItem is a command, and item what it leads to, and what is shown.
type addItem struct {
	Label string `json:"label"`
}

type item struct {
	Label string `json:"label"`
}

type itemByID struct {
	ID string `path:"id"`
}

func openItems(stored int) func(context.Context, measure.Stage) (measure.Setup, error) {
	return func(ctx context.Context, s measure.Stage) (measure.Setup, error) {
		path, err := newPath(s, "ours")
		if err != nil {
			return nil, err
		}
		f, err := openOurs(path)
		if err != nil {
			return nil, err
		}
		service, err := newItems(ctx, f.db, s.Stored(stored))
		if err != nil {
			return nil, errors.Join(err, f.db.Close())
		}
		service.path = path
		return service, nil
	}
}

func newItems(ctx context.Context, backend es.Backend, stored int) (*items, error) {
	s := &items{backend: backend, shownProjection: &shownProjection{backend: backend}, ended: make(chan error, 1)}
	if err := s.store(ctx, stored); err != nil {
		return nil, err
	}
	if err := s.catchUp(ctx, int64(stored)); err != nil {
		return nil, err
	}
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() { s.ended <- s.run(running) }()
	s.server = httptest.NewServer(handler)
	return s, nil
}

func (s *items) handler() (http.Handler, error) {
	types := es.NewTypes()
	es.Register[addItem](types, "AddItem")
	es.Register[item](types, "ItemAdded")
	commands, err := es.NewCommandHandler(es.CommandConfig{Name: itemModel, Events: s.backend.Events()},
		es.DecideAs(types, func(_ context.Context, c addItem, m *es.Message) (es.Append, error) {
			return types.AppendTo(m.Stream, es.NoStream, item(c))
		}))
	if err != nil {
		return nil, err
	}
	add, err := eshttp.Command(eshttp.CommandConfig[addItem]{
		Handler: commands,
		Types:   types,
		Stream:  func(r *http.Request, _ *addItem) (string, error) { return itemStream(r.PathValue("id")), nil },
		Status:  http.StatusCreated,
	})
	if err != nil {
		return nil, err
	}
	models := s.backend.ReadModels()
	queries, err := es.NewQueryHandler(
		es.QueryConfig{Waiter: es.WaitForProgress(models, itemModel)},
		es.FromModel(es.NewModel[item](models, itemModel), func(q itemByID) string { return itemStream(q.ID) }))
	if err != nil {
		return nil, err
	}
	show, err := eshttp.QueryItem(queries)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /items/{id}", add)
	mux.Handle("GET /items/{id}", show)
	return mux, nil
}

func itemStream(id string) string { return "item-" + id }

// itemLabel makes up for the size of an event.
func itemLabel(id string) string {
	return "item " + id + string(bytes.Repeat([]byte{'x'}, payloadBytes-len(`{"label":"item "}`)-len(id)))
}

// store stores the first items, as the commands would.
func (s *items) store(ctx context.Context, n int) error {
	const perAppend = 1000
	for s.next < n {
		var a es.Append
		for range min(perAppend, n-s.next) {
			id := strconv.Itoa(s.next)
			s.next++
			m := es.NewMessage(itemStream(id), "ItemAdded", []byte(`{"label":"`+itemLabel(id)+`"}`))
			m.Tags = []string{es.CommandTag(m.ID)}
			a.Streams = append(a.Streams, es.StreamAppend{Stream: m.Stream, Expect: es.NoStream, Events: []*es.Message{m}})
		}
		if _, err := s.backend.Events().Append(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// Run adds n items.
func (s *items) Run(ctx context.Context, n int) (measure.Result, error) {
	laps := make([]time.Duration, n)
	var watch measure.Stopwatch
	watch.Start()
	for i := range laps {
		began := time.Now()
		if err := s.add(ctx, strconv.Itoa(s.next)); err != nil {
			return measure.Result{}, err
		}
		laps[i] = time.Since(began)
		s.next++
	}
	watch.Stop()
	result := watch.Result(measure.Faults{})
	result.Median, result.Slowest = percentiles(laps)
	return result, nil
}

// add adds an item, and looks at it.
func (s *items) add(ctx context.Context, id string) error {
	label := itemLabel(id)
	body := []byte(`{"label":"` + label + `"}`)
	url := s.server.URL + "/items/" + id
	created, _, err := s.ask(ctx, http.MethodPost, url, body, nil)
	if err != nil {
		return err
	}
	after := http.Header{eshttp.PositionName: created.Values(eshttp.PositionName)}
	_, shown, err := s.ask(ctx, http.MethodGet, url, nil, after)
	if err == nil && !bytes.Contains(shown, []byte(label)) {
		err = fmt.Errorf("item %s is shown as %s", id, shown)
	}
	return err
}

func (s *items) ask(ctx context.Context, method, url string, body []byte, header http.Header) (http.Header, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if header != nil {
		request.Header = header
	}
	request.Header.Set("Content-Type", es.ContentTypeJSON)
	response, err := s.server.Client().Do(request)
	if err != nil {
		return nil, nil, err
	}
	answer, err := io.ReadAll(response.Body)
	err = errors.Join(err, response.Body.Close())
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %s", method, url, response.Status, answer)
	}
	return response.Header, answer, err
}

// Close stops the service, and looks at what is left: a document and an event for each item.
func (s *items) Close() error {
	s.server.Close()
	s.stop()
	err := <-s.ended
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	head, headErr := s.backend.Events().Head(context.Background())
	if headErr == nil && head.Position != int64(s.next) {
		headErr = fmt.Errorf("the log ends at %d where %d items were added", head.Position, s.next)
	}
	return errors.Join(err, headErr, s.backend.Close(), discard(s.path))
}

// shownProjection makes a document of each event.
type shownProjection struct {
	backend  es.Backend
	progress es.Progress
}

// run projects until ctx ends.
func (p *shownProjection) run(ctx context.Context) error {
	for {
		head, err := p.backend.Events().Wait(ctx, p.progress.Checkpoint)
		if err != nil {
			return err
		}
		if err := p.catchUp(ctx, head.Position); err != nil {
			return err
		}
	}
}

// catchUp projects up to a position.
func (p *shownProjection) catchUp(ctx context.Context, position int64) error {
	const most = 1000
	for p.progress.Position < position {
		head, err := p.backend.Events().Head(ctx)
		if err != nil {
			return err
		}
		next := p.progress
		next.Checkpoint = head
		var commit es.Commit
		added := es.Query{Category: "item", UpTo: head.Position, Limit: most}.Resume(p.progress.Checkpoint)
		for m, err := range p.backend.Events().Read(ctx, added) {
			if err != nil {
				return err
			}
			commit.Writes = append(commit.Writes, es.Write{Model: itemModel, Key: m.Stream, Data: m.Data})
			if len(commit.Writes) == most {
				next.Position = m.Position
			}
		}
		commit.Progress = es.ProgressUpdate{Projection: itemModel, From: p.progress, To: next}
		if err := p.backend.ReadModels().Commit(ctx, commit); err != nil {
			return err
		}
		p.progress = next
	}
	return nil
}
