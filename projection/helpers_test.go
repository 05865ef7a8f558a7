package projection_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// Added is the event that these tests count.
type Added struct {
	To  string `json:"to"` // the key of a document
	N   int    `json:"n"`
	Bad bool   `json:"bad,omitempty"`
}

// Total is the document that they count in.
type Total struct {
	Events int `json:"events"`
	Sum    int `json:"sum"`
}

// Ledger is a document that cannot be copied by assignment.
type Ledger struct {
	Lines []string       `json:"lines"`
	Per   map[string]int `json:"per"`
}

var errBad = errors.New("a bad event")

// world is a backend with what goes wrong in it, and the projection that is tested.
type world struct {
	*testing.T

	backend *memory.Backend
	models  *models
	types   *es.Types
	config  projection.Config
	totals  projection.Documents[Total]

	mu    sync.Mutex
	calls []string // of the handler
	last  es.Checkpoint
}

// newWorld makes a backend, and a configuration of the projection "totals" on it.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, backend: memory.New(), types: es.NewTypes(), totals: projection.NewDocuments[Total]("totals")}
	t.Cleanup(func() { w.ok(w.backend.Close()) })
	es.Register[Added](w.types, "Added")
	w.models = &models{ReadModels: w.backend.ReadModels()}
	w.config = projection.Config{Name: "totals", Events: w.backend.Events(), Models: w.models, Types: w.types}
	return w
}

// inBubble runs a test in a bubble with a clock of its own.
func inBubble(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newWorld(t)) })
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// is fails the test unless an error is another one.
func (w *world) is(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("the error is %v, want %v", err, want)
	}
}

// append appends an event to a stream.
func (w *world) append(stream string, events ...Added) {
	w.Helper()
	for _, e := range events {
		m, err := w.types.Encode(stream, e)
		w.ok(err)
		w.appendMessage(m)
	}
}

func (w *world) appendMessage(m *es.Message) {
	w.Helper()
	appended, err := w.backend.Events().Append(w.Context(), es.AppendTo(m.Stream, es.Any, m))
	w.ok(err)
	w.last.Position = appended.Position
}

// count is a handler that adds an event to its total, and fails for a bad one after that.
func (w *world) count() projection.Handler {
	return projection.On(func(ctx context.Context, b *projection.Batch, e Added, m *es.Message) error {
		w.called(m)
		err := w.totals.In(b).Update(ctx, e.To, func(total *Total) error {
			total.Events++
			total.Sum += e.N
			return nil
		})
		if err == nil && e.Bad {
			return errBad
		}
		return err
	})
}

func (w *world) called(m *es.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, fmt.Sprintf("%s/%d", m.Stream, m.Version))
}

func (w *world) made() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// projection makes a projection, with the handler that counts unless others are given.
func (w *world) projection(handlers ...projection.Handler) *projection.Projection {
	w.Helper()
	if len(handlers) == 0 {
		handlers = append(handlers, w.count())
	}
	p, err := projection.New(w.config, handlers...)
	w.ok(err)
	return p
}

// start makes a projection and starts it. It is stopped in the end.
func (w *world) start(handlers ...projection.Handler) *projection.Projection {
	w.Helper()
	p := w.projection(handlers...)
	w.ok(p.Start(w.Context()))
	w.Cleanup(func() { _ = p.Stop(context.Background()) }) // the test has looked at what it wants to know
	return p
}

// caughtUp starts a projection, waits until it has come to the last event, and stops it.
func (w *world) caughtUp(handlers ...projection.Handler) {
	w.Helper()
	p := w.start(handlers...)
	w.await(p)
	w.ok(p.Stop(w.Context()))
}

// await waits until a projection has come to the last event that was appended.
func (w *world) await(p *projection.Projection) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	select {
	case <-p.Done():
		w.Fatalf("the projection has ended: %v", p.Err())
	default:
	}
	if err := p.WaitFor(ctx, w.last); err != nil {
		status, _ := p.Status(w.Context())
		w.Fatalf("wait for position %d: %v; status %+v", w.last.Position, err, status)
	}
}

// ended waits until a projection has ended by itself, and returns why.
func (w *world) ended(p *projection.Projection) error {
	w.Helper()
	select {
	case <-p.Done():
	case <-time.After(time.Minute):
		status, _ := p.Status(w.Context())
		w.Fatalf("the projection does not end; status %+v", status)
	}
	return p.Err()
}

func (w *world) status(p *projection.Projection) projection.Status {
	w.Helper()
	s, err := p.Status(w.Context())
	w.ok(err)
	return s
}

func (w *world) progress() es.Progress {
	w.Helper()
	progress, err := w.backend.ReadModels().Progress(w.Context(), w.config.Name)
	w.ok(err)
	return progress
}

// total fails the test unless a document is as it should be.
func (w *world) total(key string, events, sum int) {
	w.Helper()
	item, err := es.NewModel[Total](w.backend.ReadModels(), "totals").Load(w.Context(), key)
	if errors.Is(err, es.ErrNotFound) && events == 0 {
		return
	}
	w.ok(err)
	if item.Value != (Total{Events: events, Sum: sum}) {
		w.Errorf("total %q is %+v, want %d events and the sum %d", key, item.Value, events, sum)
	}
}

func (w *world) same(what string, got, want []string) {
	w.Helper()
	if !slices.Equal(got, want) {
		w.Errorf("%s: %v, want %v", what, got, want)
	}
}

// models are read models that fail on demand.
type models struct {
	es.ReadModels

	mu      sync.Mutex
	before  func(c es.Commit) error // of a commit
	after   func(c es.Commit) error
	loading func(model string, keys []string) error
	commits []es.Commit
	loads   int
}

func (m *models) Commit(ctx context.Context, c es.Commit) error {
	m.mu.Lock()
	before, after := m.before, m.after
	m.mu.Unlock()
	if before != nil {
		if err := before(c); err != nil {
			return err
		}
	}
	if err := m.ReadModels.Commit(ctx, c); err != nil {
		return err
	}
	m.mu.Lock()
	m.commits = append(m.commits, c)
	m.mu.Unlock()
	if after != nil {
		return after(c)
	}
	return nil
}

func (m *models) Load(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
	m.mu.Lock()
	m.loads++
	loading := m.loading
	m.mu.Unlock()
	if loading != nil {
		if err := loading(model, keys); err != nil {
			return nil, err
		}
	}
	return m.ReadModels.Load(ctx, model, keys...)
}

func (m *models) set(change func(m *models)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// committed returns the commits that have events in them.
func (m *models) committed() []es.Commit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.commits), func(c es.Commit) bool { return len(c.Writes) == 0 })
}
