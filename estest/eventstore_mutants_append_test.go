package estest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// expecting changes the expectation of each stream of an append.
func expecting(change func(version int64, e es.Expectation) es.Expectation) func(s *wrapped) {
	return asked(func(s *wrapped, a *es.Append) {
		for i, stream := range a.Streams {
			a.Streams[i].Expect = change(versionOf(s, stream.Stream), stream.Expect)
		}
	})
}

func versionMutants() []eventMutant {
	return []eventMutant{
		that("E1/versions_have_no_holes", "skips a version", shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
			return altered(m, func(m *es.Message) {
				if m.Version > 2 {
					m.Version++
				}
			})
		})),
		that("E1/versions_have_no_holes", "loses an event", shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
			if m.Version == 4 {
				return nil
			}
			return m
		})),
		that("E1/positions_rise_as_read", "gives two events in the wrong order", given(
			func(_ *wrapped, _ es.Query, all []*es.Message) []*es.Message {
				if len(all) > 10 {
					all[4], all[5] = all[5], all[4]
				}
				return all
			})),
		that("E1/the_store_sets_what_is_its_own", "takes the time of recording from the caller", shown(
			func(_ es.Query, _ int, m *es.Message) *es.Message {
				return altered(m, func(m *es.Message) { m.Recorded = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) })
			})),
		that("E1/the_store_sets_what_is_its_own", "records in local time and nanoseconds", shown(
			func(_ es.Query, _ int, m *es.Message) *es.Message {
				return altered(m, func(m *es.Message) { m.Recorded = m.Recorded.Add(1) })
			})),

		that("E2/exactly_takes_one_version", "accepts a future version", expecting(func(version int64, e es.Expectation) es.Expectation {
			if v, ok := e.Version(); ok && v > version {
				return es.Any
			}
			return e
		})),
		that("E2/exactly_takes_one_version", "accepts a version that is past", expecting(func(version int64, e es.Expectation) es.Expectation {
			if v, ok := e.Version(); ok && v < version {
				return es.Any
			}
			return e
		})),
		that("E2/exactly_takes_one_version", "tells of a conflict without the facts", answered(
			func(_ *wrapped, _ es.Append, done es.Appended, err error) (es.Appended, error) {
				if errors.Is(err, es.ErrConflict) {
					return done, es.ErrConflict
				}
				return done, err
			})),
		that("E2/exactly_of_a_new_stream", "accepts every version of a new stream", expecting(func(version int64, e es.Expectation) es.Expectation {
			if version == 0 {
				return es.Any
			}
			return e
		})),
		that("E2/no_stream", "takes NoStream for Any", expecting(func(_ int64, e es.Expectation) es.Expectation {
			if e == es.NoStream {
				return es.Any
			}
			return e
		})),
		that("E2/stream_exists", "takes StreamExists for Any", expecting(func(_ int64, e es.Expectation) es.Expectation {
			if e == es.StreamExists {
				return es.Any
			}
			return e
		})),
		that("E2/any", "takes Any for NoStream", expecting(func(_ int64, e es.Expectation) es.Expectation {
			if e == es.Any {
				return es.NoStream
			}
			return e
		})),
		that("E2/negative_is_invalid", "takes a negative version for Any", expecting(func(_ int64, e es.Expectation) es.Expectation {
			return max(e, es.StreamExists)
		})),
	}
}

// lastWins appends after a conflict all the same, as a store does that checks first and writes later.
func lastWins(handles func(handle int) bool) func(s *wrapped) {
	return answered(func(s *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
		if !errors.Is(err, es.ErrConflict) || !handles(s.handle) {
			return done, err
		}
		a.Streams, a.Unless = slices.Clone(a.Streams), nil
		for i := range a.Streams {
			a.Streams[i].Expect = es.Any
		}
		return s.EventStore.Append(context.Background(), a)
	})
}

func every(int) bool         { return true }
func second(handle int) bool { return handle > 0 }

// raw gives the error of a database instead of one of the toolkit.
func raw(when func(done es.Appended, err error) bool) func(s *wrapped) {
	return answered(func(_ *wrapped, _ es.Append, done es.Appended, err error) (es.Appended, error) {
		if when(done, err) {
			return es.Appended{}, errors.New("SQLSTATE 23505: duplicate key value violates unique constraint")
		}
		return done, err
	})
}

func raceMutants() []eventMutant {
	var multi atomic.Int64
	return []eventMutant{
		that("E3/one_of_many_goroutines_wins", "lets two win", lastWins(every)),
		that("E3/one_of_many_goroutines_wins", "leaks the error of its database", raw(func(_ es.Appended, err error) bool {
			return errors.Is(err, es.ErrConflict)
		})),
		that("E3/one_of_many_creates_a_stream", "lets two win", lastWins(every)),
		that("E3/one_of_many_handles_wins", "checks in one handle only", lastWins(second)),
		{"E3/one_of_many_processes_wins", "shares nothing between processes", broken{processes: true}},
		that("E3/opposite_orders_do_not_deadlock", "leaks a deadlock", raw(func(es.Appended, error) bool { return multi.Add(1)%20 == 0 })),
	}
}

func repeatMutants() []eventMutant {
	conflictIf := func(when func(s *wrapped, a es.Append, done es.Appended) bool) func(s *wrapped) {
		return answered(func(s *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
			if err == nil && when(s, a, done) {
				return es.Appended{}, conflict(a)
			}
			return done, err
		})
	}
	existing := func(done es.Appended, _ error) bool { return done.Existing > 0 }
	return []eventMutant{
		that("E4/repeated_whatever_is_expected", "looks at the expectation first", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				for _, stream := range a.Streams {
					if version := versionOf(s, stream.Stream); !stream.Expect.Holds(version) {
						return es.Appended{}, &es.ConflictError{Stream: stream.Stream, Expected: stream.Expect, Actual: version}
					}
				}
				return s.EventStore.Append(ctx, a)
			}
		}),
		that("E4/repeated_whatever_the_condition", "looks at the condition first", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				if len(a.Unless) > 0 {
					if _, err := s.EventStore.Append(ctx, es.Append{Unless: a.Unless}); err != nil {
						return es.Appended{}, err
					}
				}
				return s.EventStore.Append(ctx, a)
			}
		}),
		that("E4/repeated_in_part_or_another_order", "gives the places in the order of the stream", answered(
			func(_ *wrapped, _ es.Append, done es.Appended, err error) (es.Appended, error) {
				done.Places = slices.SortedFunc(slices.Values(done.Places), func(a, b es.Place) int { return int(a.Position - b.Position) })
				return done, err
			})),
		that("E4/repeated_with_other_particulars", "takes metadata for content", conflictIf(func(s *wrapped, a es.Append, _ es.Appended) bool {
			for m, err := range s.EventStore.Read(context.Background(), es.Query{Stream: a.Streams[0].Stream}) {
				for _, e := range a.Streams[0].Events {
					if err == nil && e.ID == m.ID && !maps.Equal(e.Metadata, m.Metadata) {
						return true
					}
				}
			}
			return false
		})),
		that("E4/repeated_over_several_streams", "knows repeats of one stream only", conflictIf(func(_ *wrapped, a es.Append, done es.Appended) bool {
			return done.Existing > 0 && len(a.Streams) > 1
		})),
		that("E4/repeated_after_reopening", "keeps in the handle what it has appended", conflictIf(func(s *wrapped, _ es.Append, done es.Appended) bool {
			return done.Existing > 0 && s.handle > 0
		})),
		that("E4/repeated_at_once", "leaks a unique violation", raw(existing)),
		that("E4/repeated_at_once_by_handles", "knows its own handle's IDs only", conflictIf(func(s *wrapped, _ es.Append, done es.Appended) bool {
			return done.Existing > 0 && s.handle > 0
		})),
		that("E4/repeated_at_once_by_handles", "leaks a unique violation", raw(existing)),
		that("E4/id_of_another_stream_is_duplicate", "has IDs of each stream", answered(
			func(s *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
				if !errors.Is(err, es.ErrDuplicate) {
					return done, err
				}
				for i := range a.Streams {
					for j, m := range a.Streams[i].Events {
						a.Streams[i].Events[j] = altered(m, func(m *es.Message) { m.ID = es.NewID() })
					}
				}
				return s.EventStore.Append(context.Background(), a)
			})),
		that("E4/id_of_another_stream_is_duplicate", "tells of the conflict first", answered(
			func(s *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
				if errors.Is(err, es.ErrDuplicate) && !a.Streams[0].Expect.Holds(versionOf(s, a.Streams[0].Stream)) {
					return es.Appended{}, conflict(a)
				}
				return done, err
			})),
		that("E4/id_of_another_stream_is_duplicate", "looks at the condition first", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				if len(a.Unless) > 0 {
					if _, err := s.EventStore.Append(ctx, es.Append{Unless: a.Unless}); err != nil {
						return es.Appended{}, err
					}
				}
				return s.EventStore.Append(ctx, a)
			}
		}),
		that("E4/other_content_is_duplicate", "looks at the ID only", answered(
			func(_ *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
				if errors.Is(err, es.ErrDuplicate) {
					return es.Appended{Existing: size(a)}, nil
				}
				return done, err
			})),
		that("E4/half_there_any_appends_rest", "takes a half for the whole", answered(
			func(_ *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
				if done.Existing > 0 {
					done.Existing = size(a)
				}
				return done, err
			})),
		that("E4/half_there_otherwise_conflicts", "appends the rest whatever is expected", asked(func(s *wrapped, a *es.Append) {
			for i := range a.Streams {
				if known(s, *a) > 0 {
					a.Streams[i].Expect = es.Any
				}
			}
		})),
		that("E4/half_there_over_several_streams", "takes a half of several streams for a conflict", conflictIf(
			func(_ *wrapped, a es.Append, done es.Appended) bool {
				return done.Existing > 0 && done.Existing < size(a)
			})),
		that("E4/half_there_each_stream_for_itself", "holds what is there of one stream against all", conflictIf(
			func(_ *wrapped, a es.Append, done es.Appended) bool {
				return done.Existing > 0 && done.Existing < size(a) && slices.ContainsFunc(a.Streams, func(s es.StreamAppend) bool {
					return s.Expect != es.Any && len(s.Events) > 0
				})
			})),
		that("E4/half_there_each_stream_for_itself", "takes a stream that has its events for done", asked(func(s *wrapped, a *es.Append) {
			for i, stream := range a.Streams {
				if n := len(stream.Events); n > 0 && known(s, es.Append{Streams: a.Streams[i : i+1]}) == n {
					a.Streams[i].Expect = es.Any
				}
			}
		})),
		that("E4/half_there_each_stream_for_itself", "expects nothing of any stream once something is there", asked(func(s *wrapped, a *es.Append) {
			for i := range a.Streams {
				if known(s, *a) > known(s, es.Append{Streams: a.Streams[i : i+1]}) {
					a.Streams[i].Expect = es.Any
				}
			}
		})),
		that("E4/half_there_its_own_do_not_count", "counts the half that is there", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				if n := known(s, a); n > 0 && n < size(a) && len(a.Unless) > 0 {
					if _, err := s.EventStore.Append(ctx, es.Append{Unless: a.Unless}); err != nil {
						return es.Appended{}, err
					}
				}
				return s.EventStore.Append(ctx, a)
			}
		}),
		that("E4/half_there_its_own_do_not_count", "forgets the condition when something is there", asked(func(s *wrapped, a *es.Append) {
			if known(s, *a) > 0 {
				a.Unless = nil
			}
		})),
		that("E4/half_there_still_has_its_condition", "forgets the condition when something is there", asked(func(s *wrapped, a *es.Append) {
			if known(s, *a) > 0 {
				a.Unless = nil
			}
		})),
	}
}

// streamwise appends stream by stream, in the order that it is given them, and stops at the first error.
func streamwise(ctx context.Context, s *wrapped, a es.Append) (es.Appended, error) {
	var all es.Appended
	for _, stream := range a.Streams {
		done, err := s.EventStore.Append(ctx, es.Append{Streams: []es.StreamAppend{stream}, Unless: a.Unless})
		if err != nil {
			return es.Appended{}, err
		}
		all.Places = append(all.Places, done.Places...)
		all.Position = max(all.Position, done.Position)
		all.Existing += done.Existing
	}
	return all, nil
}

func wholeMutants() []eventMutant {
	return []eventMutant{
		that("E5/several_streams_all_or_nothing", "commits each stream for itself", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) { return streamwise(ctx, s, a) }
		}),
		that("E5/several_streams_at_once", "gives the places by the names of the streams", asked(func(_ *wrapped, a *es.Append) {
			slices.SortFunc(a.Streams, func(a, b es.StreamAppend) int { return int(a.Stream[0]) - int(b.Stream[0]) })
		})),
		that("E5/readers_see_all_or_nothing", "shows a part of an append", given(func(_ *wrapped, q es.Query, all []*es.Message) []*es.Message {
			if q.Stream == "a-1" && len(all) > 0 {
				return all[:len(all)-1]
			}
			return all
		})),
		that("E5/readers_see_all_or_nothing", "shows one stream before the other", given(func(_ *wrapped, q es.Query, all []*es.Message) []*es.Message {
			if q.Stream == "b-1" && len(all) > 3 {
				return all[:len(all)-3]
			}
			return all
		})),
		that("E5/what_is_there_twice_is_invalid", "takes a stream twice", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				done, err := s.EventStore.Append(ctx, a)
				if errors.Is(err, es.ErrInvalid) && len(a.Streams) > 1 {
					return streamwise(ctx, s, a)
				}
				return done, err
			}
		}),
		that("E5/an_empty_append_checks", "does nothing without events", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				if size(a) == 0 {
					return es.Appended{}, nil
				}
				return s.EventStore.Append(ctx, a)
			}
		}),
		that("E5/another_stream_can_be_asserted", "passes over streams without events", asked(func(_ *wrapped, a *es.Append) {
			a.Streams = slices.DeleteFunc(a.Streams, func(s es.StreamAppend) bool { return len(s.Events) == 0 })
		})),
		that("E5/messages_are_left_alone", "writes the version into the caller's message", answered(
			func(_ *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
				if err == nil {
					a.Streams[0].Events[0].Version = done.Places[0].Version
				}
				return done, err
			})),
		that("E5/append_each_is_independent", "stops at the first failure", func(s *wrapped) {
			s.each = func(ctx context.Context, as []es.Append) []es.Outcome {
				outcomes := make([]es.Outcome, len(as))
				for i, a := range as {
					if i > 0 && outcomes[i-1].Err != nil {
						outcomes[i].Err = outcomes[i-1].Err
						continue
					}
					outcomes[i].Appended, outcomes[i].Err = s.Append(ctx, a)
				}
				return outcomes
			}
		}),
		that("E5/append_each_goes_in_order", "begins with the last", func(s *wrapped) {
			s.each = func(ctx context.Context, as []es.Append) []es.Outcome {
				outcomes := make([]es.Outcome, len(as))
				for i := len(as) - 1; i >= 0; i-- {
					outcomes[i].Appended, outcomes[i].Err = s.Append(ctx, as[i])
				}
				return outcomes
			}
		}),
	}
}
