package eshttp_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// starting is a component that takes its time to start.
type starting struct {
	*component

	start func(ctx context.Context) error
}

func (s starting) Start(ctx context.Context) error {
	if err := s.component.Start(ctx); err != nil {
		return err
	}
	return s.start(ctx)
}

func TestASignalDuringTheStartIsNoFailure(t *testing.T) { // not parallel: signals are for the whole process
	broken := errors.New("cannot be stopped")
	for _, c := range []struct {
		name    string
		start   func(ctx context.Context) error
		stopErr error
		want    error
	}{
		{"the start is broken off", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil, nil},
		{"the start does not care", func(ctx context.Context) error { <-ctx.Done(); return nil }, nil, nil},
		{"the start fails", func(ctx context.Context) error { <-ctx.Done(); return broken }, nil, broken},
		{"a stop fails", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, broken, broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := &journal{}
			first := newComponent("first", j)
			first.stop = func(context.Context) error { return c.stopErr }
			slow := starting{newComponent("slow", j), func(ctx context.Context) error {
				kill(t)
				return c.start(ctx)
			}}
			err := eshttp.Run(t.Context(), eshttp.Config{
				Addr: "127.0.0.1:0", Handler: http.NotFoundHandler(), Components: []es.Component{first, slow},
				Signals:  []os.Signal{syscall.SIGUSR1},
				OnListen: func(net.Addr) { t.Error("it listens") },
			})
			if !errors.Is(err, c.want) {
				t.Errorf("Run returned %v, want %v", err, c.want)
			}
		})
	}
}

func TestPanicsAfterTheHeaderBreakOffTheAnswer(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	mux := http.NewServeMux()
	mux.HandleFunc("/begun", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		panic("secret")
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		panic("secret")
	})
	mux.HandleFunc("/switched", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusSwitchingProtocols)
		panic("secret")
	})
	p := run(t, eshttp.Config{Handler: mux, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, path := range []string{"/begun", "/switched"} {
		response, err := http.Get(p.url + path)
		if err == nil {
			defer response.Body.Close()
			t.Errorf("%s: half an answer came as %d", path, response.StatusCode)
		}
	}
	problem(t, p.get("/hints"), http.StatusInternalServerError)
	p.cancel()
	if err := p.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if text := log.String(); strings.Contains(text, "superfluous") {
		t.Errorf("it writes a second header: %s", text)
	}
}
