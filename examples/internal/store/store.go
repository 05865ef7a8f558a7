// Package store opens what an example keeps everything in, by the value of its flag -store.
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// Usage says what [Open] takes, for the flag.
const Usage = "`where` to keep everything: sqlite:PATH for a file, memory: for nothing that outlives the program"

// Open opens the backend at a place, which is written like a URL:
//
//	sqlite:items.db        a file in the working directory, made when it is not there
//	sqlite:/var/lib/x.db   a file elsewhere, in a folder that is there
//	memory:                the memory of the program
//
// The error names what is supported, and never the place itself: that of a server may have a password in it.
func Open(where string, c es.Config, log *slog.Logger) (es.Backend, error) {
	scheme, path, ok := strings.Cut(where, ":")
	switch {
	case !ok:
		return nil, errors.New("the store has no kind; write memory: or sqlite:PATH, such as sqlite:items.db")
	case scheme == "sqlite":
		return opened(sqlite.Open(sqlite.Config{Path: path, Namespace: c.Namespace, Logger: log}))
	case scheme == "memory" && path == "":
		return opened(memory.Open(memory.Config{Namespace: c.Namespace, Logger: log}))
	case scheme == "memory":
		return nil, errors.New("the store memory: keeps nothing and has no path; write sqlite:PATH for a file")
	}
	return nil, fmt.Errorf("stores of the kind %q are not supported; sqlite:PATH, such as sqlite:items.db, and memory: are", scheme)
}

// opened is a backend, or none: a nil pointer of any kind would be one.
func opened[B es.Backend](b B, err error) (es.Backend, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}
