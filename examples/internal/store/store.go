// Package store opens what an example keeps everything in, by the value of its flag -store.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// Usage says what [Open] takes, for the flag.
const Usage = "`where` to keep everything: sqlite:PATH for a file, postgres://... for a server, postgres:DIR or postgres for a private " +
	"one, memory: for nothing that outlives the program"

// Open opens the backend at a place, which is written like a URL:
//
//	sqlite:items.db                     a file in the working directory, made when it is not there
//	sqlite:/var/lib/x.db                a file elsewhere, in a folder that is there
//	postgres://user@host:5432/database  a database of a server, as libpq writes it
//	postgres:/var/lib/x                 a private server, which keeps its data in that folder and ends with the program
//	postgres                            the same in a temporary folder: nothing outlives the program
//	memory:                             the memory of the program
//
// The error names what is supported, and never the place itself: that of a server may have a password in it.
func Open(ctx context.Context, where string, c es.Config, log *slog.Logger) (es.Backend, error) {
	scheme, path, ok := strings.Cut(where, ":")
	switch {
	case scheme == "postgres" && strings.HasPrefix(path, "//"), scheme == "postgresql":
		return opened(openServer(ctx, where, c, log))
	case scheme == "postgres":
		return openPrivate(ctx, path, c, log)
	case !ok:
		return nil, errors.New("the store has no kind; write memory:, sqlite:PATH, such as sqlite:items.db, or postgres://USER@HOST/DATABASE")
	case scheme == "sqlite":
		return opened(sqlite.Open(sqlite.Config{Path: path, Namespace: c.Namespace, Logger: log}))
	case scheme == "memory" && path == "":
		return opened(memory.Open(memory.Config{Namespace: c.Namespace, Logger: log}))
	case scheme == "memory":
		return nil, errors.New("the store memory: keeps nothing and has no path; write sqlite:PATH for a file")
	}
	return nil, fmt.Errorf("stores of the kind %q are not supported; sqlite:PATH, such as sqlite:items.db, postgres://..., postgres:DIR and "+
		"memory: are", scheme)
}

// openServer opens a database of a server.
func openServer(ctx context.Context, url string, c es.Config, log *slog.Logger) (*postgres.DB, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return postgres.Open(ctx, postgres.Config{URL: url, Namespace: c.Namespace, Logger: log})
}

// private is a database of a server of the program's own.
type private struct {
	*postgres.DB

	stop func() error // the server
}

// openPrivate starts a server, which is installed when it is not there, and opens a database of it.
func openPrivate(ctx context.Context, dir string, c es.Config, log *slog.Logger) (es.Backend, error) {
	server, err := pgserver.Start(ctx, pgserver.Config{Dir: dir, Install: true, Logger: log})
	if err != nil {
		return nil, err
	}
	stop := func() error { return stop(context.WithoutCancel(ctx), server) }
	db, err := openServer(ctx, server.URL("postgres"), c, log)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &private{db, stop}, nil
}

// Close closes the database and stops its server.
func (p *private) Close() error { return errors.Join(p.DB.Close(), p.stop()) }

func stop(ctx context.Context, server *pgserver.Server) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return server.Stop(ctx)
}

// opened is a backend, or none: a nil pointer of any kind would be one.
func opened[B es.Backend](b B, err error) (es.Backend, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}
