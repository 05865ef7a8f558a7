package memory_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func commit(t testing.TB, models es.ReadModels, c es.Commit) {
	t.Helper()
	if err := models.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, models es.ReadModels, model, key string) es.Document {
	t.Helper()
	docs, err := models.Load(t.Context(), model, key)
	if err != nil {
		t.Fatal(err)
	}
	return docs[0]
}

func put(model, key, data string) es.Write {
	return es.Write{Model: model, Key: key, Data: []byte(data)}
}

func at(position int64) es.Progress {
	return es.Progress{Generation: 1, Epoch: 1, Checkpoint: es.Checkpoint{Position: position}}
}

func TestRevisionsAreNeverGivenTwice(t *testing.T) {
	t.Parallel()
	models := memory.New().ReadModels()
	seen := map[int64]string{}
	look := func(what string) {
		t.Helper()
		doc := load(t, models, "live", "k")
		if doc.Revision == 0 || seen[doc.Revision] != "" {
			t.Fatalf("%s: revision %d was given before, by: %s", what, doc.Revision, seen[doc.Revision])
		}
		seen[doc.Revision] = what
	}
	commit(t, models, es.Commit{Writes: []es.Write{put("live", "k", "1")}})
	look("put")
	commit(t, models, es.Commit{Writes: []es.Write{put("live", "k", "1")}})
	look("put of the same data")
	commit(t, models, es.Commit{Writes: []es.Write{{Model: "live", Key: "k", Delete: true}}})
	commit(t, models, es.Commit{Writes: []es.Write{put("live", "k", "1")}})
	look("put after delete")
	if err := models.Drop(t.Context(), "live"); err != nil {
		t.Fatal(err)
	}
	commit(t, models, es.Commit{Writes: []es.Write{put("live", "k", "1"), put("aside", "k", "1")}})
	look("put after drop")
	if err := models.Switch(t.Context(), es.Replacement{Model: "live", With: "aside"}); err != nil {
		t.Fatal(err)
	}
	look("switch")
}

func TestSwitchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	ctx, models := t.Context(), memory.New().ReadModels()
	commit(t, models, es.Commit{
		Writes:   []es.Write{put("a", "old", "1"), put("a2", "new", "2")},
		Progress: es.ProgressUpdate{Projection: "a", To: at(7)},
	})
	commit(t, models, es.Commit{Progress: es.ProgressUpdate{Projection: "b2", To: at(9)}})
	both := []es.Replacement{{Model: "a", With: "a2"}, {Model: "b", With: "b2"}}

	err := models.Switch(ctx, append(both, es.Replacement{Model: "c", With: "c2"})...)
	if !errors.Is(err, es.ErrNotFound) {
		t.Fatalf("switched with a replacement that is not there: %v, want ErrNotFound", err)
	}
	for _, bad := range [][]es.Replacement{
		{{Model: "a", With: "a"}}, {both[0], both[0]}, {both[0], {Model: "a2", With: "b2"}}, {{Model: "", With: "a2"}},
	} {
		if err := models.Switch(ctx, bad...); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("switched %v: %v, want ErrInvalid", bad, err)
		}
	}
	if doc := load(t, models, "a", "old"); string(doc.Data) != "1" {
		t.Fatalf("a switch that failed left %+v", doc)
	}
	if err := models.Switch(ctx, both...); err != nil {
		t.Fatal(err)
	}
	if old, fresh := load(t, models, "a", "old"), load(t, models, "a", "new"); old.Revision != 0 || string(fresh.Data) != "2" {
		t.Errorf("after the switch: %+v and %+v, want the new document only", old, fresh)
	}
	for projection, want := range map[string]es.Progress{"a": {}, "a2": {}, "b": at(9), "b2": {}} {
		if got, err := models.Progress(ctx, projection); err != nil || got != want {
			t.Errorf("after the switch %s is at %+v, %v; want %+v", projection, got, err, want)
		}
	}
	if docs, err := models.List(ctx, es.ListQuery{Model: "a2"}); err != nil || len(docs) != 0 {
		t.Errorf("the name that was put in place still has %v, %v", docs, err)
	}
}

func TestCommitThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := memory.New()
		ctx, models, leases := t.Context(), backend.ReadModels(), backend.Leases()
		commit(t, models, es.Commit{
			Writes:   []es.Write{put("m", "k", "1")},
			Progress: es.ProgressUpdate{Projection: "m", To: at(1)},
		})
		lease, err := leases.Acquire(ctx, "m", "A", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		forged := lease
		forged.Token++
		move := es.ProgressUpdate{Projection: "m", From: at(1), To: at(2)}
		late := es.ProgressUpdate{Projection: "m", From: at(0), To: at(2)}
		writes := []es.Write{put("m", "other", "2"), put("m", "k", "2")}
		stale := []es.Write{writes[0], {Model: "m", Key: "k", Data: []byte("2"), Expect: es.NoStream}}
		for what, c := range map[string]struct {
			commit es.Commit
			want   error
		}{
			"a late checkpoint": {es.Commit{Writes: writes, Progress: late, Fence: &lease}, es.ErrConflict},
			"a stale revision":  {es.Commit{Writes: stale, Progress: move, Fence: &lease}, es.ErrConflict},
			"a forged fence":    {es.Commit{Writes: writes, Progress: move, Fence: &forged}, es.ErrLeaseLost},
			"an invalid write":  {es.Commit{Writes: append(writes, put("m", "", "")), Progress: move}, es.ErrInvalid},
		} {
			if err := models.Commit(ctx, c.commit); !errors.Is(err, c.want) {
				t.Errorf("commit with %s: %v, want %v", what, err, c.want)
			}
		}
		time.Sleep(time.Until(lease.Until))
		if err := models.Commit(ctx, es.Commit{Writes: writes, Progress: move, Fence: &lease}); !errors.Is(err, es.ErrLeaseLost) {
			t.Errorf("commit behind a fence that has ended: %v, want ErrLeaseLost", err)
		}
		docs, err := models.List(ctx, es.ListQuery{Model: "m"})
		if err != nil || len(docs) != 1 || string(docs[0].Data) != "1" {
			t.Errorf("the model is %v, %v; want it as it was", docs, err)
		}
		if p, err := models.Progress(ctx, "m"); err != nil || p != at(1) {
			t.Errorf("the checkpoint is %+v, %v; want it where it was", p, err)
		}
	})
}

func BenchmarkReadModels(b *testing.B) {
	const documents = 100_000
	ctx := b.Context()
	key := func(i int) string { return fmt.Sprintf("document-%09d", i) }
	data := make([]byte, 256)
	fill := func(models es.ReadModels) {
		for i := 0; i < documents; i += 100 {
			var c es.Commit
			for j := i; j < i+100; j++ {
				c.Writes = append(c.Writes, es.Write{Model: "m", Key: key(j), Data: data})
			}
			commit(b, models, c)
		}
	}
	b.Run("commit of a rising key", func(b *testing.B) {
		models := memory.New().ReadModels()
		b.ReportAllocs()
		for i := range b.N {
			commit(b, models, es.Commit{Writes: []es.Write{{Model: "m", Key: key(i), Data: data}}})
		}
	})
	b.Run("commit of any key", func(b *testing.B) {
		models := memory.New().ReadModels()
		b.ReportAllocs()
		for i := range b.N {
			commit(b, models, es.Commit{Writes: []es.Write{{Model: "m", Key: key(i * 7919 % 1_000_003), Data: data}}})
		}
	})
	b.Run("page of 10", func(b *testing.B) {
		models := memory.New().ReadModels()
		fill(models)
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			after := key(i * 7919 % (documents - 10))
			docs, err := models.List(ctx, es.ListQuery{Model: "m", Prefix: "document-", After: after, Limit: 10})
			if err != nil || len(docs) != 10 {
				b.Fatalf("%d documents, %v", len(docs), err)
			}
		}
	})
	b.Run("load of 10", func(b *testing.B) {
		models := memory.New().ReadModels()
		fill(models)
		keys := make([]string, 10)
		for i := range keys {
			keys[i] = key(i * 7919)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			if _, err := models.Load(ctx, "m", keys...); err != nil {
				b.Fatal(err)
			}
		}
	})
}
