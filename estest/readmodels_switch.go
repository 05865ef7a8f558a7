package estest

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	es "github.com/eventsourcing-go/eventsourcing"
)

func modelSwitchLines() []Line[Harness[es.ReadModels]] {
	return []Line[Harness[es.ReadModels]]{
		modelLine("J4/switch_puts_documents_and_checkpoint_in_place", func(b *modelBench) {
			b.advanced("m", es.Progress{}, at(1, 4, 500), put("m", "a", "old"), put("m", "b", "old"))
			b.advanced("m.2", es.Progress{}, at(2, 1, 700), put("m.2", "a", "new"), put("m.2", "c", "new"))
			b.switches("m", "m.2")
			b.lists(es.ListQuery{Model: "m"}, "a", "c")
			b.reads("m", "a", "new")
			b.reads("m", "b", "")
			b.reads("m", "c", "new")
			b.stands("m", at(2, 1, 700))
		}),
		modelLine("J4/switch_leaves_nothing_aside", func(b *modelBench) {
			b.advanced("m.2", es.Progress{}, at(2, 1, 700), put("m.2", "a", "new"))
			b.switches("m", "m.2")
			b.lists(es.ListQuery{Model: "m.2"})
			b.reads("m.2", "a", "")
			b.stands("m.2", es.Progress{})
			b.is(b.role.Switch(b.ctx, es.Replacement{Model: "m", With: "m.2"}), es.ErrNotFound, "switch again")
			b.advanced("m.2", es.Progress{}, at(3, 1, 1), put("m.2", "b", "newer")) // the name can be used again
			b.switches("m", "m.2")
			b.lists(es.ListQuery{Model: "m"}, "b")
			b.stands("m", at(3, 1, 1))
		}),
		modelLine("J4/switch_of_one_part", func(b *modelBench) {
			b.advanced("m", es.Progress{}, at(1, 1, 5), put("m", "a", "old"))
			b.advanced("only checkpoint", es.Progress{}, at(2, 1, 7))
			b.switches("m", "only checkpoint")
			b.lists(es.ListQuery{Model: "m"})
			b.stands("m", at(2, 1, 7))
			b.commit(put("only documents", "b", "new"))
			b.switches("m", "only documents")
			b.lists(es.ListQuery{Model: "m"}, "b")
			b.stands("m", es.Progress{})
		}),
		modelLine("J4/switch_of_what_is_not_there", func(b *modelBench) {
			b.advanced("m", es.Progress{}, at(1, 1, 5), put("m", "a", "old"))
			b.advanced("m.2", es.Progress{}, at(2, 1, 7), put("m.2", "a", "new"))
			err := b.role.Switch(b.ctx, es.Replacement{Model: "m", With: "m.2"}, es.Replacement{Model: "n", With: "nobody's"})
			b.is(err, es.ErrNotFound, "switch two, of which one is not there")
			b.reads("m", "a", "old")
			b.reads("m.2", "a", "new")
			b.stands("m", at(1, 1, 5))
			b.stands("m.2", at(2, 1, 7))
		}),
		modelLine("J4/switch_of_several_is_one_step", modelSwitchAtomic),
		modelLine("J4/after_a_switch_the_old_owner_is_out", func(b *modelBench) {
			b.advanced("m", es.Progress{}, at(1, 1, 500), put("m", "a", "old"))
			b.advanced("m.2", es.Progress{}, at(2, 1, 500), put("m.2", "a", "new"))
			b.switches("m", "m.2")
			b.passedBy(advance("m", at(1, 1, 500), at(1, 1, 501), put("m", "a", "stale")), at(2, 1, 500))
			b.reads("m", "a", "new")
			b.advanced("m", at(2, 1, 500), at(2, 1, 501), put("m", "a", "next"))
			b.reads("m", "a", "next")
		}),
		modelLine("J4/a_switch_brings_no_revision_back", func(b *modelBench) {
			b.commit(put("m", "a", "old"))
			b.commit(put("m.2", "a", "new"))
			stale := b.load("m", "a").Revision
			b.switches("m", "m.2")
			w := expecting(put("m", "a", "stale"), es.Exactly(stale))
			b.refused(es.Commit{Writes: []es.Write{w}}, w, b.load("m", "a").Revision)
			b.reads("m", "a", "new")
			b.commit(put("m", "a", "next"))
			b.refused(es.Commit{Writes: []es.Write{w}}, w, b.load("m", "a").Revision)
		}),
		modelLine("J4/switched_is_kept", func(b *modelBench) {
			b.keeps()
			b.commit(put("m", "a", "old"))
			b.advanced("m.2", es.Progress{}, at(2, 1, 7), put("m.2", "b", "new"))
			b.switches("m", "m.2")
			b.reopened()
			b.lists(es.ListQuery{Model: "m"}, "b")
			b.lists(es.ListQuery{Model: "m.2"})
			b.stands("m", at(2, 1, 7))
		}),
		modelLine("J4/drop_takes_documents_and_checkpoint", func(b *modelBench) {
			b.advanced("m", es.Progress{}, at(1, 1, 5), put("m", "a", "1"), put("n", "a", "2"))
			b.advanced("n", es.Progress{}, at(1, 1, 6))
			b.ok(b.role.Drop(b.ctx, "m"), "drop")
			b.lists(es.ListQuery{Model: "m"})
			b.reads("m", "a", "")
			b.stands("m", es.Progress{})
			b.reads("n", "a", "2")
			b.stands("n", at(1, 1, 6))
			b.ok(b.role.Drop(b.ctx, "m"), "drop again")
			b.advanced("m", es.Progress{}, at(1, 1, 1), put("m", "b", "1"))
			b.lists(es.ListQuery{Model: "m"}, "b")
		}),
		modelLine("J4/switch_takes_a_name_once", func(b *modelBench) {
			b.commit(put("m", "a", "m"))
			b.commit(put("n", "a", "n"))
			b.commit(put("o", "a", "o"))
			for why, rs := range map[string][]es.Replacement{
				"a model with itself":        {{Model: "m", With: "m"}},
				"a model twice":              {{Model: "m", With: "n"}, {Model: "m", With: "o"}},
				"two models with one":        {{Model: "m", With: "o"}, {Model: "n", With: "o"}},
				"two models with each other": {{Model: "m", With: "n"}, {Model: "n", With: "m"}},
				"a model that another took":  {{Model: "m", With: "n"}, {Model: "n", With: "o"}},
			} {
				b.is(b.role.Switch(b.ctx, rs...), es.ErrInvalid, "switch %s", why)
			}
			for _, model := range []string{"m", "n", "o"} {
				b.reads(model, "a", model)
			}
			b.ok(b.role.Switch(b.ctx), "switch nothing")
		}),
		modelLine("J4/switch_checks_its_names", func(b *modelBench) {
			b.commit(put("m", "a", "1"))
			b.is(b.role.Switch(b.ctx, es.Replacement{Model: "", With: "m"}), es.ErrInvalid, "switch into a nameless model")
			b.is(b.role.Switch(b.ctx, es.Replacement{Model: "n", With: "m\n"}), es.ErrInvalid, "switch with an odd name")
			b.is(b.role.Drop(b.ctx, ""), es.ErrInvalid, "drop a nameless model")
			b.reads("m", "a", "1")
		}),
	}
}

func (b *modelBench) switches(model, with string) {
	b.Helper()
	b.ok(b.role.Switch(b.ctx, es.Replacement{Model: model, With: with}), "switch %q to %q", model, with)
}

// modelSwitchAtomic switches two models again and again while others read them. A reader never finds a model empty or mixed,
// and who has seen the second in its new version sees the first in no older one.
func modelSwitchAtomic(b *modelBench) {
	const readers, switches, documents = 3, 15, 5
	handles := b.each(readers + 1)
	write := func(model string, version int) []es.Write {
		writes := make([]es.Write, documents)
		for i := range writes {
			writes[i] = numbered(model, fmt.Sprint("k", i), version)
		}
		return writes
	}
	both := func(m, n string, version int) es.Commit {
		return advance(m, es.Progress{}, at(int64(version), 0, 0), append(write(m, version), write(n, version)...)...)
	}
	b.ok(b.role.Commit(b.ctx, both("m", "n", 1)), "commit the first version")
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	b.atOnce(readers+1, func(i int) error {
		if i == 0 {
			defer cancel()
			for version := 2; version < 2+switches; version++ {
				if err := handles[0].Commit(b.ctx, both("m.next", "n.next", version)); err != nil {
					return err
				}
				pair := []es.Replacement{{Model: "m", With: "m.next"}, {Model: "n", With: "n.next"}}
				if version%2 == 0 {
					pair[0], pair[1] = pair[1], pair[0]
				}
				if err := handles[0].Switch(b.ctx, pair...); err != nil {
					return err
				}
			}
			return nil
		}
		for round := 0; ctx.Err() == nil; round++ {
			first, second := "m", "n"
			if round%2 == 1 {
				first, second = second, first
			}
			seen, err := wholeVersion(b.ctx, handles[i], second, documents)
			if err != nil {
				return err
			}
			now, err := wholeVersion(b.ctx, handles[i], first, documents)
			if err != nil {
				return err
			}
			if now < seen {
				return fmt.Errorf("model %s was in version %d, and then %s in version %d", second, seen, first, now)
			}
		}
		return nil
	})
	b.stands("m", at(1+switches, 0, 0))
}

// wholeVersion reads a model by List and by Load, and returns the version that all its documents have.
func wholeVersion(ctx context.Context, models es.ReadModels, model string, documents int) (int, error) {
	listed, err := models.List(ctx, es.ListQuery{Model: model})
	if err != nil {
		return 0, err
	}
	loaded, err := models.Load(ctx, model, "k0", "k1", "k2")
	if err != nil {
		return 0, err
	}
	if len(listed) != documents {
		return 0, fmt.Errorf("model %s has %d documents, want %d", model, len(listed), documents)
	}
	for _, docs := range [][]es.Document{listed, loaded} {
		for _, doc := range docs {
			if string(doc.Data) != string(docs[0].Data) || doc.Revision == 0 {
				return 0, fmt.Errorf("model %s is mixed: %+v", model, docs)
			}
		}
	}
	n := 0
	_, err = fmt.Sscan(string(loaded[0].Data), &n)
	return n, err
}

func modelCloseLines() []Line[Harness[es.ReadModels]] {
	return []Line[Harness[es.ReadModels]]{
		modelLine("E13/closed_is_closed", func(b *modelBench) {
			b.commit(put("m", "a", "1"))
			models := b.role
			b.closed(map[string]func() error{
				"Load":     func() error { _, err := models.Load(b.ctx, "m", "a"); return err },
				"List":     func() error { _, err := models.List(b.ctx, es.ListQuery{Model: "m"}); return err },
				"Commit":   func() error { return models.Commit(b.ctx, es.Commit{Writes: []es.Write{put("m", "b", "1")}}) },
				"Progress": func() error { _, err := models.Progress(b.ctx, "m"); return err },
				"Drop":     func() error { return models.Drop(b.ctx, "m") },
				"Switch":   func() error { return models.Switch(b.ctx, es.Replacement{Model: "n", With: "m"}) },
			}, es.ErrClosed)
		}),
		modelLine("E13/close_waits_for_commits", func(b *modelBench) {
			b.keeps()
			const writers = 4
			models := b.role
			last := make([]int, writers) // the last number that was acknowledged
			first := make(chan struct{}, writers)
			working := b.begun(func(ctx context.Context) error {
				errs := make(chan error, writers)
				for w := range writers {
					go func() {
						for n := 1; ; n++ {
							err := models.Commit(ctx, es.Commit{Writes: []es.Write{numbered("m", strconv.Itoa(w), n)}})
							if n == 1 {
								first <- struct{}{}
							}
							if err != nil {
								errs <- err
								return
							}
							last[w] = n
						}
					}()
				}
				var odd error
				for range writers {
					if err := <-errs; !errors.Is(err, es.ErrClosed) {
						odd = fmt.Errorf("commit during close: %w", err)
					}
				}
				return odd
			})
			for range writers {
				<-first
			}
			b.reopened()
			b.ok(b.ended(working, "writers on a closed backend"), "writers")
			for w, want := range last {
				got, _, err := number(b.ctx, b.role, "m", strconv.Itoa(w))
				if b.ok(err, "load"); got != want {
					b.Fatalf("commit %d was the last to be acknowledged, and %d is there", want, got)
				}
			}
		}),
	}
}
