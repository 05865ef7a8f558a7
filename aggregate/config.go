package aggregate

import (
	"log/slog"
	"mime"
	"reflect"
	"strings"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Config says how to make a [Repository]. S is the type of the state, and E that of the events: an interface that all of them implement, or
// any.
type Config[S, E any] struct {
	// Events is the store that the events are in. It is required.
	Events es.EventStore
	// Types has the Go types of the events. It is required.
	Types *es.Types
	// Category is that of the streams: the one of the aggregate with the ID "7" in the category "account" is "account-7". It is required,
	// and has no "-" in it; see [es.Category].
	Category string
	// Initial makes the state before the first event; the zero value of S by default.
	Initial func() S
	// Evolve applies an event to a state, and returns the state after it. It looks at nothing else, so that it gives the same result each
	// time, and has no error: what has happened has happened. It may change what the state it is given refers to (its maps, say). It is
	// required.
	Evolve func(state S, event E) S
	// Clone returns a state that shares nothing with the given one that Evolve or a decision may change. It is required with a cache, if S
	// has maps, slices, pointers or the like. Without Clone decisions must leave alone what the state refers to.
	Clone func(S) S
	// Unknown says what is done with events whose types are not registered. By default they are an error. With [es.KeepRaw] they come to
	// Evolve as [*es.Message], if E is an interface that it implements, such as any.
	Unknown es.Unknown
	// Attempts is how often Update decides at the most when others are first; 5 by default.
	Attempts int

	// Snapshots keeps states, so that they need not be built from the first event. Nil: none are kept.
	Snapshots es.Snapshots
	// SnapshotEvery is after how many events a state is kept; 100 by default.
	SnapshotEvery int
	// SnapshotWhen decides instead of SnapshotEvery whether a state is kept.
	SnapshotWhen func(SnapshotChance) bool
	// SnapshotName is that under which they are kept; Category by default. Repositories with different states of the same streams need
	// different names.
	SnapshotName string
	// SnapshotSchema is the version of the shape of S, from 1, which is the default. Who changes S, or what Evolve makes of events, raises
	// it: snapshots of other versions are not seen.
	SnapshotSchema int
	// SnapshotCodec encodes states; [es.JSON] by default. A state that does not come back from JSON as it was, because it has a field that
	// is not exported or a nil map where an empty one was, is not kept, and Logger is told.
	SnapshotCodec es.Codec

	// CacheSize is how many states are kept in memory; 0: none. A state in the cache saves the snapshot, and never the look for what has
	// been appended since.
	CacheSize int
	// Logger is told of snapshots that could not be used or kept, at level Warn; nil: nobody is.
	Logger *slog.Logger
}

// SnapshotChance is an occasion to keep a state.
type SnapshotChance struct {
	ID string
	// Version is that of the state, and Snapshot that of the last snapshot of it that was seen; 0: there was none.
	Version, Snapshot int64
	// Recorded is when the last of its events was stored.
	Recorded time.Time
}

const (
	defaultAttempts      = 5
	defaultSnapshotEvery = 100
)

func (c *Config[S, E]) complete() error {
	if c.Attempts == 0 {
		c.Attempts = defaultAttempts
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = defaultSnapshotEvery
	}
	if c.SnapshotName == "" {
		c.SnapshotName = c.Category
	}
	if c.SnapshotSchema == 0 {
		c.SnapshotSchema = 1
	}
	if c.SnapshotCodec == nil {
		c.SnapshotCodec = es.JSON{}
	}
	if c.Initial == nil {
		c.Initial = func() (zero S) { return zero }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c.validate()
}

func (c *Config[S, E]) validate() error {
	switch {
	case c.Events == nil:
		return es.Invalidf("aggregate", "has no Events; give it the store that its events are in")
	case c.Types == nil:
		return es.Invalidf("aggregate", "has no Types; give it those that its events are registered with")
	case c.Evolve == nil:
		return es.Invalidf("aggregate", "has no Evolve, the function that applies an event to the state")
	case strings.Contains(c.Category, "-"):
		return es.Invalidf("aggregate", "has the Category %q; a category ends before the first \"-\" of a stream's name", c.Category)
	case c.Attempts < 0:
		return es.Invalidf("aggregate", "has %d Attempts; it takes 1 or more, and 0 for the default", c.Attempts)
	case c.SnapshotEvery < 0:
		return es.Invalidf("aggregate", "has SnapshotEvery %d; it takes 1 or more, and 0 for the default", c.SnapshotEvery)
	case c.CacheSize < 0:
		return es.Invalidf("aggregate", "has CacheSize %d; it takes a number of states, and 0 for no cache", c.CacheSize)
	case c.CacheSize > 0 && c.Clone == nil && refers(reflect.TypeFor[S]()):
		return es.Invalidf("aggregate", "has a cache, and states of type %v, which refer to memory that those who get them could change; "+
			"give it a Clone", reflect.TypeFor[S]())
	}
	if err := es.ValidateName("category", c.Category); err != nil {
		return err
	}
	if err := c.Unknown.Validate(); err != nil {
		return err
	}
	if c.Snapshots == nil {
		return nil
	}
	if _, _, err := mime.ParseMediaType(c.SnapshotCodec.ContentType()); err != nil {
		return es.Invalidf("aggregate", "has a SnapshotCodec whose ContentType %q is no media type: %v", c.SnapshotCodec.ContentType(), err)
	}
	return es.SnapshotKey{Stream: c.Category, Name: c.SnapshotName, Schema: c.SnapshotSchema}.Validate()
}

// refers tells whether values of a type refer to memory that somebody could change.
func refers(typ reflect.Type) bool {
	switch typ.Kind() { //nolint:exhaustive // the others are values through and through
	case reflect.Struct:
		if typ == reflect.TypeFor[time.Time]() {
			return false // what it refers to does not change
		}
		for field := range typ.Fields() {
			if refers(field.Type) {
				return true
			}
		}
		return false
	case reflect.Array:
		return refers(typ.Elem())
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return true
	}
	return false
}
