package estest_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
)

// remembering keeps what was appended, at its position, whether it can be read or not.
func remembering(s *wrapped, refuse func(a es.Append, appended []*es.Message) error) {
	var appended []*es.Message
	s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
		if err := refuse(a, appended); err != nil {
			return es.Appended{}, err
		}
		done, err := s.EventStore.Append(ctx, a)
		i := 0
		for _, stream := range a.Streams {
			for _, m := range stream.Events {
				if err == nil {
					appended = append(appended, altered(m, func(m *es.Message) { m.Position = done.Places[i].Position }))
				}
				i++
			}
		}
		return done, err
	}
}

// truncating changes what a truncation asks for; the stream's version is the last that can be read.
func truncating(change func(ctx context.Context, s *wrapped, stream string, version, before int64) error) func(s *wrapped) {
	return func(s *wrapped) {
		s.truncate = func(ctx context.Context, stream string, before int64) error {
			return change(ctx, s, stream, versionOf(s, stream), before)
		}
	}
}

func hiddenMutants() []eventMutant {
	erasing := func(change func(ctx context.Context, s *wrapped, e es.Erasure, done es.Appended, err error) (es.Appended, error)) func(s *wrapped) {
		return func(s *wrapped) {
			s.erase = func(ctx context.Context, e es.Erasure) (es.Appended, error) {
				done, err := s.EventStore.Erase(ctx, e)
				return change(ctx, s, e, done, err)
			}
		}
	}
	return []eventMutant{
		that("E12/truncate_hides_what_is_there", "hides what comes later", func(s *wrapped) {
			hidden := map[string]int64{}
			s.truncate = func(ctx context.Context, stream string, before int64) error {
				hidden[stream] = max(hidden[stream], before)
				return s.EventStore.Truncate(ctx, stream, before)
			}
			shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
				if m.Version < hidden[m.Stream] {
					return nil
				}
				return m
			})(s)
		}),
		that("E12/truncate_hides_what_is_there", "turns down a version beyond the last", truncating(
			func(ctx context.Context, s *wrapped, stream string, version, before int64) error {
				if before > version+1 {
					return es.ErrNotFound
				}
				return s.EventStore.Truncate(ctx, stream, before)
			})),
		that("E12/truncate_hides_what_is_there", "turns down the version 0", truncating(
			func(ctx context.Context, s *wrapped, stream string, _, before int64) error {
				return s.EventStore.Truncate(ctx, stream, before-1)
			})),
		that("E12/truncate_hides_what_is_there", "takes a negative version for none", truncating(
			func(ctx context.Context, s *wrapped, stream string, _, before int64) error {
				return s.EventStore.Truncate(ctx, stream, max(before, 0))
			})),
		that("E12/truncated_whole_is_not_deleted", "deletes what it truncates whole", truncating(
			func(ctx context.Context, s *wrapped, stream string, version, before int64) error {
				if before > version {
					return s.EventStore.Delete(ctx, stream, es.SoftDelete)
				}
				return s.EventStore.Truncate(ctx, stream, before)
			})),
		that("E12/truncated_whole_is_not_deleted", "truncates what it is to delete", func(s *wrapped) {
			s.delete = func(ctx context.Context, stream string, _ es.Deletion) error {
				return s.EventStore.Truncate(ctx, stream, versionOf(s, stream)+1)
			}
		}),
		that("E12/hidden_events_match_no_condition", "counts what is hidden", func(s *wrapped) {
			remembering(s, func(a es.Append, appended []*es.Message) error {
				for _, c := range a.Unless {
					matches := 0
					for _, m := range appended {
						if m.Position > c.After && es.MatchesAny(c.Match, m) {
							matches++
						}
					}
					if matches > c.Seen {
						return &es.ConflictError{Condition: &c, Matches: matches}
					}
				}
				return nil
			})
		}),
		that("E12/what_was_seen_and_is_hidden_conflicts", "counts what is left", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				a.Unless = slices.DeleteFunc(slices.Clone(a.Unless), func(c es.Condition) bool {
					matches := 0
					for m, err := range s.EventStore.Read(ctx, es.Query{After: c.After, Any: c.Match, Unsettled: true}) {
						if err == nil && m != nil {
							matches++
						}
					}
					return matches <= c.Seen
				})
				if len(a.Streams)+len(a.Unless) == 0 {
					return es.Appended{}, nil
				}
				return s.EventStore.Append(ctx, a)
			}
		}),
		that("E12/tombstone_against_appends", "hides what was there when it began", func(s *wrapped) {
			var closed atomic.Bool
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				if closed.Load() {
					return es.Appended{}, es.ErrStreamDeleted
				}
				return s.EventStore.Append(ctx, a)
			}
			s.delete = func(ctx context.Context, stream string, _ es.Deletion) error {
				defer closed.Store(true)
				before := versionOf(s, stream) + 1
				for versionOf(s, stream) < before { // somebody is faster
					runtime.Gosched()
				}
				return s.EventStore.Truncate(ctx, stream, before)
			}
		}),
		that("E12/erase_takes_what_can_be_read", "passes over what it does not find", erasing(
			func(ctx context.Context, s *wrapped, e es.Erasure, done es.Appended, err error) (es.Appended, error) {
				if errors.Is(err, es.ErrNotFound) {
					return s.EventStore.Append(ctx, es.AppendTo(e.Audit.Stream, es.Any, e.Audit))
				}
				return done, err
			})),
		that("E12/erase_takes_what_can_be_read", "tells of the last erasure of several", func(s *wrapped) {
			last := ""
			shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
				if m.Metadata[es.MetadataErased] == "" {
					return m
				}
				return altered(m, func(m *es.Message) { m.Metadata[es.MetadataErased] = last })
			})(s)
			s.erase = func(ctx context.Context, e es.Erasure) (es.Appended, error) {
				last = e.Audit.ID.String()
				return s.EventStore.Erase(ctx, e)
			}
		}),
		that("E12/erase_takes_what_can_be_read", "has no record of an erasure of nothing", func(s *wrapped) {
			s.erase = func(ctx context.Context, e es.Erasure) (es.Appended, error) {
				if len(e.Versions) == 0 && versionOf(s, e.Stream) == 0 {
					return es.Appended{}, nil
				}
				return s.EventStore.Erase(ctx, e)
			}
		}),
		that("E12/erase_takes_what_can_be_read", "erases again when it is repeated", erasing(
			func(ctx context.Context, s *wrapped, e es.Erasure, done es.Appended, err error) (es.Appended, error) {
				if err == nil && done.Existing > 0 {
					e.Audit = altered(e.Audit, func(m *es.Message) { m.ID = es.NewID() })
					_, err = s.EventStore.Erase(ctx, e)
				}
				return done, err
			})),
		that("E12/erase_takes_what_can_be_read", "erases what it cannot record", erasing(
			func(ctx context.Context, s *wrapped, e es.Erasure, done es.Appended, err error) (es.Appended, error) {
				if errors.Is(err, es.ErrStreamDeleted) {
					e.Audit = altered(e.Audit, func(m *es.Message) { m.ID, m.Stream = es.NewID(), "elsewhere-1" })
					_, _ = s.EventStore.Erase(ctx, e)
				}
				return done, err
			})),
	}
}
