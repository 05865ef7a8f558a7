package estest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
)

func modelRaceLines() []Line[Harness[es.ReadModels]] {
	return []Line[Harness[es.ReadModels]]{
		modelLine("J2/two_copies_have_each_effect_once", modelTwoCopies),
		modelLine("J1/no_update_is_lost", modelNoLostUpdate),
		modelLine("J1/one_of_many_creates_it", modelOneCreates),
		modelLine("J2/readers_see_a_commit_whole", modelWholeCommits),
		modelLine("J2/commits_that_cross_all_end", modelCrossing),
	}
}

// each returns handles for so many workers: several where there are several.
func (b *modelBench) each(workers int) []es.ReadModels {
	b.Helper()
	handles := []es.ReadModels{b.role}
	for len(handles) < workers && b.h.Handles() {
		handles = append(handles, b.another())
	}
	for i := 0; len(handles) < workers; i++ {
		handles = append(handles, handles[i])
	}
	return handles
}

// number reads a document that holds a number, 0 when there is none.
func number(ctx context.Context, models es.ReadModels, model, key string) (n int, revision int64, err error) {
	docs, err := models.Load(ctx, model, key)
	if err != nil {
		return 0, 0, err
	}
	if docs[0].Revision > 0 {
		n, err = strconv.Atoi(string(docs[0].Data))
	}
	return n, docs[0].Revision, err
}

func numbered(model, key string, n int) es.Write {
	return es.Write{Model: model, Key: key, Data: []byte(strconv.Itoa(n))}
}

// modelTwoCopies has copies of a projection add up the same numbered events, without knowing of each other. Only the
// comparison of the checkpoint keeps them from counting one twice.
func modelTwoCopies(b *modelBench) {
	const copies, events = 3, 40
	handles := b.each(copies)
	var applied [1 + events]atomic.Int64 // how often the effect of each event was acknowledged
	b.atOnce(copies, func(i int) error {
		for models := handles[i]; ; {
			progress, err := models.Progress(b.ctx, "p")
			if err != nil || progress.Position == events {
				return err
			}
			sum, _, err := number(b.ctx, models, "m", "sum")
			if err != nil {
				return err
			}
			next := progress
			next.Position++
			err = models.Commit(b.ctx, advance("p", progress, next, numbered("m", "sum", sum+int(next.Position))))
			if err == nil {
				applied[next.Position].Add(1)
			} else if !errors.Is(err, es.ErrConflict) {
				return err
			}
		}
	})
	for event := 1; event <= events; event++ {
		if n := applied[event].Load(); n != 1 {
			b.Fatalf("event %d had its effect %d times", event, n)
		}
	}
	sum, _, err := number(b.ctx, b.role, "m", "sum")
	b.ok(err, "load")
	if want := events * (events + 1) / 2; sum != want {
		b.Fatalf("the sum of the events from 1 to %d is %d, want %d", events, sum, want)
	}
	b.stands("p", at(0, 0, events))
}

// modelNoLostUpdate has workers count in one document, each expecting the revision that it has read.
func modelNoLostUpdate(b *modelBench) {
	const workers, turns = 4, 15
	handles := b.each(workers)
	b.atOnce(workers, func(i int) error {
		for done := 0; done < turns; {
			n, revision, err := number(b.ctx, handles[i], "m", "n")
			if err != nil {
				return err
			}
			err = handles[i].Commit(b.ctx, es.Commit{Writes: []es.Write{expecting(numbered("m", "n", n+1), es.Exactly(revision))}})
			if err == nil {
				done++
			} else if !errors.Is(err, es.ErrConflict) {
				return err
			}
		}
		return nil
	})
	n, _, err := number(b.ctx, b.role, "m", "n")
	b.ok(err, "load")
	if n != workers*turns {
		b.Fatalf("%d updates were acknowledged, and the document counts %d", workers*turns, n)
	}
}

func modelOneCreates(b *modelBench) {
	const workers, rounds = 6, 10
	handles := b.each(workers)
	for round := range rounds {
		key := fmt.Sprint("k", round)
		won := make([]bool, workers)
		b.atOnce(workers, func(i int) error {
			err := handles[i].Commit(b.ctx, es.Commit{Writes: []es.Write{expecting(numbered("m", key, i), es.NoStream)}})
			won[i] = err == nil
			if errors.Is(err, es.ErrConflict) {
				return nil
			}
			return err
		})
		winners := 0
		for i, w := range won {
			if !w {
				continue
			}
			winners++
			if n, _, err := number(b.ctx, b.role, "m", key); err != nil || n != i {
				b.Fatalf("%d created the document, and it says %d (%v)", i, n, err)
			}
		}
		if winners != 1 {
			b.Fatalf("%d of %d created one document, want 1", winners, workers)
		}
	}
}

// modelWholeCommits reads two documents that are only ever written together: they are the same in every Load and List.
func modelWholeCommits(b *modelBench) {
	const readers, commits = 3, 60
	handles := b.each(readers + 1)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	b.commit(numbered("m", "a", 0), numbered("m", "z", 0))
	b.atOnce(readers+1, func(i int) error {
		if i == 0 {
			defer cancel()
			for n := range commits {
				if err := handles[0].Commit(b.ctx, es.Commit{Writes: []es.Write{numbered("m", "a", n), numbered("m", "z", n)}}); err != nil {
					return err
				}
			}
			return nil
		}
		for ctx.Err() == nil {
			loaded, err := handles[i].Load(b.ctx, "m", "a", "z")
			if err != nil {
				return err
			}
			listed, err := handles[i].List(b.ctx, es.ListQuery{Model: "m"})
			if err != nil {
				return err
			}
			for how, docs := range map[string][]es.Document{"Load": loaded, "List": listed} {
				if len(docs) != 2 || string(docs[0].Data) != string(docs[1].Data) {
					return fmt.Errorf("%s sees a part of a commit: %+v", how, docs)
				}
			}
		}
		return nil
	})
}

// modelCrossing has commits write the same documents in opposite orders: none of them fails, whatever locks it takes.
func modelCrossing(b *modelBench) {
	const workers, turns = 4, 20
	handles := b.each(workers)
	b.atOnce(workers, func(i int) error {
		for n := range turns {
			writes := []es.Write{numbered("m", "a", n), numbered("m", "b", n), numbered("m", "c", n)}
			if i%2 == 1 {
				writes[0], writes[2] = writes[2], writes[0]
			}
			if err := handles[i].Commit(b.ctx, es.Commit{Writes: writes}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, key := range []string{"a", "b", "c"} {
		if n, _, err := number(b.ctx, b.role, "m", key); err != nil || n != turns-1 {
			b.Fatalf("document %s says %d (%v), want %d", key, n, err, turns-1)
		}
	}
}
