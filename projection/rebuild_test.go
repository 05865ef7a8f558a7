package projection_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// times is a handler that adds an event so many times, to the document of its key and to that of all.
func (w *world) times(factor int) projection.Handler {
	return projection.On(func(ctx context.Context, b *projection.Batch, e Added, m *es.Message) error {
		w.called(m)
		for _, key := range []string{e.To, "all"} {
			err := w.totals.In(b).Update(ctx, key, func(total *Total) error {
				total.Events++
				total.Sum += factor * e.N
				return nil
			})
			if err != nil {
				return err
			}
		}
		if e.Bad {
			return errBad
		}
		return nil
	})
}

// appendMany appends events one by one, to several streams and documents.
func (w *world) appendMany(n int) {
	w.Helper()
	for i := range n {
		w.append("a-"+strconv.Itoa(i%7), Added{To: "k" + strconv.Itoa(i%5), N: 1})
	}
}

func (w *world) rebuild(p *projection.Projection, o projection.RebuildOptions) projection.RebuildReport {
	w.Helper()
	report, err := p.Rebuild(w.Context(), o)
	if err != nil || !report.Switched {
		w.Fatalf("rebuild: %+v, %v", report, err)
	}
	return report
}

// watch reads the documents until it is told to stop, and fails the test when they are not those of one moment, or of an earlier one than
// before.
func (w *world) watch(stop <-chan struct{}) (seen map[int]int) {
	seen = map[int]int{} // by factor
	keys := []string{"all", "k0", "k1", "k2", "k3", "k4"}
	last, lastFactor := 0, 1
	for {
		select {
		case <-stop:
			return seen
		default:
		}
		docs, err := w.backend.ReadModels().Load(w.Context(), "totals", keys...)
		if err != nil {
			w.Error(err)
			return seen
		}
		var all, sum Total
		for i, doc := range docs {
			var t Total
			if doc.Revision > 0 {
				if err := json.Unmarshal(doc.Data, &t); err != nil {
					w.Error(err)
				}
			}
			if i == 0 {
				all = t
				continue
			}
			sum.Events += t.Events
			sum.Sum += t.Sum
		}
		factor := 1
		if all.Events > 0 {
			factor = all.Sum / all.Events
		}
		seen[factor]++
		if all != sum || all.Events < last || factor == 1 && lastFactor > 1 { // once switched, the live one adds to what was built
			w.Errorf("all is %+v, the sum of the others %+v; before there were %d events, times %d", all, sum, last, lastFactor)
		}
		last, lastFactor = all.Events, factor
	}
}

func TestARebuildTakesThePlaceOfWhatIsReadInOneStep(t *testing.T) {
	t.Parallel()
	for _, leases := range []bool{false, true} {
		w := newWorld(t)
		if leases {
			w.config.Leases = w.backend.Leases()
		}
		w.config.BatchSize = 50
		w.appendMany(3000)
		live := w.start(w.times(1))
		w.await(live)

		stop := make(chan struct{})
		var others sync.WaitGroup
		var seen map[int]int
		others.Go(func() { seen = w.watch(stop) })
		others.Go(func() {
			for range 10_000 { // no more, so that a slow rebuild catches up as well
				select {
				case <-stop:
					return
				default:
					w.appendMany(1)
				}
			}
		})
		reports := 0
		report := w.rebuild(w.projection(w.times(10)), projection.RebuildOptions{
			ReportEvery: time.Millisecond, Report: func(projection.RebuildReport) { reports++ },
		})
		close(stop)
		others.Wait()
		if report.Events < 3000 || report.Position < 3000 || report.Head < report.Position || reports < 2 || report.Resumed {
			t.Errorf("%d reports, the last %+v", reports, report)
		}
		if seen[1] == 0 {
			t.Errorf("readers have seen %v", seen)
		}
		// The live one, of the old handlers, goes on from there with what they do; nothing is missing.
		w.await(live)
		item, err := es.NewModel[Total](w.backend.ReadModels(), "totals").Load(t.Context(), "all")
		w.ok(err)
		if int64(item.Value.Events) != w.last.Position || item.Value.Sum <= item.Value.Events {
			t.Errorf("of %d events: %+v", w.last.Position, item.Value)
		}
		if g := w.progress().Generation; g != 1 {
			t.Errorf("it is of generation %d", g)
		}
		w.gone()
	}
}

// gone fails the test unless nothing is left of a rebuild.
func (w *world) gone() {
	w.Helper()
	for _, model := range []string{"totals~rebuild", "totals.parked~rebuild", "totals~rebuilding"} {
		docs, err := w.backend.ReadModels().List(w.Context(), es.ListQuery{Model: model})
		w.ok(err)
		progress, err := w.backend.ReadModels().Progress(w.Context(), model)
		w.ok(err)
		if len(docs) > 0 || progress != (es.Progress{}) {
			w.Errorf("%s has %d documents and the progress %+v", model, len(docs), progress)
		}
	}
}

func TestARebuildThatWasBrokenOffIsGoneOnWith(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		again   projection.RebuildOptions
		resumed bool
	}{
		"the same":           {projection.RebuildOptions{Definition: "2"}, true},
		"anew":               {projection.RebuildOptions{Definition: "2", Anew: true}, false},
		"another definition": {projection.RebuildOptions{Definition: "3"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.config.BatchSize = 10
			w.appendMany(200)
			w.caughtUp(w.times(1))
			ctx, cancel := context.WithCancel(t.Context())
			broken, err := w.projection(w.times(10)).Rebuild(ctx, projection.RebuildOptions{
				Definition: "2", ReportEvery: time.Nanosecond, Report: func(r projection.RebuildReport) {
					if r.Events >= 100 {
						cancel()
					}
				},
			})
			w.is(err, context.Canceled)
			w.total("all", 200, 200)
			report := w.rebuild(w.projection(w.times(10)), c.again)
			if report.Resumed != c.resumed || c.resumed && report.Events+broken.Events != 200 || !c.resumed && report.Events != 200 {
				t.Errorf("at first %+v, then %+v", broken, report)
			}
			w.total("all", 200, 2000)
			w.gone()
			w.append("a-1", Added{To: "k0", N: 1})
			w.caughtUp(w.times(10))
			w.total("all", 201, 2010)
		})
	}
	t.Run("unless it is to be thrown away", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.appendMany(50)
		w.append("a-1", Added{To: "k0", Bad: true})
		_, err := w.projection(w.times(1)).Rebuild(t.Context(), projection.RebuildOptions{Discard: true})
		if failed, ok := errors.AsType[*projection.EventError](err); !ok || failed.Message.Position != 51 {
			t.Errorf("the error is %v", err)
		}
		w.gone()
	})
}

// TestARebuildThatDiesAtAnyCommitIsGoneOnWith has each commit, and the answer of each, fail once.
func TestARebuildThatDiesAtAnyCommitIsGoneOnWith(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		commits := 0
		for died := true; died; commits++ {
			inBubble(t, func(w *world) { died = w.diesAt(commits, after) })
		}
		if commits < 6 {
			t.Errorf("there are only %d commits", commits)
		}
	}
}

// diesAt rebuilds, and fails at a commit. It tells whether there was one, and fails the test unless it can be gone on with.
func (w *world) diesAt(failing int, after bool) bool {
	w.Helper()
	w.config.BatchSize = 10
	w.appendMany(35)
	w.caughtUp(w.times(1))
	commits := 0
	ctx, die := context.WithCancel(w.Context())
	defer die()
	fail := func(es.Commit) error {
		if commits++; commits-1 == failing {
			die()
			return errCut
		}
		return nil
	}
	w.models.set(func(m *models) {
		if after {
			m.after = fail
		} else {
			m.before = fail
		}
	})
	_, err := w.projection(w.times(10)).Rebuild(ctx, projection.RebuildOptions{})
	w.models.set(func(m *models) { m.before, m.after = nil, nil })
	if ctx.Err() == nil {
		w.ok(err)
		return false
	}
	w.append("a-1", Added{To: "k0", N: 1})
	w.caughtUp(w.times(1)) // it goes on although the rebuild has died at the worst moment
	if w.progress().Generation == 0 {
		w.total("all", 36, 36)
		w.rebuild(w.projection(w.times(10)), projection.RebuildOptions{})
	}
	item, err := es.NewModel[Total](w.backend.ReadModels(), "totals").Load(w.Context(), "all")
	w.ok(err)
	if item.Value.Events != 36 || item.Value.Sum < 351 {
		w.Errorf("died at commit %d: %+v", failing, item.Value)
	}
	return true
}

func TestDifferencesAreShownBeforeTheSwitch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.appendMany(50)
	w.caughtUp(projection.On(func(_ context.Context, b *projection.Batch, e Added, _ *es.Message) error {
		return w.totals.In(b).Put("old "+e.To, Total{Sum: 1})
	}))
	same := projection.On(func(_ context.Context, b *projection.Batch, e Added, _ *es.Message) error {
		key, value := "old "+e.To, Total{Sum: 1}
		switch e.To {
		case "k1":
			key = "new k1"
		case "k2":
			value.Sum = 2
		}
		return w.totals.In(b).Put(key, value)
	})
	refused := errors.New("not like that")
	var d projection.Differences
	_, err := w.projection(same).Rebuild(t.Context(), projection.RebuildOptions{Compare: func(_ context.Context, found projection.Differences) error {
		d = found
		return refused
	}})
	w.is(err, refused)
	if d.Same != 3 || d.Added != 1 || d.Removed != 1 || d.Changed != 1 || len(d.Examples) != 3 || d.None() {
		t.Errorf("the differences are %+v", d)
	}
	for _, e := range d.Examples {
		want := map[string][2]bool{"new k1": {false, true}, "old k1": {true, false}, "old k2": {true, true}}
		if got := [2]bool{e.Old != nil, e.New != nil}; e.Model != "totals" || got != want[e.Key] {
			t.Errorf("an example is %+v", e)
		}
	}
	w.total("old k2", 0, 1)
	w.rebuild(w.projection(same), projection.RebuildOptions{Compare: func(context.Context, projection.Differences) error { return nil }})
	w.total("old k2", 0, 2)
	var none projection.Differences
	w.rebuild(w.projection(same), projection.RebuildOptions{Compare: func(_ context.Context, found projection.Differences) error {
		none = found
		return nil
	}})
	if !none.None() || none.Same != 5 {
		t.Errorf("nothing has changed, and the differences are %+v", none)
	}
}

func TestARebuildParksByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.OnError = projection.Park
	w.append("a-1", Added{To: "x", N: 1}, Added{To: "x", N: 1, Bad: true}, Added{To: "x", N: 1})
	w.append("a-2", Added{To: "x", N: 1})
	w.caughtUp()
	w.total("x", 2, 2)
	good := projection.On(func(ctx context.Context, b *projection.Batch, e Added, _ *es.Message) error {
		return w.totals.In(b).Update(ctx, e.To, func(total *Total) error { total.Events++; return nil })
	})
	p := w.projection(good)
	w.rebuild(p, projection.RebuildOptions{})
	w.total("x", 4, 0)
	parked, err := p.Parked(t.Context())
	w.ok(err)
	if len(parked) != 0 {
		t.Errorf("parked are %+v", parked)
	}
	w.rebuild(w.projection(w.times(1)), projection.RebuildOptions{})
	parked, err = p.Parked(t.Context())
	w.ok(err)
	if len(parked) != 1 || parked[0].Version != 2 {
		t.Errorf("parked are %+v", parked)
	}
	w.gone()
}

func TestOnlyOneRebuildsAtATime(t *testing.T) {
	t.Parallel()
	for _, leases := range []bool{false, true} {
		w := newWorld(t)
		if leases {
			w.config.Leases = w.backend.Leases()
		}
		w.appendMany(10)
		w.config.Owner = "a"
		p := w.projection(w.times(1))
		w.config.Owner = "b"
		other := w.projection(w.times(1))
		report, err := p.Rebuild(t.Context(), projection.RebuildOptions{Compare: func(context.Context, projection.Differences) error {
			_, err := p.Rebuild(t.Context(), projection.RebuildOptions{})
			w.is(err, projection.ErrRebuilding)
			if leases {
				_, err := other.Rebuild(t.Context(), projection.RebuildOptions{})
				w.is(err, projection.ErrRebuilding)
				return nil
			}
			w.rebuild(other, projection.RebuildOptions{}) // nobody keeps it from it: who is first wins
			return nil
		}})
		if leases {
			w.ok(err)
		} else if !errors.Is(err, projection.ErrRebuilding) || report.Switched {
			t.Errorf("%+v, %v", report, err)
		}
		w.total("all", 10, 10)
	}
}

func TestRebuildOptionsThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, o := range []projection.RebuildOptions{{ReportEvery: -1}, {Examples: -1}} {
		_, err := w.projection().Rebuild(t.Context(), o)
		w.is(err, es.ErrInvalid)
	}
}
