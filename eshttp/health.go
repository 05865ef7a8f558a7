package eshttp

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// healthPatience is how long the components have together to say how they are.
const healthPatience = 5 * time.Second

// Health returns a handler for two paths, to be mounted under both, or under "/":
//
//   - /livez is 200 for as long as the process answers.
//   - /readyz is 200 when every component is healthy. Otherwise it is 503, a problem that names the components which are not, in
//     its member "components". Why they are not is logged and not told: it is for those who run the service.
//
// A component that takes longer than 5 seconds to say how it is, is not ready.
func Health(components ...es.Component) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answerHealth(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		unready := notReady(r, components)
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

// notReady returns the names of the components that are not healthy.
func notReady(r *http.Request, components []es.Component) []string {
	ctx, cancel := context.WithTimeout(r.Context(), healthPatience)
	defer cancel()
	var names []string
	for _, c := range components {
		err := c.Health(ctx)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			names = append(names, c.Name())
			loggerOf(r).LogAttrs(r.Context(), slog.LevelWarn, "component not ready",
				slog.String("component", c.Name()), slog.Any("error", err))
		}
	}
	return names
}
