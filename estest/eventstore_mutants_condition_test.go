package estest_test

import (
	"context"
	"errors"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// judging changes the conditions of an append.
func judging(change func(c *es.Condition)) func(s *wrapped) {
	return asked(func(_ *wrapped, a *es.Append) {
		for i := range a.Unless {
			a.Unless[i].Match = slices.Clone(a.Unless[i].Match)
			change(&a.Unless[i])
		}
	})
}

func conditionMutants() []eventMutant {
	criteria := func(change func(c *es.Criterion)) func(s *wrapped) {
		return judging(func(c *es.Condition) {
			for i := range c.Match {
				change(&c.Match[i])
			}
		})
	}
	stale := given(func(_ *wrapped, q es.Query, all []*es.Message) []*es.Message {
		if q.Unsettled && len(q.Any) > 0 && len(all) > 0 {
			return all[:len(all)-1]
		}
		return all
	})
	return []eventMutant{
		that("E6/matches_names_tags_both_and_everything", "does not look at names", criteria(func(c *es.Criterion) { c.Names = nil })),
		that("E6/matches_names_tags_both_and_everything", "does not look at tags", criteria(func(c *es.Criterion) { c.Tags = nil })),
		that("E6/matches_names_tags_both_and_everything", "takes the first of several tags", criteria(func(c *es.Criterion) {
			c.Tags = c.Tags[:min(1, len(c.Tags))]
		})),
		that("E6/matches_names_tags_both_and_everything", "takes a criterion of nothing for none", criteria(func(c *es.Criterion) {
			if len(c.Names)+len(c.Tags) == 0 {
				c.Names = []string{"Nothing"}
			}
		})),
		that("E6/several_criteria_are_or", "looks at the first criterion only", judging(func(c *es.Condition) { c.Match = c.Match[:1] })),
		that("E6/several_criteria_are_or", "takes several criteria for one", judging(func(c *es.Condition) {
			var all es.Criterion
			for _, m := range c.Match {
				all.Names, all.Tags = append(all.Names, m.Names...), append(all.Tags, m.Tags...)
			}
			c.Match = []es.Criterion{all}
		})),
		that("E6/several_conditions_all_hold", "looks at the first condition only", asked(func(_ *wrapped, a *es.Append) {
			a.Unless = a.Unless[:min(1, len(a.Unless))]
		})),
		that("E6/only_what_came_since_counts", "counts from the beginning", judging(func(c *es.Condition) { c.After = 0 })),
		that("E6/only_what_came_since_counts", "counts from one too late", judging(func(c *es.Condition) { c.After++ })),
		that("E6/what_was_seen_does_not_count", "counts what was seen", judging(func(c *es.Condition) { c.Seen = 0 })),
		that("E6/what_was_seen_does_not_count", "looks beyond the last position that was read", judging(func(c *es.Condition) { c.Seen *= 2 })),
		that("E6/plain_appends_are_seen", "sees conditional appends only", func(s *wrapped) {
			plain := false
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				done, err := s.EventStore.Append(ctx, a)
				if errors.Is(err, es.ErrConflict) && plain {
					a.Unless = nil
					return s.EventStore.Append(ctx, a)
				}
				plain = len(a.Unless) == 0
				return done, err
			}
		}),
		that("E6/its_own_events_do_not_count", "counts its own events", func(s *wrapped) {
			s.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
				for _, c := range a.Unless {
					for _, stream := range a.Streams {
						if slices.ContainsFunc(stream.Events, func(m *es.Message) bool { return es.MatchesAny(c.Match, m) }) {
							return es.Appended{}, &es.ConflictError{Condition: &c, Matches: c.Seen + 1}
						}
					}
				}
				return s.EventStore.Append(ctx, a)
			}
		}),
		that("E6/works_beside_expectations", "has a condition stand for the expectations", asked(func(_ *wrapped, a *es.Append) {
			for i := range a.Streams {
				if len(a.Unless) > 0 {
					a.Streams[i].Expect = es.Any
				}
			}
		})),
		that("E6/broken_conditions_are_invalid", "passes over a condition that it does not understand", asked(func(_ *wrapped, a *es.Append) {
			a.Unless = slices.DeleteFunc(a.Unless, func(c es.Condition) bool { return c.Validate() != nil })
		})),
		that("E6/a_decision_reads_and_appends", "decides by what is settled only", stale),
		that("E6/one_of_many_with_a_condition_wins", "lets two win", lastWins(every)),
		that("E6/one_of_many_with_a_condition_wins", "leaks a serialization failure", raw(func(_ es.Appended, err error) bool {
			return errors.Is(err, es.ErrConflict)
		})),
		that("E6/one_of_many_handles_with_a_condition_wins", "checks in one handle only", lastWins(second)),
		{"E6/one_of_many_processes_with_a_condition_wins", "shares nothing between processes", broken{processes: true}},
		that("E6/disjoint_tags_all_win", "lets every append be a match", criteria(func(c *es.Criterion) { *c = es.Criterion{} })),
		that("E6/crossed_conditions_have_one_winner", "admits write skew", lastWins(every)),
		that("E6/plain_append_against_a_condition", "forgets the condition", asked(func(_ *wrapped, a *es.Append) { a.Unless = nil })),
		that("E6/concurrent_deciders_keep_the_rule", "decides by what is settled only", stale),
	}
}
