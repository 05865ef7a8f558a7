package estest_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func selectionMutants() []eventMutant {
	return []eventMutant{
		that("E7/every_query_as_defined", "does not look at the criteria", rewritten(func(q *es.Query) { q.Any = nil })),
		that("E7/every_query_as_defined", "does not look at the upper bound", rewritten(func(q *es.Query) { q.UpTo = 0 })),
		that("E7/every_query_as_defined", "has the lower bound inside", rewritten(func(q *es.Query) { q.After = max(0, q.After-1) })),
		that("E7/every_query_as_defined", "takes one limit too many", rewritten(func(q *es.Query) {
			if q.Limit > 1 {
				q.Limit++
			}
		})),
		that("E7/every_query_as_defined", "reverses after the limit", given(func(_ *wrapped, q es.Query, all []*es.Message) []*es.Message {
			if q.Reverse && q.Limit > 1 {
				slices.Reverse(all)
			}
			return all
		})),
		that("E7/random_queries_as_defined", "takes a category for a prefix", func(s *wrapped) {
			s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
				category := q.Category
				q.Category = ""
				inner := *s
				inner.read = nil
				shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
					if !strings.HasPrefix(m.Stream, category) {
						return nil
					}
					return m
				})(&inner)
				return inner.read(ctx, q)
			}
		}),
		that("E7/names_are_compared_exactly", "does not tell capitals", rewritten(func(q *es.Query) {
			for _, name := range q.Names {
				q.Names = append(q.Names, strings.ToUpper(name))
			}
		})),
		that("E7/stream_bounds_are_versions", "takes versions for positions", func(s *wrapped) {
			s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
				all := q
				all.After, all.UpTo, all.Limit = 0, 0, 0
				inner := *s
				shown(func(_ es.Query, _ int, m *es.Message) *es.Message {
					if m.Position <= q.After || q.UpTo > 0 && m.Position > q.UpTo {
						return nil
					}
					return m
				})(&inner)
				return inner.read(ctx, all)
			}
		}),
		that("E7/what_is_not_there_is_empty", "has an error for a stream that is not there", func(s *wrapped) {
			s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
				if q.Stream != "" && versionOf(s, q.Stream) == 0 {
					return func(yield func(*es.Message, error) bool) { yield(nil, es.ErrNotFound) }
				}
				return s.EventStore.Read(ctx, q)
			}
		}),
		that("E7/broken_queries_are_invalid", "finds nothing by a query that it does not understand", func(s *wrapped) {
			s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
				if q.Validate() != nil {
					return func(func(*es.Message, error) bool) {}
				}
				return s.EventStore.Read(ctx, q)
			}
		}),
		that("E7/many_pages", "loses the first event of the second page", shown(func(_ es.Query, index int, m *es.Message) *es.Message {
			if index == 1000 {
				return nil
			}
			return m
		})),
	}
}

// hiding ends a read where it should give an error.
func hiding(s *wrapped) {
	s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
		return func(yield func(*es.Message, error) bool) {
			for m, err := range s.EventStore.Read(ctx, q) {
				if err != nil || !yield(m, nil) {
					return
				}
			}
		}
	}
}

func cursorMutants() []eventMutant {
	return []eventMutant{
		that("E7/canceling_is_an_error_and_no_end", "hides the error as a shorter history", hiding),
		that("E7/canceling_is_an_error_and_no_end", "does not notice", func(s *wrapped) {
			s.read = func(_ context.Context, q es.Query) iter.Seq2[*es.Message, error] {
				return s.EventStore.Read(context.Background(), q)
			}
		}),
		that("E7/closing_is_an_error_and_no_end", "hides the error as a shorter history", hiding),
		that("E7/the_body_may_append", "holds a lock while the body runs", func(s *wrapped) {
			var reading atomic.Int64
			s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
				return func(yield func(*es.Message, error) bool) {
					reading.Add(1)
					defer reading.Add(-1)
					s.EventStore.Read(ctx, q)(yield)
				}
			}
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				if reading.Load() > 0 {
					return es.Appended{}, errors.New("database is locked")
				}
				return s.EventStore.Append(ctx, a)
			}
		}),
		that("E7/breaking_out_releases", "keeps its cursor until the end", func(s *wrapped) {
			var open atomic.Int64
			s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
				return func(yield func(*es.Message, error) bool) {
					if open.Add(1) > 100 {
						yield(nil, errors.New("too many open cursors"))
						return
					}
					for m, err := range s.EventStore.Read(ctx, q) {
						if !yield(m, err) {
							return
						}
					}
					open.Add(-1)
				}
			}
		}),
		that("E7/many_read_at_once", "lets readers share a cursor", func(s *wrapped) {
			var reads atomic.Int64
			s.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
				short := reads.Add(1)%3 == 0
				inner := *s
				shown(func(_ es.Query, index int, m *es.Message) *es.Message {
					if short && index%2 == 1 {
						return nil
					}
					return m
				})(&inner)
				return inner.read(ctx, q)
			}
		}),
		that("E7/memory_stays_constant", "reads everything before it gives anything", given(
			func(_ *wrapped, _ es.Query, all []*es.Message) []*es.Message {
				for i, m := range all {
					all[i] = m.Clone()
				}
				return all
			})),
	}
}

// skipping is the global order without every tenth position.
func skipping(handles func(handle int) bool) func(s *wrapped) {
	return func(s *wrapped) {
		if !handles(s.handle) {
			return
		}
		shown(func(q es.Query, _ int, m *es.Message) *es.Message {
			if q.Stream == "" && m.Position%10 == 3 {
				return nil
			}
			return m
		})(s)
	}
}

func orderMutants() []eventMutant {
	var stuck atomic.Bool
	return []eventMutant{
		that("E8/every_reader_sees_every_event_once", "skips a position", skipping(every)),
		that("E8/every_reader_sees_every_event_once", "gives the event at the checkpoint again", rewritten(func(q *es.Query) {
			q.After = max(0, q.After-1)
		})),
		that("E8/every_reader_sees_every_event_once", "moves its head beyond what is committed", func(s *wrapped) {
			wait := s.EventStore.Wait
			s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
				head, err := wait(ctx, es.Checkpoint{Incarnation: after.Incarnation, Position: max(0, after.Position-5)})
				if err == nil && head.Position > after.Position {
					head.Position += 5
				}
				return head, err
			}
		}),
		that("E8/readers_on_other_handles", "skips a position in other handles", skipping(second)),
		{"E8/writers_in_other_processes", "shares nothing between processes", broken{processes: true}},
		that("E8/nothing_appears_behind_the_head", "moves the head before the event can be seen", func(s *wrapped) {
			given(func(_ *wrapped, q es.Query, all []*es.Message) []*es.Message {
				if q.UpTo > 0 && !q.Unsettled && len(all) > 0 {
					return all[:len(all)-1]
				}
				return all
			})(s)
		}),
		that("E8/own_writes_are_read_at_once", "reads a stream from a replica", given(func(_ *wrapped, q es.Query, all []*es.Message) []*es.Message {
			if q.Stream != "" && !q.Reverse && len(all) > 0 {
				return all[:len(all)-1]
			}
			return all
		})),
		that("E8/the_head_settles_by_itself", "has its head wait for a number that was given up", func(s *wrapped) {
			answered(func(_ *wrapped, _ es.Append, done es.Appended, err error) (es.Appended, error) {
				if err != nil {
					stuck.Store(true)
				}
				return done, err
			})(s)
			s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
				if stuck.Load() {
					<-ctx.Done()
					return es.Checkpoint{}, ctx.Err()
				}
				return s.EventStore.Wait(ctx, after)
			}
		}),
		that("E8/a_reader_that_finds_nothing_advances", "has a reader wait for a match", func(s *wrapped) {
			s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
				_, err := s.EventStore.Wait(ctx, after)
				return after, err
			}
		}),
	}
}

func waitMutants() []eventMutant {
	blocked := func(ctx context.Context) (es.Checkpoint, error) {
		<-ctx.Done()
		return es.Checkpoint{}, ctx.Err()
	}
	return []eventMutant{
		that("E9/returns_at_once_when_there_is_more", "waits for the next append in any case", func(s *wrapped) {
			s.wait = func(ctx context.Context, _ es.Checkpoint) (es.Checkpoint, error) {
				head, err := s.EventStore.Head(ctx)
				if err != nil {
					return head, err
				}
				return s.EventStore.Wait(ctx, head)
			}
		}),
		that("E9/waits_while_there_is_nothing", "does not wait", func(s *wrapped) {
			s.wait = func(ctx context.Context, _ es.Checkpoint) (es.Checkpoint, error) { return s.EventStore.Head(ctx) }
		}),
		that("E9/wakes_within_5_ms", "looks now and then", func(s *wrapped) {
			s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
				select {
				case <-time.After(400 * time.Millisecond):
					return s.EventStore.Wait(ctx, after)
				case <-ctx.Done():
					return es.Checkpoint{}, ctx.Err()
				}
			}
		}),
		that("E9/never_misses_an_append", "misses one in a hundred", func(s *wrapped) {
			var waits atomic.Int64
			s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
				if waits.Add(1)%100 == 0 {
					return blocked(ctx)
				}
				return s.EventStore.Wait(ctx, after)
			}
		}),
		that("E9/wakes_all_who_wait", "wakes one of those who wait", func(s *wrapped) {
			var woken atomic.Int64
			s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
				head, err := s.EventStore.Wait(ctx, after)
				if woken.Add(1) > 1 {
					return blocked(ctx)
				}
				return head, err
			}
		}),
		that("E9/wakes_other_handles", "does not hear of other handles", func(s *wrapped) {
			s.wait = func(ctx context.Context, _ es.Checkpoint) (es.Checkpoint, error) { return blocked(ctx) }
		}),
		that("E9/ends_with_its_context", "leaks the error of its database", func(s *wrapped) {
			s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
				head, err := s.EventStore.Wait(ctx, after)
				if err != nil {
					err = errors.New("SQLSTATE 57014: canceling statement due to user request")
				}
				return head, err
			}
		}),
	}
}

func positionMutants() []eventMutant {
	placing := func(change func(s *wrapped, i int, p *es.Place)) func(s *wrapped) {
		return answered(func(s *wrapped, _ es.Append, done es.Appended, err error) (es.Appended, error) {
			done.Places = slices.Clone(done.Places)
			done.Position = 0
			for i := range done.Places {
				change(s, i, &done.Places[i])
				done.Position = max(done.Position, done.Places[i].Position)
			}
			return done, err
		})
	}
	renamed := func(incarnation func() uuid.UUID) func(s *wrapped) {
		return func(s *wrapped) {
			s.head = func(ctx context.Context) (es.Checkpoint, error) {
				head, err := s.EventStore.Head(ctx)
				head.Incarnation = incarnation()
				return head, err
			}
		}
	}
	return []eventMutant{
		that("E10/a_position_is_never_given_twice", "gives a position twice", placing(func(_ *wrapped, _ int, p *es.Place) {
			p.Position = (p.Position + 1) / 2
		})),
		that("E10/positions_go_on_after_reopening", "counts from 1 again", placing(func(s *wrapped, i int, p *es.Place) {
			if s.handle > 0 {
				p.Position = int64(i + 1)
			}
		})),
		that("E10/incarnation_stays", "has no incarnation", renamed(func() uuid.UUID { return uuid.Nil })),
		that("E10/incarnation_stays", "has another incarnation each time", renamed(uuid.New)),
		that("E10/another_incarnation_is_an_error", "does not look at the incarnation of a query", rewritten(func(q *es.Query) {
			q.Incarnation = uuid.Nil
		})),
		that("E10/another_incarnation_is_an_error", "does not look at the incarnation of who waits", func(s *wrapped) {
			s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
				after.Incarnation = uuid.Nil
				return s.EventStore.Wait(ctx, after)
			}
		}),
		that("E10/beyond_the_last_position_is_an_error", "skips silently", hiding),
		that("E10/beyond_the_last_position_is_an_error", "waits for ever", func(s *wrapped) {
			s.wait = func(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
				head, err := s.EventStore.Wait(ctx, after)
				if errors.Is(err, es.ErrCheckpoint) {
					<-ctx.Done()
					err = ctx.Err()
				}
				return head, err
			}
		}),
	}
}
