package eshttp

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// healthPatience is how long the components have together to say how they are.
const healthPatience = 5 * time.Second

// Health returns a handler for two paths, to be mounted under both, or under "/":
//
//   - /livez is 200 for as long as the process answers.
//   - /readyz is 200 when every component is healthy. Otherwise it is 503, a problem that names the components which are not, in
//     its member "components". Why they are not is logged and not told: it is for those who run the service. It is 503 as well
//     as soon as [Run] is told to stop, however well the components are.
//
// A component that takes longer than 5 seconds to say how it is, is not ready. It is asked by one probe at a time; those that
// come meanwhile have the same answer.
func Health(components ...es.Component) http.Handler {
	checks := make([]*check, len(components))
	for i, c := range components {
		checks[i] = &check{component: c}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answerHealth(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if told(r.Context()) {
			WriteProblem(w, Problemf(http.StatusServiceUnavailable, "not ready: the service is stopping"))
			return
		}
		unready := notReady(r, checks)
		if len(unready) == 0 {
			answerHealth(w, "ready")
			return
		}
		p := Problemf(http.StatusServiceUnavailable, "not ready: %s", strings.Join(unready, ", "))
		p.Extensions = map[string]any{"components": unready}
		WriteProblem(w, p)
	})
	return Problems(mux)
}

func answerHealth(w http.ResponseWriter, status string) {
	w.Header().Set("Cache-Control", "no-store")
	_ = WriteJSON(w, http.StatusOK, map[string]string{"status": status}) // who does not listen need not be told
}

// notReady asks all components at once and returns the names of those that are not healthy.
func notReady(r *http.Request, checks []*check) []string {
	ctx, cancel := context.WithTimeout(r.Context(), healthPatience)
	defer cancel()
	reports := make([]*report, len(checks))
	for i, c := range checks {
		reports[i] = c.ask(ctx)
	}
	var names []string
	for i, c := range checks {
		if err := reports[i].wait(ctx); err != nil {
			names = append(names, c.component.Name())
			loggerOf(r).LogAttrs(r.Context(), slog.LevelWarn, "component not ready",
				slog.String("component", c.component.Name()), slog.Any("error", err))
		}
	}
	return names
}

// check asks a component how it is. A component that is stuck may not even answer that, and so it is asked once at a time:
// otherwise each probe would leave a goroutine behind.
type check struct {
	component es.Component

	mu      sync.Mutex
	pending *report // nil when nobody asks
}

// report is what a component says.
type report struct {
	done chan struct{} // closed when err is there
	err  error
}

// ask begins to ask the component, unless that is under way.
func (c *check) ask(ctx context.Context) *report {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == nil {
		c.pending = &report{done: make(chan struct{})}
		go c.answer(context.WithoutCancel(ctx), c.pending) // it is for all who wait for it, and ends with its patience
	}
	return c.pending
}

func (c *check) answer(ctx context.Context, r *report) {
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			r.err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
		c.mu.Lock()
		c.pending = nil
		c.mu.Unlock()
		close(r.done)
	}()
	r.err = c.component.Health(ctx)
}

// wait waits for the report. One that is there counts, also when another has used up the time.
func (r *report) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	select {
	case <-r.done:
		return r.err
	default:
		return ctx.Err()
	}
}
