package workloads

import (
	"context"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// ourFile is a file that the toolkit has open.
type ourFile struct {
	onSQLiteFile

	db   *sqlite.DB
	path string
}

func openOurs(path string) (*ourFile, error) {
	db, err := sqlite.Open(sqlite.Config{Path: path})
	if err != nil {
		return nil, err
	}
	return &ourFile{db: db, path: path}, nil
}

func (f *ourFile) append(ctx context.Context, a es.Append) (es.Place, error) {
	done, err := f.db.Events().Append(ctx, a)
	if err != nil {
		return es.Place{}, err
	}
	return done.Places[0], nil
}

func (f *ourFile) close() (string, error) { return f.path, f.db.Close() }

// fill stores the events, up to a thousand in each append and so that none has a stream twice, and several appends in a commit.
func (f *ourFile) fill(ctx context.Context, plan storing) error {
	const most, perCall = 1000, 8000
	perAppend := min(most, plan.streams)
	var events []*es.Message
	for range perCall {
		events = append(events, newEvent())
	}
	for at := 0; at < plan.events; {
		var appends []es.Append
		for c := 0; c+perAppend <= perCall && at < plan.events; c += perAppend {
			some := events[c:][:min(perAppend, plan.events-at)]
			a := es.Append{Streams: make([]es.StreamAppend, len(some))}
			for i, m := range some {
				plan.set(m, at+i)
				a.Streams[i] = es.StreamAppend{Stream: m.Stream, Events: some[i : i+1]}
			}
			appends = append(appends, a)
			at += len(some)
		}
		for _, outcome := range f.db.Events().AppendEach(ctx, appends) {
			if outcome.Err != nil {
				return fmt.Errorf("store the events up to %d: %w", at, outcome.Err)
			}
		}
	}
	return nil
}

// storing says which events are stored before a measurement begins.
type storing struct {
	events  int
	streams int // the i-th event is of stream i modulo streams
	began   time.Time
	tags    func(i int) []string // nil for none
}

// storedPace is how far the events that are stored are apart, by their IDs.
const storedPace = 20 * time.Microsecond

func newStoring(events, streams int) storing {
	return storing{events: events, streams: streams, began: time.Now().Add(-time.Duration(events) * storedPace)}
}

// set makes m the i-th event.
func (s storing) set(m *es.Message, i int) {
	stamp(m, uint64(i), s.began.Add(time.Duration(i)*storedPace)) //nolint:gosec // a count
	m.Stream = streamName(uint64(i % s.streams))                  //nolint:gosec // a count
	if s.tags != nil {
		m.Tags = s.tags(i)
	}
}

// version is the version that a stream then has.
func (s storing) version(stream int) int64 {
	version := int64(s.events / s.streams)
	if stream < s.events%s.streams {
		version++
	}
	return version
}
