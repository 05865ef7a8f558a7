package store_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/store"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	for where, name := range map[string]string{
		"memory:": "memory",
		"sqlite:" + filepath.Join(t.TempDir(), "items.db"): "sqlite",
		pgserver.Database(t): "postgres",
		"postgres":           "postgres",
	} {
		b, err := store.Open(t.Context(), where, es.Config{Namespace: "shop"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if got := b.Capabilities(); got.Name != name || got.Durable != (name != "memory") {
			t.Errorf("%s is opened as %+v", where, got)
		}
		if err := b.Close(); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}

func TestWhatCannotBeOpenedIsNotABackend(t *testing.T) {
	t.Parallel()
	for where, want := range map[string]string{
		"":                                      "sqlite:items.db",
		"items.db":                              "sqlite:items.db",
		"sqlite:":                               "is empty",
		"sqlite:" + t.TempDir():                 "folder",
		"memory:items":                          "has no path",
		"oracle://me:secret@server/shop":        `"oracle" are not supported; sqlite:PATH`,
		"postgres://me:secret@127.0.0.1:1/shop": "not available",
		"postgres://me:secret@127.0.0.1:port/shop": "port",
	} {
		b, err := store.Open(t.Context(), where, es.Config{Namespace: "shop"}, slog.New(slog.DiscardHandler))
		switch {
		case err == nil || b != nil:
			t.Errorf("%q is opened: %v, %v", where, b, err)
		case strings.Contains(err.Error(), "secret"):
			t.Errorf("%q: the error has the password in it: %v", where, err)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v; want %q in it", where, err, want)
		}
	}
}
