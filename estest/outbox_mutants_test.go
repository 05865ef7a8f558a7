package estest_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

func TestOutboxMutants(t *testing.T) {
	h := &outboxHunt{}
	h.enqueues()
	h.claims()
	h.leases()
	h.failures()
	h.deadLetters()
	h.replays()
	h.waits()
	h.counts()
	h.closing()
	h.forwards()
	h.processes()
	hunt(t, estest.OutboxLines(), h.mutants)
}

func (h *outboxHunt) enqueues() {
	oneByOne := func(m *outboxMutant) {
		m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
			for _, msg := range msgs {
				if err := m.Outbox.Enqueue(ctx, msg); err != nil {
					return err
				}
			}
			return nil
		}
	}
	enqueuing := func(change func(msgs []*es.Message) []*es.Message) func(m *outboxMutant) {
		return func(m *outboxMutant) {
			m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
				return m.Outbox.Enqueue(ctx, change(slices.Clone(msgs))...)
			}
		}
	}
	h.fault("O1/durable_when_enqueue_returns", "keeps it in the process", crashLoses)
	h.fault("O1/kept_over_close_and_open", "keeps it in the process", closeLoses)
	h.fault("O1/another_handle_sees_it", "has a queue for each handle", handlesApart)
	h.add("M2/every_field_survives", "cuts data at a NUL", claimed(func(m *es.Message) { m.Data = cutAtNUL(m.Data) }))
	h.add("M2/every_field_survives", "loses metadata", claimed(func(m *es.Message) { m.Metadata = nil }))
	h.add("M2/every_field_survives", "sorts tags", claimed(func(m *es.Message) { slices.Sort(m.Tags) }))
	h.add("M2/every_field_survives", "has seconds", claimed(func(m *es.Message) { m.Time = m.Time.Truncate(time.Second) }))
	h.add("M2/every_field_survives", "loses the causation of the dead", showing(func(letters []es.DeadEntry) []es.DeadEntry {
		for i := range letters {
			letters[i].Message = letters[i].Clone()
			letters[i].CausationID = ""
		}
		return letters
	}))
	h.add("M5/keeps_copies", "keeps the caller's message", func(m *outboxMutant) {
		kept := map[uuid.UUID]*es.Message{}
		m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
			kept[msgs[0].ID] = msgs[0]
			return m.Outbox.Enqueue(ctx, msgs...)
		}
		claiming(func(e *es.Entry, _ es.ClaimOptions) { e.Message = kept[e.ID] })(m)
	})
	h.add("M5/keeps_copies", "keeps the caller's bytes", func(m *outboxMutant) {
		var kept []byte
		m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
			kept = msgs[0].Data
			return m.Outbox.Enqueue(ctx, msgs...)
		}
		claimed(func(m *es.Message) { m.Data = kept })(m)
	})
	h.fault("M3/namespaces_see_nothing_of_each_other", "has one namespace", namespacesLeak)
	h.add("O1/all_or_none", "stores one by one", oneByOne)
	h.add("O1/invalid_before_anything_is_written", "stores one by one", oneByOne)
	h.add("O1/invalid_before_anything_is_written", "drops what is invalid", hidingErr("enqueue", es.ErrInvalid))
	h.shared("O1/the_same_again_is_left_as_it_is", "stores it again", func() func(m *outboxMutant) {
		seen := map[uuid.UUID]bool{}
		return enqueuing(func(msgs []*es.Message) []*es.Message {
			for i, msg := range msgs {
				if seen[msg.ID] {
					msgs[i] = msg.Clone()
					msgs[i].ID = es.NewID()
				}
				seen[msg.ID] = true
			}
			return msgs
		})
	})
	h.shared("O1/the_same_again_is_left_as_it_is", "turns it down", func() func(m *outboxMutant) {
		seen := map[uuid.UUID]bool{}
		return func(m *outboxMutant) {
			m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
				for _, msg := range msgs {
					if seen[msg.ID] {
						return es.ErrDuplicate
					}
					seen[msg.ID] = true
				}
				return m.Outbox.Enqueue(ctx, msgs...)
			}
		}
	})
	h.add("O1/the_same_twice_in_a_call_is_one", "turns it down", func(m *outboxMutant) {
		m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
			if len(msgs) > 2 && msgs[0].ID == msgs[2].ID {
				return es.ErrDuplicate
			}
			return m.Outbox.Enqueue(ctx, msgs...)
		}
	})
	h.add("O1/other_content_is_a_duplicate", "looks at the ID alone", hidingErr("enqueue", es.ErrDuplicate))
	h.shared("O1/other_content_is_a_duplicate", "compares the data alone", func() func(m *outboxMutant) {
		data := map[uuid.UUID]string{}
		return func(m *outboxMutant) {
			m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
				if old, ok := data[msgs[0].ID]; ok && old == string(msgs[0].Data) {
					return nil
				}
				data[msgs[0].ID] = string(msgs[0].Data)
				return m.Outbox.Enqueue(ctx, msgs...)
			}
		}
	})
	h.add("O1/the_ID_of_a_dead_letter_is_taken", "forgets the IDs of dead letters", func(m *outboxMutant) {
		m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
			for e, err := range m.Outbox.DeadLetters(ctx) {
				if err != nil {
					return err
				}
				if e.ID == msgs[0].ID {
					return m.Outbox.Replay(ctx, e.ID)
				}
			}
			return m.Outbox.Enqueue(ctx, msgs...)
		}
	})
	h.add("O1/the_ID_of_a_dead_letter_is_taken", "looks at the ID alone", hidingErr("enqueue", es.ErrDuplicate))
	h.add("O1/calls_at_once_keep_their_order", "stores a call in reverse", enqueuing(func(msgs []*es.Message) []*es.Message {
		slices.Reverse(msgs)
		return msgs
	}))
	h.add("O1/calls_at_once_keep_their_order", "loses some", enqueuing(func(msgs []*es.Message) []*es.Message { return msgs[1:] }))
	h.add("O1/calls_at_once_keep_their_order", "doubles some", enqueuing(func(msgs []*es.Message) []*es.Message {
		double := msgs[0].Clone()
		double.ID = es.NewID()
		return append(msgs, double)
	}))
	h.add("O1/the_time_of_enqueueing_is_known", "does not know it", claiming(func(e *es.Entry, _ es.ClaimOptions) {
		e.Enqueued = time.Time{}
	}))
}

func (h *outboxHunt) claims() {
	h.add("O2/claims_in_order_of_each_stream", "gives a claim in reverse", func(m *outboxMutant) {
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			n, err := m.Outbox.Claim(ctx, dst, opts)
			slices.Reverse(dst[:n])
			return n, err
		}
	})
	h.add("O2/claim_gives_what_fits", "loses what does not fit", func(m *outboxMutant) {
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			all := make([]es.Entry, 10)
			n, err := m.Outbox.Claim(ctx, all, opts)
			copy(dst, all[:n])
			return min(n, len(dst)), err
		}
	})
	h.add("O2/claim_gives_what_fits", "waits for the first", func(m *outboxMutant) {
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			if err := m.Outbox.Wait(ctx); err != nil {
				return 0, err
			}
			return m.Outbox.Claim(ctx, dst, opts)
		}
	})
	h.add("O2/a_claim_needs_an_owner", "takes no owner for somebody", leasing(func(opts *es.ClaimOptions) {
		if opts.Owner == "" {
			opts.Owner = "somebody"
		}
	}))
	h.add("O2/what_is_claimed_is_not_claimed_again", "does not lease", func(m *outboxMutant) {
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			n, err := m.Outbox.Claim(ctx, dst, opts)
			return n, errors.Join(err, m.Outbox.Release(ctx, dst[:n]))
		}
	})
	h.shared("O2/what_is_claimed_is_not_claimed_again", "gives an owner its entries again", func() func(m *outboxMutant) {
		var held []es.Entry
		return func(m *outboxMutant) {
			m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
				n, err := m.Outbox.Claim(ctx, dst, opts)
				if n == 0 && opts.Owner == "A" {
					n = copy(dst, held)
				}
				held = slices.Clone(dst[:n])
				return n, err
			}
		}
	})
	h.add("O2/what_is_completed_is_gone", "gives it back instead", func(m *outboxMutant) { m.complete = m.Outbox.Release })
	h.add("O2/what_is_completed_is_gone", "completes all of the claim", func(m *outboxMutant) {
		var held []es.Entry
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			n, err := m.Outbox.Claim(ctx, dst, opts)
			held = append(held, dst[:n]...)
			return n, err
		}
		m.complete = func(ctx context.Context, _ []es.Entry) error { return m.Outbox.Complete(ctx, held) }
	})
	h.fault("O2/what_is_completed_is_gone", "keeps it in the process", closeLoses)
	for _, line := range []string{
		"O2/a_stream_is_with_one_owner", "O2/giving_part_back_keeps_the_stream", "O2/what_follows_a_held_entry_waits",
		"O2/owners_at_once_do_each_entry_once", "O2/owners_on_handles_do_each_entry_once", "O2/no_overtaking_when_a_lease_ends",
		"O2/no_overtaking_of_a_failing_entry", "O2/a_parked_stream_waits", "O2/parked_by_two_dead_letters",
	} {
		h.shared(line, "leases entries and not streams", entryWise)
	}
	for _, line := range []string{"O2/owners_at_once_do_each_entry_once", "O2/owners_on_handles_do_each_entry_once"} {
		h.add(line, "lets two owners have an entry", func(m *outboxMutant) {
			m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
				n, err := m.Outbox.Claim(ctx, dst, opts)
				if n == len(dst) {
					return n, errors.Join(err, m.Outbox.Release(ctx, dst[n-1:n]))
				}
				return n, err
			}
		})
		h.add(line, "loses what fails", func(m *outboxMutant) {
			m.fail = func(ctx context.Context, entries []es.Entry, _ es.Failure) error {
				return m.Outbox.Complete(ctx, entries)
			}
		})
	}
}

func (h *outboxHunt) leases() {
	forever := leasing(func(opts *es.ClaimOptions) { opts.Lease *= 1000 })
	h.add("O2/a_dead_owners_entries_come_back", "never ends a lease", forever)
	h.add("O2/a_dead_owners_entries_come_back", "loses what a dead owner had", func(m *outboxMutant) {
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			n, err := m.Outbox.Claim(ctx, dst, opts)
			if opts.Owner == "A" {
				err = errors.Join(err, m.Outbox.Complete(ctx, dst[:n]))
			}
			return n, err
		}
	})
	h.add("O2/a_crashed_owners_entries_come_back", "never ends a lease", forever)
	h.fault("O2/a_crashed_owners_entries_come_back", "keeps it in the process", crashLoses)
	h.add("O2/not_before_the_lease_ends", "ends leases early", func(m *outboxMutant) {
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			lease := opts.Lease
			opts.Lease = lease / 100
			n, err := m.Outbox.Claim(ctx, dst, opts)
			for i := range dst[:n] {
				dst[i].Deadline = dst[i].Deadline.Add(lease - opts.Lease)
			}
			return n, err
		}
	})
	h.add("O2/not_before_the_lease_ends", "does not say when it ends", claiming(func(e *es.Entry, _ es.ClaimOptions) {
		e.Deadline = time.Time{}
	}))
	h.add("O2/a_lease_is_30_seconds_by_default", "has another default", leasing(func(opts *es.ClaimOptions) {
		if opts.Lease == 0 {
			opts.Lease = time.Minute
		}
	}))
	h.shared("O2/the_end_of_a_lease_is_an_attempt", "counts failures alone", countsFailuresAlone)
	h.shared("O2/failures_and_ends_of_leases_add_up", "counts failures alone", countsFailuresAlone)
	h.add("O2/failures_and_ends_of_leases_add_up", "counts anew for another owner", claiming(func(e *es.Entry, opts es.ClaimOptions) {
		if opts.Owner != "A" {
			e.Attempt = 1
		}
	}))
	h.add("O2/extend_keeps_the_lease", "only says so", func(m *outboxMutant) {
		m.extend = func(_ context.Context, entries []es.Entry) error {
			for i := range entries {
				entries[i].Deadline = time.Now().Add(200 * time.Millisecond)
			}
			return nil
		}
	})
	h.add("O2/extend_keeps_the_lease", "does not say until when", func(m *outboxMutant) {
		m.extend = func(ctx context.Context, entries []es.Entry) error {
			return m.Outbox.Extend(ctx, slices.Clone(entries))
		}
	})
	h.add("O2/extend_goes_for_the_stream", "extends each entry alone", func(m *outboxMutant) {
		m.complete = func(ctx context.Context, entries []es.Entry) error {
			errs := make([]error, len(entries))
			for i, e := range entries {
				if time.Now().After(e.Deadline) {
					errs[i] = es.ErrLeaseLost
				}
			}
			return cmp.Or(es.BatchErr(errs), m.Outbox.Complete(ctx, entries))
		}
	})
	for _, how := range []string{"complete", "fail", "release", "extend"} {
		for _, when := range []string{"_of_what_was_answered_before", "_after_another_took_over", "_after_the_lease_ended"} {
			h.add("O2/"+how+when, "takes a stale answer", hidingErr(how, es.ErrLeaseLost))
		}
	}
	h.add("O2/complete_of_what_was_answered_before", "fails as a whole", func(m *outboxMutant) {
		m.complete = func(ctx context.Context, entries []es.Entry) error {
			if err := m.Outbox.Complete(ctx, entries); err != nil {
				return es.ErrLeaseLost
			}
			return nil
		}
	})
	h.add("O2/complete_of_what_was_answered_before", "stops at the first stale one", func(m *outboxMutant) {
		m.complete = func(ctx context.Context, entries []es.Entry) error {
			errs := make([]error, len(entries))
			for i := range entries {
				if errs[i] = es.Of(m.Outbox.Complete(ctx, entries[i:i+1]), 0); errs[i] != nil {
					break
				}
			}
			return es.BatchErr(errs)
		}
	})
	h.shared("O2/complete_after_another_took_over", "looks at the ID alone", func() func(m *outboxMutant) {
		var mu sync.Mutex
		tokens := map[uuid.UUID]uint64{}
		return func(m *outboxMutant) {
			claiming(func(e *es.Entry, _ es.ClaimOptions) {
				mu.Lock()
				defer mu.Unlock()
				tokens[e.ID] = e.Token
			})(m)
			m.complete = func(ctx context.Context, entries []es.Entry) error {
				mu.Lock()
				defer mu.Unlock()
				entries = slices.Clone(entries)
				for i := range entries {
					entries[i].Token = tokens[entries[i].ID]
				}
				return m.Outbox.Complete(ctx, entries)
			}
		}
	})
}
