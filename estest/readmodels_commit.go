package estest

import (
	"errors"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func modelCommitLines() []Line[Harness[es.ReadModels]] {
	return []Line[Harness[es.ReadModels]]{
		modelLine("J2/all_or_none_on_a_revision", func(b *modelBench) {
			b.advanced("p", es.Progress{}, at(1, 1, 1), put("m", "a", "1"), put("m", "b", "1"))
			revision := b.load("m", "b").Revision
			last := expecting(put("m", "b", "2"), es.Exactly(revision+1))
			b.refused(advance("p", at(1, 1, 1), at(1, 1, 2), put("m", "a", "2"), put("n", "c", "2"), last), last, revision)
			b.untouched()
			first := expecting(put("m", "c", "2"), es.StreamExists)
			b.refused(advance("p", at(1, 1, 1), at(1, 1, 2), first, put("m", "a", "2"), deleting("m", "b")), first, 0)
			b.untouched()
		}),
		modelLine("J2/all_or_none_on_a_checkpoint", func(b *modelBench) {
			b.advanced("p", es.Progress{}, at(1, 1, 1), put("m", "a", "1"), put("m", "b", "1"))
			b.passedBy(advance("p", at(1, 1, 0), at(1, 1, 2), put("m", "a", "2"), deleting("m", "b"), put("n", "c", "2")), at(1, 1, 1))
			b.untouched()
		}),
		modelLine("J2/a_commit_may_have_only_one_part", func(b *modelBench) {
			b.advanced("p", es.Progress{}, at(0, 0, 5))
			b.stands("p", at(0, 0, 5))
			b.commit(put("m", "a", "1"))
			b.stands("p", at(0, 0, 5))
			b.reads("m", "a", "1")
			b.ok(b.role.Commit(b.ctx, es.Commit{}), "an empty commit")
		}),
		modelLine("J2/writes_of_several_models_are_one", func(b *modelBench) {
			b.advanced("p", es.Progress{}, at(1, 1, 1), put("m", "a", "1"), put("n", "a", "2"), put("o", "b", "3"))
			b.reads("m", "a", "1")
			b.reads("n", "a", "2")
			b.reads("o", "b", "3")
			b.advanced("p", at(1, 1, 1), at(1, 1, 2), deleting("m", "a"), put("n", "a", "4"))
			b.reads("m", "a", "")
			b.reads("n", "a", "4")
			b.reads("o", "b", "3")
		}),
	}
}

// untouched ends the test unless models and checkpoint are as the first commit of a line left them.
func (b *modelBench) untouched() {
	b.Helper()
	b.reads("m", "a", "1")
	b.reads("m", "b", "1")
	b.reads("m", "c", "")
	b.reads("n", "c", "")
	b.lists(es.ListQuery{Model: "m"}, "a", "b")
	b.stands("p", at(1, 1, 1))
}

func modelProgressLines() []Line[Harness[es.ReadModels]] {
	apart := func(name string, wrong ...es.Progress) Line[Harness[es.ReadModels]] {
		return modelLine(name, func(b *modelBench) {
			now := at(5, 6, 7)
			b.advanced("p", es.Progress{}, now)
			for _, from := range wrong {
				b.passedBy(advance("p", from, at(9, 9, 9), put("m", "a", "1")), now)
				b.stands("p", now)
				b.reads("m", "a", "")
			}
			b.advanced("p", now, at(5, 6, 8), put("m", "a", "1"))
			b.stands("p", at(5, 6, 8))
			b.reads("m", "a", "1")
		})
	}
	return []Line[Harness[es.ReadModels]]{
		modelLine("J2/a_new_projection_begins_at_zero", func(b *modelBench) {
			b.stands("p", es.Progress{})
			b.passedBy(advance("p", at(1, 1, 1), at(1, 1, 2)), es.Progress{})
			b.stands("p", es.Progress{})
			b.advanced("p", es.Progress{}, at(1, 1, 1))
			b.passedBy(advance("p", es.Progress{}, at(1, 1, 1)), at(1, 1, 1))
			b.stands("q", es.Progress{})
		}),
		apart("J2/compared_by_generation", at(4, 6, 7), at(6, 6, 7)),
		apart("J2/compared_by_epoch", at(5, 5, 7), at(5, 7, 7)),
		apart("J2/compared_by_position", at(5, 6, 6), at(5, 6, 8)),
		modelLine("J2/compared_by_incarnation", func(b *modelBench) {
			one, two := at(1, 1, 5), at(1, 1, 5)
			one.Incarnation, two.Incarnation = es.NewID(), es.NewID()
			b.advanced("p", es.Progress{}, one)
			b.stands("p", one)
			b.passedBy(advance("p", two, at(1, 1, 6), put("m", "a", "1")), one)
			b.reads("m", "a", "")
			next := one
			next.Position = 6
			b.passedBy(advance("p", at(1, 1, 5), next), one) // nor is none at all the same
			b.advanced("p", one, next)
			b.stands("p", next)
		}),
		modelLine("J2/a_checkpoint_can_go_back", func(b *modelBench) {
			b.advanced("p", es.Progress{}, at(1, 1, 500))
			b.advanced("p", at(1, 1, 500), at(2, 1, 0)) // a rebuild in place
			b.stands("p", at(2, 1, 0))
			b.advanced("p", at(2, 1, 0), at(2, 1, 1<<50))
			b.stands("p", at(2, 1, 1<<50))
		}),
		modelLine("J2/a_paused_owner_finds_a_rebuild_that_passed_it", func(b *modelBench) {
			b.advanced("p", es.Progress{}, at(1, 1, 500), put("m", "a", "old"))
			paused := advance("p", at(1, 1, 500), at(1, 1, 501), put("m", "a", "stale"))
			b.advanced("p", at(1, 1, 500), at(2, 2, 0), deleting("m", "a"))
			b.advanced("p", at(2, 2, 0), at(2, 2, 500), put("m", "a", "rebuilt"))
			b.passedBy(paused, at(2, 2, 500))
			b.reads("m", "a", "rebuilt")
			b.stands("p", at(2, 2, 500))
		}),
	}
}

func modelFenceLines() []Line[Harness[es.ReadModels]] {
	lost := map[string]func(b *fenceBench) es.Lease{
		"released": func(b *fenceBench) es.Lease {
			l := b.acquire("A")
			b.ok(b.leases.Release(b.ctx, l), "release")
			return l
		},
		"released_and_taken_by_its_owner": func(b *fenceBench) es.Lease {
			l := b.acquire("A")
			b.ok(b.leases.Release(b.ctx, l), "release")
			b.acquire("A")
			return l
		},
		"another_owners": func(b *fenceBench) es.Lease {
			l := b.acquire("A")
			b.ok(b.leases.Release(b.ctx, l), "release")
			b.acquire("B")
			return l
		},
		"over": func(b *fenceBench) es.Lease {
			l, err := b.leases.Acquire(b.ctx, "fence", "A", shortLease)
			b.ok(err, "acquire")
			b.passed(l.Until)
			return l
		},
		"unknown": func(b *fenceBench) es.Lease {
			l := b.acquire("A")
			l.Name = "other"
			return l
		},
	}
	lines := []Line[Harness[es.ReadModels]]{
		modelLine("J2/a_fence_that_is_held_lets_pass", func(b *modelBench) {
			f := newFenceBench(b)
			l := f.acquire("A")
			f.fenced(l, advance("p", es.Progress{}, at(1, 1, 1), put("m", "a", "1")), nil)
			renewed, err := f.leases.Renew(b.ctx, l, 2*longLease)
			b.ok(err, "renew")
			f.fenced(l, advance("p", at(1, 1, 1), at(1, 1, 2), put("m", "a", "2")), nil)
			f.fenced(renewed, es.Commit{Writes: []es.Write{put("m", "a", "3")}}, nil)
			b.reads("m", "a", "3")
			b.stands("p", at(1, 1, 2))
		}),
		modelLine("J2/a_fence_that_nobody_holds_stops", modelUnfenced),
	}
	for _, how := range []string{"released", "released_and_taken_by_its_owner", "another_owners", "over", "unknown"} {
		lines = append(lines, modelLine("J2/a_fence_that_is_"+how+"_stops", func(b *modelBench) {
			f := newFenceBench(b)
			b.advanced("p", es.Progress{}, at(1, 1, 1), put("m", "a", "1"), put("m", "b", "1"))
			l := lost[how](f)
			f.fenced(l, advance("p", at(1, 1, 1), at(1, 1, 2), put("m", "a", "2"), deleting("m", "b"), put("n", "c", "2")), es.ErrLeaseLost)
			b.untouched()
			f.fenced(l, es.Commit{Writes: []es.Write{put("m", "c", "2")}}, es.ErrLeaseLost)
			b.untouched()
		}))
	}
	return lines
}

// modelUnfenced commits behind a lease that nobody ever took. That asks for no leases beside the read models: where there are
// none to check it by, the commit is to be turned down as well, and not to go on as if there were no fence.
func modelUnfenced(b *modelBench) {
	b.advanced("p", es.Progress{}, at(1, 1, 1), put("m", "a", "1"), put("m", "b", "1"))
	fence := &es.Lease{Name: "fence", Owner: "A", Token: 1, Until: time.Now().Add(longLease)}
	for _, c := range []es.Commit{
		advance("p", at(1, 1, 1), at(1, 1, 2), put("m", "a", "2"), deleting("m", "b"), put("n", "c", "2")),
		advance("p", at(1, 1, 1), at(1, 1, 2)),
		{Writes: []es.Write{put("m", "c", "2")}},
	} {
		c.Fence = fence
		err := b.role.Commit(b.ctx, c)
		if !errors.Is(err, es.ErrLeaseLost) && !errors.Is(err, es.ErrUnsupported) {
			b.Fatalf("commit behind a fence that nobody holds: the error is %v, want ErrLeaseLost, or ErrUnsupported without leases", err)
		}
		b.untouched()
	}
}

// fenceBench is read models, and the leases beside them.
type fenceBench struct {
	*modelBench

	leases es.Leases
}

func newFenceBench(b *modelBench) *fenceBench {
	b.Helper()
	storage, ok := b.storage.(ReadModelsStorage)
	if !ok {
		b.Skip("needs a ReadModelsStorage")
	}
	b.ok(b.storage.Close(b, b.role), "close")
	models, leases := storage.OpenFenced(b, Namespace)
	b.role = models
	return &fenceBench{modelBench: b, leases: leases}
}

func (b *fenceBench) acquire(owner string) es.Lease {
	b.Helper()
	l, err := b.leases.Acquire(b.ctx, "fence", owner, longLease)
	b.ok(err, "acquire")
	return l
}

// fenced commits behind a fence, and ends the test unless the error is the wanted one.
func (b *fenceBench) fenced(l es.Lease, c es.Commit, want error) {
	b.Helper()
	c.Fence = &l
	b.is(b.role.Commit(b.ctx, c), want, "commit behind the fence %+v", l)
}
