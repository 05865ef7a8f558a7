package estest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func (h *outboxHunt) failures() {
	toTheEnd := func(m *outboxMutant) {
		m.fail = func(ctx context.Context, entries []es.Entry, _ es.Failure) error {
			err := m.Outbox.Complete(ctx, entries)
			for _, e := range entries {
				err = errors.Join(err, m.Outbox.Enqueue(ctx, e.Message))
			}
			return err
		}
	}
	h.shared("O2/one_streams_failure_holds_up_no_other", "has one queue for all", oneQueue)
	h.add("O2/a_failed_entry_comes_back_in_its_place", "puts it at the end", toTheEnd)
	h.shared("O2/a_failed_entry_comes_back_in_its_place", "loses what fails", func() func(m *outboxMutant) {
		return func(m *outboxMutant) {
			m.fail = func(ctx context.Context, entries []es.Entry, _ es.Failure) error {
				return m.Outbox.Complete(ctx, entries)
			}
		}
	})
	h.add("O2/not_before_its_delay", "knows no delay", failing(func(f *es.Failure) { f.Delay = 0 }))
	h.add("O2/each_failure_is_an_attempt", "gives it back instead", func(m *outboxMutant) {
		m.fail = func(ctx context.Context, entries []es.Entry, _ es.Failure) error {
			return m.Outbox.Release(ctx, entries)
		}
	})
	h.add("O2/each_failure_is_an_attempt", "counts to two", claiming(func(e *es.Entry, _ es.ClaimOptions) { e.Attempt = min(e.Attempt, 2) }))
	h.add("O2/release_is_no_attempt_and_keeps_order", "takes it for a failure", func(m *outboxMutant) {
		m.release = func(ctx context.Context, entries []es.Entry) error {
			return m.Outbox.Fail(ctx, entries, es.Failure{Err: errors.New("released")})
		}
	})
	h.add("O2/release_is_no_attempt_and_keeps_order", "puts it at the end", func(m *outboxMutant) {
		toTheEnd(m)
		m.release = func(ctx context.Context, entries []es.Entry) error { return m.fail(ctx, entries, es.Failure{}) }
	})
	h.add("O2/the_time_of_enqueueing_stays", "is that of the last attempt", claiming(func(e *es.Entry, _ es.ClaimOptions) {
		e.Enqueued = e.Enqueued.Add(time.Duration(e.Attempt) * time.Microsecond)
	}))
	h.shared("O2/the_time_of_enqueueing_stays", "is that of the last claim", func() func(m *outboxMutant) {
		var late time.Duration
		return claiming(func(e *es.Entry, _ es.ClaimOptions) {
			late += time.Microsecond
			e.Enqueued = e.Enqueued.Add(late)
		})
	})
	h.add("O2/the_time_of_enqueueing_stays", "is that of its death", showing(func(letters []es.DeadEntry) []es.DeadEntry {
		for i := range letters {
			letters[i].Enqueued = letters[i].Died
		}
		return letters
	}))
	h.add("O2/attempts_and_delays_outlive_a_handle", "counts attempts in the process", func(m *outboxMutant) {
		attempts := map[uuid.UUID]int{}
		m.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
			for _, e := range entries {
				attempts[e.ID]++
			}
			return m.Outbox.Fail(ctx, entries, f)
		}
		claiming(func(e *es.Entry, _ es.ClaimOptions) { e.Attempt = 1 + attempts[e.ID] })(m)
	})
	h.add("O2/attempts_and_delays_outlive_a_handle", "keeps delays in the process", failing(func(f *es.Failure) { f.Delay = 0 }))
	h.add("O2/a_failure_needs_an_error", "takes none for an unknown one", failing(func(f *es.Failure) {
		if f.Err == nil {
			f.Err = errors.New("unknown")
		}
	}))
}

func (h *outboxHunt) deadLetters() {
	h.add("O2/what_can_never_succeed_is_dead_at_once", "tries everything again", failing(func(f *es.Failure) {
		f.Err = errors.New(f.Err.Error())
	}))
	h.add("O2/what_can_never_succeed_is_dead_at_once", "gives up on conflicts", failing(func(f *es.Failure) {
		f.Dead = f.Dead || errors.Is(f.Err, es.ErrConflict)
	}))
	h.add("O2/what_can_never_succeed_is_dead_at_once", "looks below a control error", failing(func(f *es.Failure) {
		f.Dead = f.Dead || errors.Is(f.Err, es.ErrInvalid)
	}))
	h.add("O2/dead_on_request", "tries again all the same", failing(func(f *es.Failure) { f.Dead = false }))
	h.add("O2/dead_on_request", "drops the dead", func(m *outboxMutant) {
		m.fail = func(ctx context.Context, entries []es.Entry, _ es.Failure) error {
			return m.Outbox.Complete(ctx, entries)
		}
	})
	for name, change := range map[string]func(e *es.DeadEntry){
		"does not count attempts":      func(e *es.DeadEntry) { e.Attempts = 1 },
		"keeps the first error":        func(e *es.DeadEntry) { e.Error = "boom" },
		"does not know when it died":   func(e *es.DeadEntry) { e.Died = e.Enqueued.Add(-time.Hour) },
		"does not know when it came":   func(e *es.DeadEntry) { e.Enqueued = e.Died.Add(time.Hour) },
		"does not tell what it parked": func(e *es.DeadEntry) { e.Parked = false },
		"loses the data": func(e *es.DeadEntry) {
			e.Message = e.Clone()
			e.Data = nil
		},
	} {
		h.add("O2/a_dead_letter_tells_what_happened", name, showing(func(letters []es.DeadEntry) []es.DeadEntry {
			for i := range letters {
				change(&letters[i])
			}
			return letters
		}))
	}
	h.add("O2/dead_letters_come_oldest_first", "shows the newest first", showing(func(letters []es.DeadEntry) []es.DeadEntry {
		slices.Reverse(letters)
		return letters
	}))
	h.add("O2/dead_letters_come_oldest_first", "shows them by stream", showing(func(letters []es.DeadEntry) []es.DeadEntry {
		slices.SortFunc(letters, func(a, b es.DeadEntry) int { return strings.Compare(a.Stream, b.Stream) })
		return letters
	}))
	h.add("O2/any_error_text_is_kept", "turns down what a text column cannot hold", func(m *outboxMutant) {
		m.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
			if strings.ContainsRune(f.Err.Error(), 0) {
				return errors.New("invalid byte sequence for encoding \"UTF8\": 0x00")
			}
			return m.Outbox.Fail(ctx, entries, f)
		}
	})
	h.add("O2/any_error_text_is_kept", "keeps no error", showing(func(letters []es.DeadEntry) []es.DeadEntry {
		for i := range letters {
			letters[i].Error = ""
		}
		return letters
	}))
	h.fault("O2/dead_letters_are_kept", "keeps them in the process", closeLoses)
	h.add("O2/dead_letters_are_kept", "parks no stream", failing(func(f *es.Failure) { f.Park = false }))
	h.add("O2/after_a_dead_letter_the_stream_goes_on", "parks every stream", failing(func(f *es.Failure) { f.Park = true }))
	h.add("O2/a_parked_stream_waits", "parks no stream", failing(func(f *es.Failure) { f.Park = false }))
	h.shared("O2/a_parked_stream_waits", "parks all streams", oneQueue)
	h.add("O2/parked_by_two_dead_letters", "counts the first alone", func(m *outboxMutant) {
		m.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
			err := m.Outbox.Fail(ctx, entries[:1], f)
			f.Park = false
			return errors.Join(err, m.Outbox.Fail(ctx, entries[1:], f))
		}
	})
}

func (h *outboxHunt) replays() {
	h.add("O2/replay_in_its_place_with_attempts_anew", "puts it at the end", replayAsNew)
	h.add("O2/replay_in_its_place_with_attempts_anew", "goes on counting attempts", func(m *outboxMutant) {
		replayed := map[uuid.UUID]bool{}
		m.replay = func(ctx context.Context, ids []uuid.UUID) error {
			for _, id := range ids {
				replayed[id] = true
			}
			return m.Outbox.Replay(ctx, ids...)
		}
		claiming(func(e *es.Entry, _ es.ClaimOptions) {
			if replayed[e.ID] {
				e.Attempt += 2
			}
		})(m)
	})
	h.add("O2/replay_comes_before_what_was_enqueued_later", "puts it at the end", replayAsNew)
	h.add("O2/replay_is_enqueued_anew", "keeps the time of enqueueing", func(m *outboxMutant) {
		var first time.Time
		claiming(func(e *es.Entry, _ es.ClaimOptions) {
			if first.IsZero() {
				first = e.Enqueued
			}
			e.Enqueued = first
		})(m)
	})
	h.add("O2/replay_unparks", "loses what it replays", func(m *outboxMutant) {
		m.replay = func(ctx context.Context, ids []uuid.UUID) error { return m.Outbox.Discard(ctx, ids...) }
	})
	nothing := func(context.Context, []uuid.UUID) error { return nil }
	h.add("O2/replay_unparks", "does nothing", func(m *outboxMutant) { m.replay = nothing })
	h.add("O2/replay_of_what_is_not_dead", "replays those that are", func(m *outboxMutant) {
		m.replay = idOneByOne(m.Outbox.Replay)
	})
	h.add("O2/replay_of_what_is_not_dead", "does not say so", hidingErr("replay", es.ErrNotFound))
	h.add("O2/discard_is_for_good", "replays instead", func(m *outboxMutant) {
		m.discard = func(ctx context.Context, ids []uuid.UUID) error { return m.Outbox.Replay(ctx, ids...) }
	})
	h.add("O2/discard_is_for_good", "hides them in the process", func(m *outboxMutant) {
		discarded := map[uuid.UUID]bool{}
		m.discard = func(_ context.Context, ids []uuid.UUID) error {
			for _, id := range ids {
				discarded[id] = true
			}
			return nil
		}
		showing(func(letters []es.DeadEntry) []es.DeadEntry {
			return slices.DeleteFunc(letters, func(e es.DeadEntry) bool { return discarded[e.ID] })
		})(m)
	})
	h.add("O2/discard_unparks", "does nothing", func(m *outboxMutant) { m.discard = nothing })
	h.add("O2/discard_of_what_is_not_dead", "discards those that are", func(m *outboxMutant) {
		m.discard = idOneByOne(m.Outbox.Discard)
	})
	h.add("O2/discard_of_what_is_not_dead", "does not say so", hidingErr("discard", es.ErrNotFound))
}

func (h *outboxHunt) waits() {
	never := func(m *outboxMutant) {
		m.wait = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
	}
	for _, line := range []string{
		"O7/no_wait_when_there_is_something", "O7/no_enqueue_is_missed", "O7/an_enqueue_on_another_handle_wakes", "O7/a_release_wakes",
		"O7/a_failure_without_delay_wakes", "O7/a_dead_letter_that_frees_its_stream_wakes",
		"O7/a_completion_that_frees_its_stream_wakes", "O7/a_due_retry_wakes", "O7/a_due_retry_wakes_who_came_later",
		"O7/the_end_of_a_lease_wakes", "O7/a_replay_wakes", "O7/a_discard_that_unparks_wakes",
	} {
		h.add(line, "never wakes", never)
	}
	h.add("O7/wait_ends_with_its_context", "hides the end of its context", hidingErr("wait", context.Canceled))
	h.add("O7/wait_does_not_spin", "does not wait", func(m *outboxMutant) {
		m.wait = func(ctx context.Context) error {
			return ctx.Err()
		}
	})
	h.add("O7/wait_does_not_spin", "does not wait while there is anything", func(m *outboxMutant) {
		m.wait = func(ctx context.Context) error {
			if s, err := m.Outbox.Stats(ctx); err != nil || s.Depth > 0 {
				return err
			}
			return m.Outbox.Wait(ctx)
		}
	})
}

func (h *outboxHunt) counts() {
	h.add("O8/depth_and_age", "counts what waits alone", func(m *outboxMutant) {
		var out atomic.Int64
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			n, err := m.Outbox.Claim(ctx, dst, opts)
			out.Add(int64(n))
			return n, err
		}
		counting(func(s *es.OutboxStats) { s.Depth -= int(out.Load()) })(m)
	})
	h.add("O8/depth_and_age", "does not know the oldest", counting(func(s *es.OutboxStats) { s.Oldest = time.Time{} }))
	h.add("O8/depth_and_age", "takes the newest for the oldest", func(m *outboxMutant) {
		var last time.Time
		m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
			last = time.Now()
			return m.Outbox.Enqueue(ctx, msgs...)
		}
		counting(func(s *es.OutboxStats) { s.Oldest = last })(m)
	})
	h.add("O8/failures_and_dead_letters", "counts the dead among the waiting", counting(func(s *es.OutboxStats) { s.Depth += s.Dead }))
	h.add("O8/failures_and_dead_letters", "counts parked letters and not streams", counting(func(s *es.OutboxStats) {
		s.Parked = min(s.Dead, 2*s.Parked)
	}))
	h.add("O8/failures_and_dead_letters", "does not count retries", counting(func(s *es.OutboxStats) { s.Retrying = 0 }))
	h.add("O8/failures_and_dead_letters", "counts calls and not entries", func(m *outboxMutant) {
		var calls atomic.Int64
		m.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
			calls.Add(1)
			return m.Outbox.Fail(ctx, entries, f)
		}
		counting(func(s *es.OutboxStats) { s.Failures = calls.Load() })(m)
	})
	h.add("O8/failures_count_since_it_was_opened", "does not count", counting(func(s *es.OutboxStats) { s.Failures = 0 }))
	h.add("O8/failures_count_since_it_was_opened", "counts retries in the process", func(m *outboxMutant) {
		retrying := 0
		m.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
			retrying += len(entries)
			return m.Outbox.Fail(ctx, entries, f)
		}
		counting(func(s *es.OutboxStats) { s.Retrying = retrying })(m)
	})
}

func (h *outboxHunt) closing() {
	for _, call := range []string{
		"enqueue", "claim", "complete", "fail", "release", "extend", "wait", "stats", "dead letters", "replay", "discard",
	} {
		h.add("E13/closed_is_closed", "takes no notice in "+call, hidingErr(call, es.ErrClosed))
	}
	h.add("E13/close_wakes_who_waits", "lets them wait", func(m *outboxMutant) {
		m.wait = func(ctx context.Context) error {
			err := m.Outbox.Wait(ctx)
			if errors.Is(err, es.ErrClosed) {
				<-ctx.Done()
				err = ctx.Err()
			}
			return err
		}
	})
	h.add("E13/close_waits_for_writes", "acknowledges what close cut off", func(m *outboxMutant) {
		var lied atomic.Bool
		m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
			return acknowledgeLost(&lied, m.Outbox.Enqueue(ctx, msgs...))
		}
	})
}

func (h *outboxHunt) forwards() {
	// appending forwards in two steps, neither of which knows of the other.
	appending := func(then func(m *outboxMutant, ctx context.Context, e es.Entry, err error) error) func(m *outboxMutant) {
		return func(m *outboxMutant) {
			m.forward = func(ctx context.Context, entries []es.Entry) []es.Outcome {
				outcomes := make([]es.Outcome, len(entries))
				for i, e := range entries {
					var err error
					outcomes[i].Appended, err = m.events.Append(ctx, es.AppendTo(e.Stream, es.Any, e.Message))
					outcomes[i].Err = errors.Join(err, then(m, ctx, e, err))
				}
				return outcomes
			}
		}
	}
	completing := func(m *outboxMutant, ctx context.Context, e es.Entry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // which is what is wrong with it
		}
		return m.Outbox.Complete(ctx, []es.Entry{e})
	}
	outcomes := func(change func(o *es.Outcome)) func(m *outboxMutant) {
		return func(m *outboxMutant) {
			m.forward = func(ctx context.Context, entries []es.Entry) []es.Outcome {
				outcomes := m.sound(ctx, entries)
				for i := range outcomes {
					change(&outcomes[i])
				}
				return outcomes
			}
		}
	}
	h.add("O3/forward_appends_and_completes", "does not complete",
		appending(func(*outboxMutant, context.Context, es.Entry, error) error { return nil }))
	h.add("O3/forward_appends_and_completes", "does not append", func(m *outboxMutant) {
		m.forward = func(ctx context.Context, entries []es.Entry) []es.Outcome {
			err := m.Outbox.Complete(ctx, entries)
			outcomes := make([]es.Outcome, len(entries))
			for i := range outcomes {
				outcomes[i].Err = es.Of(err, i)
			}
			return outcomes
		}
	})
	h.add("O3/forward_tells_the_places", "does not tell", outcomes(func(o *es.Outcome) { o.Appended = es.Appended{} }))
	h.add("O3/forward_tells_the_places", "tells of one position only", outcomes(func(o *es.Outcome) { o.Places = nil }))
	h.add("O3/forward_under_a_lost_lease_does_nothing", "appends first", appending(completing))
	h.add("O3/forward_after_another_took_over_does_nothing", "appends first", appending(completing))
	h.add("O3/forward_of_what_was_appended_before_completes", "takes it for a conflict", outcomes(func(o *es.Outcome) {
		if o.Existing > 0 {
			o.Err = es.ErrConflict
		}
	}))
	h.add("O3/forward_of_what_was_appended_before_completes", "does not tell what existed", outcomes(func(o *es.Outcome) {
		o.Existing = 0
	}))
	overtakes := func(m *outboxMutant) {
		m.forward = func(ctx context.Context, entries []es.Entry) []es.Outcome {
			var outcomes []es.Outcome
			for i := range entries {
				outcomes = append(outcomes, m.sound(ctx, entries[i:i+1])...)
			}
			return outcomes
		}
	}
	h.add("O3/forward_holds_back_what_follows_a_failure", "lets it overtake", overtakes)
	h.add("O3/forward_goes_on_behind_what_can_never_succeed", "holds back behind any failure", func(m *outboxMutant) {
		overtakes(m)
		each := m.forward
		m.forward = func(ctx context.Context, entries []es.Entry) []es.Outcome {
			outcomes := each(ctx, entries[:1])
			for range entries[1:] {
				outcomes = append(outcomes, es.Outcome{Err: es.ErrHeldBack})
			}
			return outcomes
		}
	})
	h.add("O3/forward_that_fails_leaves_the_entry", "completes all the same",
		appending(func(m *outboxMutant, ctx context.Context, e es.Entry, _ error) error {
			return m.Outbox.Complete(ctx, []es.Entry{e})
		}))
	h.add("O3/forward_that_fails_leaves_the_entry", "fails as a whole", func(m *outboxMutant) {
		m.forward = func(_ context.Context, entries []es.Entry) []es.Outcome {
			outcomes := make([]es.Outcome, len(entries))
			for i := range outcomes {
				outcomes[i].Err = es.ErrDuplicate
			}
			return outcomes
		}
	})
}
