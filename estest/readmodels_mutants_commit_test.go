package estest_test

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func (h *modelsHunt) commits() {
	checkpointFirst := func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			if err := m.ReadModels.Commit(ctx, es.Commit{Progress: c.Progress, Fence: c.Fence}); err != nil {
				return err
			}
			return m.ReadModels.Commit(ctx, es.Commit{Writes: c.Writes, Fence: c.Fence})
		}
	}
	h.add("J2/all_or_none_on_a_revision", "writes one by one", inParts)
	h.add("J2/all_or_none_on_a_revision", "moves the checkpoint first", checkpointFirst)
	h.add("J2/all_or_none_on_a_checkpoint", "moves the checkpoint last", inParts)
	h.add("J2/a_commit_may_have_only_one_part", "forgets a checkpoint without writes", committing(func(c *es.Commit) {
		if len(c.Writes) == 0 {
			c.Progress = es.ProgressUpdate{}
		}
	}))
	h.add("J2/a_commit_may_have_only_one_part", "turns down an empty commit", func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			if len(c.Writes) == 0 && c.Progress.Projection == "" {
				return es.ErrInvalid
			}
			return m.ReadModels.Commit(ctx, c)
		}
	})
	h.add("J2/writes_of_several_models_are_one", "writes to the first model", committing(func(c *es.Commit) {
		for i := range c.Writes {
			c.Writes[i].Model = c.Writes[0].Model
		}
	}))
}

func (h *modelsHunt) checkpoints() {
	h.add("J2/a_new_projection_begins_at_zero", "takes any checkpoint for a new one", actual(func(from *es.Progress, actual es.Progress) {
		if actual == (es.Progress{}) {
			*from = actual
		}
	}))
	h.add("J2/a_new_projection_begins_at_zero", "lets a new one begin again", actual(func(from *es.Progress, actual es.Progress) {
		if *from == (es.Progress{}) {
			*from = actual
		}
	}))
	h.add("J2/compared_by_generation", "does not compare it", actual(func(from *es.Progress, actual es.Progress) {
		from.Generation = actual.Generation
	}))
	h.add("J2/compared_by_epoch", "does not compare it", actual(func(from *es.Progress, actual es.Progress) { from.Epoch = actual.Epoch }))
	h.add("J2/compared_by_position", "does not compare it", actual(func(from *es.Progress, actual es.Progress) {
		from.Position = actual.Position
	}))
	h.add("J2/compared_by_incarnation", "does not compare it", actual(func(from *es.Progress, actual es.Progress) {
		from.Incarnation = actual.Incarnation
	}))
	h.add("J2/compared_by_incarnation", "takes none for any", actual(func(from *es.Progress, actual es.Progress) {
		if from.Incarnation == uuid.Nil {
			from.Incarnation = actual.Incarnation
		}
	}))
	h.add("J2/compared_by_incarnation", "does not keep it", committing(func(c *es.Commit) {
		c.Progress.To.Incarnation = uuid.Nil
	}))
	h.add("J2/a_checkpoint_can_go_back", "only goes forward", committing(func(c *es.Commit) {
		c.Progress.To.Position = max(c.Progress.To.Position, c.Progress.From.Position)
	}))
	h.add("J2/a_checkpoint_can_go_back", "counts in 32 bits", committing(func(c *es.Commit) {
		c.Progress.To.Position &= 1<<32 - 1
	}))
	h.add("J2/a_paused_owner_finds_a_rebuild_that_passed_it", "compares the position alone",
		actual(func(from *es.Progress, actual es.Progress) {
			from.Generation, from.Epoch = actual.Generation, actual.Epoch
		}))
	h.add("J2/a_fence_that_is_held_lets_pass", "takes a renewed lease for another", func(m *modelsMutant) {
		var first time.Time
		m.commit = func(ctx context.Context, c es.Commit) error {
			if first.IsZero() {
				first = c.Fence.Until
			}
			if !c.Fence.Until.Equal(first) {
				return es.ErrLeaseLost
			}
			return m.ReadModels.Commit(ctx, c)
		}
	})
	h.add("J2/a_fence_that_nobody_holds_stops", "does not look at it", committing(func(c *es.Commit) { c.Fence = nil }))
	h.add("J2/a_fence_that_nobody_holds_stops", "looks at it for writes alone", committing(func(c *es.Commit) {
		if len(c.Writes) == 0 {
			c.Fence = nil
		}
	}))
	h.add("J2/a_fence_that_nobody_holds_stops", "looks at it last", func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			unfenced := c
			unfenced.Fence = nil
			if err := m.ReadModels.Commit(ctx, unfenced); err != nil || c.Fence == nil {
				return err
			}
			return es.ErrUnsupported
		}
	})
	for _, how := range []string{"released", "released_and_taken_by_its_owner", "another_owners", "over", "unknown"} {
		line := "J2/a_fence_that_is_" + how + "_stops"
		h.add(line, "does not look at it", committing(func(c *es.Commit) { c.Fence = nil }))
		h.add(line, "looks at it last", func(m *modelsMutant) {
			m.commit = func(ctx context.Context, c es.Commit) error {
				if err := m.ReadModels.Commit(ctx, es.Commit{Writes: c.Writes}); err != nil {
					return err
				}
				return m.ReadModels.Commit(ctx, es.Commit{Progress: c.Progress, Fence: c.Fence})
			}
		})
	}
}

func (h *modelsHunt) races() {
	// meeting lets the first two commits begin before either has ended.
	meeting := func(inner func(m *modelsMutant)) func() func(m *modelsMutant) {
		return func() func(m *modelsMutant) {
			both := newMeeting()
			return func(m *modelsMutant) {
				inner(m)
				commit := m.commit
				m.commit = func(ctx context.Context, c es.Commit) error {
					both.meet(ctx.Done())
					return commit(ctx, c)
				}
			}
		}
	}
	h.shared("J2/two_copies_have_each_effect_once", "does not compare the position", meeting(func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			for {
				now, err := m.ReadModels.Progress(ctx, c.Progress.Projection)
				if err != nil {
					return err
				}
				c.Progress.From = now
				if err = m.ReadModels.Commit(ctx, c); !errors.Is(err, es.ErrConflict) {
					return err
				}
			}
		}
	}))
	h.shared("J1/no_update_is_lost", "does not look at revisions", meeting(writing(unexpecting)))
	h.shared("J1/one_of_many_creates_it", "does not look whether it is there", meeting(writing(unexpecting)))
	h.shared("J2/readers_see_a_commit_whole", "writes one by one", func() func(m *modelsMutant) {
		readers := audience(make(chan struct{}))
		var first atomic.Bool
		return func(m *modelsMutant) {
			m.commit = func(ctx context.Context, c es.Commit) error {
				for i, w := range c.Writes {
					if err := m.ReadModels.Commit(ctx, es.Commit{Writes: []es.Write{w}}); err != nil {
						return err
					}
					if i == 0 && !first.CompareAndSwap(false, true) {
						readers.wait(8, ctx.Done())
					}
				}
				return nil
			}
			m.load = func(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
				defer readers.seen()
				return m.ReadModels.Load(ctx, model, keys...)
			}
		}
	})
	h.shared("J2/commits_that_cross_all_end", "gives up in a deadlock", func() func(m *modelsMutant) {
		var n atomic.Int32
		return func(m *modelsMutant) {
			m.commit = func(ctx context.Context, c es.Commit) error {
				if n.Add(1) == 20 {
					return errors.New("deadlock detected")
				}
				return m.ReadModels.Commit(ctx, c)
			}
		}
	})
}

func (h *modelsHunt) switches() {
	keepsCheckpoint := func(m *modelsMutant) {
		m.replace = func(ctx context.Context, rs ...es.Replacement) error {
			old, err := m.ReadModels.Progress(ctx, rs[0].Model)
			if err != nil {
				return err
			}
			if err := m.ReadModels.Switch(ctx, rs...); err != nil {
				return err
			}
			return m.setProgress(ctx, rs[0].Model, old)
		}
	}
	oneByOne := func(m *modelsMutant) {
		m.replace = func(ctx context.Context, rs ...es.Replacement) error {
			for _, r := range rs {
				if err := m.ReadModels.Switch(ctx, r); err != nil {
					return err
				}
			}
			return nil
		}
	}
	copies := func(keep func(r es.Replacement) string) func(m *modelsMutant) {
		return func(m *modelsMutant) {
			m.replace = func(ctx context.Context, rs ...es.Replacement) error {
				docs, err := m.everything(ctx, keep(rs[0]))
				if err != nil {
					return err
				}
				if err := m.ReadModels.Switch(ctx, rs...); err != nil {
					return err
				}
				return m.putAll(ctx, keep(rs[0]), docs)
			}
		}
	}
	h.add("J4/switch_puts_documents_and_checkpoint_in_place", "leaves the checkpoint", keepsCheckpoint)
	h.add("J4/switch_puts_documents_and_checkpoint_in_place", "leaves old documents", copies(func(r es.Replacement) string { return r.Model }))
	h.add("J4/switch_leaves_nothing_aside", "copies", copies(func(r es.Replacement) string { return r.With }))
	h.add("J4/switch_of_one_part", "does not see a checkpoint alone", func(m *modelsMutant) {
		m.replace = func(ctx context.Context, rs ...es.Replacement) error {
			if docs, err := m.everything(ctx, rs[0].With); err != nil || len(docs) == 0 {
				return errors.Join(err, es.ErrNotFound)
			}
			return m.ReadModels.Switch(ctx, rs...)
		}
	})
	h.add("J4/switch_of_one_part", "keeps the checkpoint when there is no other", keepsCheckpoint)
	h.add("J4/switch_of_what_is_not_there", "switches one by one", oneByOne)
	h.add("J4/switch_of_what_is_not_there", "switches to nothing", func(m *modelsMutant) {
		m.replace = func(ctx context.Context, rs ...es.Replacement) error {
			return without(es.ErrNotFound, m.ReadModels.Switch(ctx, rs...))
		}
	})
	h.shared("J4/switch_of_several_is_one_step", "switches one by one", func() func(m *modelsMutant) {
		readers := audience(make(chan struct{}))
		return func(m *modelsMutant) {
			m.replace = func(ctx context.Context, rs ...es.Replacement) error {
				for _, r := range rs {
					if err := m.ReadModels.Switch(ctx, r); err != nil {
						return err
					}
					readers.wait(24, ctx.Done())
				}
				return nil
			}
			m.list = func(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
				defer readers.seen()
				return m.ReadModels.List(ctx, q)
			}
		}
	})
	h.shared("J4/switch_of_several_is_one_step", "is empty for a moment", func() func(m *modelsMutant) {
		readers := audience(make(chan struct{}))
		return func(m *modelsMutant) {
			m.replace = func(ctx context.Context, rs ...es.Replacement) error {
				if err := m.ReadModels.Drop(ctx, rs[0].Model); err != nil {
					return err
				}
				readers.wait(24, ctx.Done())
				return m.ReadModels.Switch(ctx, rs...)
			}
			m.list = func(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
				defer readers.seen()
				return m.ReadModels.List(ctx, q)
			}
		}
	})
	h.add("J4/after_a_switch_the_old_owner_is_out", "leaves the checkpoint", keepsCheckpoint)
	h.add("J4/a_switch_brings_no_revision_back", "counts the revisions of each document", func(m *modelsMutant) {
		loading(func(doc *es.Document) { doc.Revision = min(doc.Revision, 1) })(m)
		writing(func(w *es.Write) {
			if w.Expect == es.Exactly(1) {
				w.Expect = es.StreamExists
			}
		})(m)
	})
	h.fault("J4/switched_is_kept", "keeps it in the process", closeLoses)
	h.add("J4/drop_takes_documents_and_checkpoint", "leaves the checkpoint", func(m *modelsMutant) {
		m.drop = func(ctx context.Context, model string) error {
			old, err := m.ReadModels.Progress(ctx, model)
			if err != nil {
				return err
			}
			return errors.Join(m.ReadModels.Drop(ctx, model), m.setProgress(ctx, model, old))
		}
	})
	h.add("J4/drop_takes_documents_and_checkpoint", "leaves the documents", func(m *modelsMutant) {
		m.drop = func(ctx context.Context, model string) error { return m.setProgress(ctx, model, es.Progress{}) }
	})
	h.add("J4/switch_takes_a_name_once", "switches in order", func(m *modelsMutant) {
		m.replace = func(ctx context.Context, rs ...es.Replacement) error {
			for _, r := range rs {
				if err := m.ReadModels.Switch(ctx, r); err != nil {
					return err
				}
			}
			return nil
		}
	})
	h.add("J4/switch_checks_its_names", "switches anything", func(m *modelsMutant) {
		m.replace = func(ctx context.Context, rs ...es.Replacement) error {
			return without(es.ErrInvalid, m.ReadModels.Switch(ctx, rs...))
		}
	})
}

func (h *modelsHunt) closing() {
	for name, change := range map[string]func(m *modelsMutant){
		"loads": func(m *modelsMutant) {
			m.load = func(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
				docs, err := m.ReadModels.Load(ctx, model, keys...)
				return docs, without(es.ErrClosed, err)
			}
		},
		"lists": func(m *modelsMutant) {
			m.list = func(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
				docs, err := m.ReadModels.List(ctx, q)
				return docs, without(es.ErrClosed, err)
			}
		},
		"commits": func(m *modelsMutant) {
			m.commit = func(ctx context.Context, c es.Commit) error {
				return without(es.ErrClosed, m.ReadModels.Commit(ctx, c))
			}
		},
		"tells progress": func(m *modelsMutant) {
			m.progress = func(ctx context.Context, projection string) (es.Progress, error) {
				p, err := m.ReadModels.Progress(ctx, projection)
				return p, without(es.ErrClosed, err)
			}
		},
		"drops": func(m *modelsMutant) {
			m.drop = func(ctx context.Context, model string) error {
				return without(es.ErrClosed, m.ReadModels.Drop(ctx, model))
			}
		},
		"switches": func(m *modelsMutant) {
			m.replace = func(ctx context.Context, rs ...es.Replacement) error {
				return without(es.ErrClosed, m.ReadModels.Switch(ctx, rs...))
			}
		},
	} {
		h.add("E13/closed_is_closed", name+" when closed", change)
	}
	h.shared("E13/close_waits_for_commits", "acknowledges what close cut off", func() func(m *modelsMutant) {
		return func(m *modelsMutant) {
			var lied atomic.Bool
			m.commit = func(ctx context.Context, c es.Commit) error {
				return acknowledgeLost(&lied, m.ReadModels.Commit(ctx, c))
			}
		}
	})
}
