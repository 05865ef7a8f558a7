package estest_test

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func limitMutants() []eventMutant {
	// The harness says that its store has these limits, and opens it with those by default.
	small := es.Limits{EventBytes: 500, EventsPerAppend: 10, MetadataBytes: 300, TagsPerEvent: 3}
	var mutants []eventMutant
	for _, line := range []string{"E11/event_bytes", "E11/events_per_append", "E11/metadata_bytes", "E11/tags_per_event"} {
		mutants = append(mutants, eventMutant{line, "does not hold its limit", broken{limits: small}})
	}
	return append(mutants, eventMutant{"E10/what_was_acknowledged_survives_a_crash", "loses what it had in its buffers", broken{
		crash: func(s *brokenStorage) { s.storage = memory.NewStorage() },
	}}, eventMutant{"E10/what_was_acknowledged_survives_kill_9", "acknowledges before it writes", broken{processes: true}})
}

// afterwards lets a change come into force with the first edit.
func afterwards(change func(s *wrapped)) func(s *wrapped) {
	return func(s *wrapped) {
		whole := *s
		change(&whole)
		var edited atomic.Bool
		s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
			if !edited.Load() {
				return s.EventStore.Append(ctx, a)
			}
			return whole.Append(ctx, a)
		}
		s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
			if !edited.Load() {
				return s.EventStore.Read(ctx, q)
			}
			return whole.Read(ctx, q)
		}
		s.head = func(ctx context.Context) (es.Checkpoint, error) {
			if !edited.Load() {
				return s.EventStore.Head(ctx)
			}
			return whole.Head(ctx)
		}
		s.truncate = func(ctx context.Context, stream string, before int64) error {
			edited.Store(true)
			return whole.Truncate(ctx, stream, before)
		}
		s.delete = func(ctx context.Context, stream string, how es.Deletion) error {
			edited.Store(true)
			return whole.Delete(ctx, stream, how)
		}
		s.erase = func(ctx context.Context, e es.Erasure) (es.Appended, error) {
			edited.Store(true)
			return whole.Erase(ctx, e)
		}
	}
}

// forgetting takes the IDs of what is gone for new ones.
func forgetting(s *wrapped) {
	answered(func(_ *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
		if done.Existing > 0 {
			return es.Appended{}, conflict(a)
		}
		return done, err
	})(s)
}

func truncateMutants() []eventMutant {
	return []eventMutant{
		that("E12/truncate_hides_from_every_reader", "hides from readers of the stream only", func(s *wrapped) {
			hidden := map[string]int64{}
			s.truncate = func(_ context.Context, stream string, before int64) error {
				hidden[stream] = max(hidden[stream], before)
				return nil
			}
			shown(func(q es.Query, _ int, m *es.Message) *es.Message {
				if q.Stream != "" && m.Version < hidden[q.Stream] {
					return nil
				}
				return m
			})(s)
		}),
		that("E12/truncate_hides_from_every_reader", "shows events again", func(s *wrapped) {
			hidden := map[string]int64{}
			s.truncate = func(_ context.Context, stream string, before int64) error {
				hidden[stream] = before
				return nil
			}
			shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
				if m.Version < hidden[m.Stream] {
					return nil
				}
				return m
			})(s)
		}),
		that("E12/truncate_leaves_the_stream_as_it_was", "takes the stream for a new one", afterwards(expecting(
			func(_ int64, e es.Expectation) es.Expectation {
				if e == es.NoStream {
					return es.Any
				}
				return e
			}))),
		that("E12/truncate_leaves_the_stream_as_it_was", "loses the version", func(s *wrapped) {
			s.truncate = func(ctx context.Context, stream string, _ int64) error {
				return s.EventStore.Delete(ctx, stream, es.SoftDelete)
			}
		}),
		that("E12/truncate_keeps_ids_taken", "forgets the IDs", afterwards(forgetting)),
		{"E12/what_cannot_be_done_is_unsupported", "does in silence what it cannot do", broken{noEdits: true}},
	}
}

func deleteMutants() []eventMutant {
	return []eventMutant{
		that("E12/delete_hides_from_every_reader", "hides from readers of the stream only", func(s *wrapped) {
			deleted := map[string]bool{}
			s.delete = func(_ context.Context, stream string, _ es.Deletion) error {
				deleted[stream] = true
				return nil
			}
			shown(func(q es.Query, _ int, m *es.Message) *es.Message {
				if deleted[q.Stream] {
					return nil
				}
				return m
			})(s)
		}),
		that("E12/soft_delete_frees_the_name", "truncates", func(s *wrapped) {
			s.delete = func(ctx context.Context, stream string, _ es.Deletion) error {
				return s.EventStore.Truncate(ctx, stream, versionOf(s, stream)+1)
			}
		}),
		that("E12/soft_delete_frees_the_name", "begins at version 1 again", afterwards(shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
			return altered(m, func(m *es.Message) { m.Version = max(1, m.Version-3) })
		}))),
		that("E12/soft_delete_frees_the_name", "tells of version 0 in a conflict", answered(
			func(_ *wrapped, _ es.Append, done es.Appended, err error) (es.Appended, error) {
				var conflict *es.ConflictError
				if errors.As(err, &conflict) && conflict.Expected == es.StreamExists {
					conflict.Actual = 0
				}
				return done, err
			})),
		that("E12/tombstone_comes_before_a_conflict", "looks at the expectation first", answered(
			func(_ *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
				if errors.Is(err, es.ErrStreamDeleted) && a.Streams[0].Expect != es.Any {
					return es.Appended{}, conflict(a)
				}
				return done, err
			})),
		that("E12/tombstone_comes_before_a_conflict", "looks at the condition first", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				if len(a.Unless) > 0 {
					if _, err := s.EventStore.Append(ctx, es.Append{Unless: a.Unless}); err != nil {
						return es.Appended{}, err
					}
				}
				return s.EventStore.Append(ctx, a)
			}
		}),
		that("E12/soft_delete_keeps_versions_and_ids", "forgets the IDs", afterwards(forgetting)),
		that("E12/tombstone_closes_for_good", "takes a tombstone for a soft delete", func(s *wrapped) {
			s.delete = func(ctx context.Context, stream string, _ es.Deletion) error {
				return s.EventStore.Delete(ctx, stream, es.SoftDelete)
			}
		}),
		that("E12/positions_do_not_come_again", "takes the largest position that is left for the head", func(s *wrapped) {
			s.head = func(ctx context.Context) (es.Checkpoint, error) {
				head, err := s.EventStore.Head(ctx)
				head.Position = 0
				for m, readErr := range s.EventStore.Read(ctx, es.Query{Reverse: true, Limit: 1}) {
					if readErr == nil {
						head.Position = m.Position
					}
				}
				return head, err
			}
		}),
	}
}

func eraseMutants() []eventMutant {
	return []eventMutant{
		that("E12/erase_removes_data_and_metadata", "leaves the metadata", afterwards(shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
			return altered(m, func(m *es.Message) {
				if m.Metadata[es.MetadataErased] != "" {
					m.Metadata["user"] = "ada"
				}
			})
		}))),
		that("E12/erase_removes_data_and_metadata", "does not say so", afterwards(shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
			return altered(m, func(m *es.Message) { delete(m.Metadata, es.MetadataErased) })
		}))),
		that("E12/erase_removes_data_and_metadata", "takes the correlation ID along", afterwards(shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
			return altered(m, func(m *es.Message) {
				if m.Metadata[es.MetadataErased] != "" {
					m.CorrelationID = ""
				}
			})
		}))),
		that("E12/erase_all_of_a_stream", "erases the audit event with the rest", afterwards(shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
			return altered(m, func(m *es.Message) { m.Data = nil })
		}))),
		that("E12/erase_appends_its_audit_event", "hides the audit event", afterwards(shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
			if m.Name == "Erased" {
				return nil
			}
			return m
		}))),
		that("E12/erase_again_changes_nothing", "appends another audit event", func(s *wrapped) {
			s.erase = func(ctx context.Context, e es.Erasure) (es.Appended, error) {
				e.Audit = altered(e.Audit, func(m *es.Message) { m.ID = es.NewID() })
				return s.EventStore.Erase(ctx, e)
			}
		}),
		that("E12/erase_all_or_nothing", "erases what it finds", func(s *wrapped) {
			s.erase = func(ctx context.Context, e es.Erasure) (es.Appended, error) {
				done, err := s.EventStore.Erase(ctx, e)
				if errors.Is(err, es.ErrNotFound) && slices.Contains(e.Versions, 1) {
					e.Versions = []int64{1}
					_, _ = s.EventStore.Erase(ctx, e)
				}
				return done, err
			}
		}),
		that("E12/erased_events_count_as_before", "compares a repeated append with what is left", afterwards(answered(
			func(_ *wrapped, a es.Append, done es.Appended, err error) (es.Appended, error) {
				if done.Existing > 0 {
					return es.Appended{}, &es.DuplicateError{ID: a.Streams[0].Events[0].ID}
				}
				return done, err
			}))),
	}
}

func closeMutants() []eventMutant {
	lingering := func(s *wrapped) {
		s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
			head, err := s.EventStore.Wait(ctx, after)
			if errors.Is(err, es.ErrClosed) {
				<-ctx.Done()
				err = ctx.Err()
			}
			return head, err
		}
	}
	return []eventMutant{
		that("E13/afterwards_every_call_is_closed", "takes a closed store for an empty one", hiding),
		that("E13/afterwards_every_call_is_closed", "has a head when it is closed", func(s *wrapped) {
			s.head = func(ctx context.Context) (es.Checkpoint, error) {
				head, err := s.EventStore.Head(ctx)
				if errors.Is(err, es.ErrClosed) {
					return es.Checkpoint{}, nil
				}
				return head, err
			}
		}),
		{"E13/closing_twice_is_fine", "has an error for the second Close", broken{
			close: func(s *brokenStorage, backend *memory.Backend) error {
				if s.closes++; s.closes > 1 {
					return es.ErrClosed
				}
				return backend.Close()
			},
		}},
		that("E13/waits_for_appends_in_flight", "acknowledges what it drops", func(s *wrapped) {
			var dropped atomic.Bool
			answered(func(_ *wrapped, _ es.Append, done es.Appended, err error) (es.Appended, error) {
				if errors.Is(err, es.ErrClosed) && dropped.CompareAndSwap(false, true) {
					return es.Appended{Places: []es.Place{{Version: 1, Position: math.MaxInt32}}, Position: math.MaxInt32}, nil
				}
				return done, err
			})(s)
		}),
		that("E13/waits_for_appends_in_flight", "leaks the error of its database", answered(
			func(_ *wrapped, _ es.Append, done es.Appended, err error) (es.Appended, error) {
				if errors.Is(err, es.ErrClosed) {
					err = errors.New("sql: database is closed")
				}
				return done, err
			})),
		that("E13/ends_those_who_wait", "leaves them waiting", lingering),
		{"E13/other_handles_go_on", "closes the storage with the handle", broken{
			close: func(s *brokenStorage, _ *memory.Backend) error {
				for _, backend := range s.open {
					_ = backend.Close()
				}
				return nil
			},
		}},
	}
}
