package projection_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// step is a handler that does the n-th thing at the n-th event.
func step(steps ...func(ctx context.Context, b *projection.Batch) error) projection.Handler {
	return projection.OnMessage("", func(ctx context.Context, b *projection.Batch, m *es.Message) error {
		return steps[m.Position-1](ctx, b)
	})
}

// play appends an event for each step, and has them handled.
func (w *world) play(steps ...func(ctx context.Context, b *projection.Batch) error) {
	w.Helper()
	for range steps {
		w.append("a-1", Added{})
	}
	w.caughtUp(step(steps...))
}

func TestADocumentIsSeenAsEventsBeforeHaveLeftIt(t *testing.T) {
	for _, size := range []int{1, 2, 100} {
		t.Run(fmt.Sprint("batches of ", size), func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.config.BatchSize = size
				sees := func(ctx context.Context, b *projection.Batch, want Total, there bool) error {
					got, found, err := w.totals.In(b).Get(ctx, "x")
					if err == nil && (got != want || found != there) {
						err = fmt.Errorf("it is %+v (%v), want %+v (%v)", got, found, want, there)
					}
					return err
				}
				w.play(
					func(ctx context.Context, b *projection.Batch) error { return sees(ctx, b, Total{}, false) },
					func(_ context.Context, b *projection.Batch) error { return w.totals.In(b).Put("x", Total{Sum: 1}) },
					func(ctx context.Context, b *projection.Batch) error { return sees(ctx, b, Total{Sum: 1}, true) },
					func(ctx context.Context, b *projection.Batch) error {
						return w.totals.In(b).Update(ctx, "x", func(t *Total) error { t.Events = 5; return nil })
					},
					func(ctx context.Context, b *projection.Batch) error {
						return sees(ctx, b, Total{Events: 5, Sum: 1}, true)
					},
					func(ctx context.Context, b *projection.Batch) error {
						err := w.totals.In(b).Update(ctx, "x", func(t *Total) error { t.Events = 6; return errBad })
						w.is(err, errBad)
						return sees(ctx, b, Total{Events: 5, Sum: 1}, true)
					},
					func(_ context.Context, b *projection.Batch) error { return w.totals.In(b).Delete("x") },
					func(ctx context.Context, b *projection.Batch) error { return sees(ctx, b, Total{}, false) },
					func(ctx context.Context, b *projection.Batch) error {
						return w.totals.In(b).Update(ctx, "x", func(t *Total) error { t.Sum += 7; return nil })
					},
					func(ctx context.Context, b *projection.Batch) error { return sees(ctx, b, Total{Sum: 7}, true) },
				)
				w.total("x", 0, 7)
			})
		})
	}
}

func TestADocumentThatCameAndWentIsNotWritten(t *testing.T) {
	inBubble(t, func(w *world) {
		w.play(
			func(ctx context.Context, b *projection.Batch) error {
				return w.totals.In(b).Update(ctx, "x", func(*Total) error { return nil })
			},
			func(_ context.Context, b *projection.Batch) error { return w.totals.In(b).Delete("x") },
		)
		if n := len(w.models.committed()); n != 0 {
			w.Errorf("%d commits have writes", n)
		}
	})
}

func TestADocumentThatStaysAsItWasIsNotWritten(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.BatchSize = 1
		same := func(ctx context.Context, b *projection.Batch) error {
			return w.totals.In(b).Update(ctx, "x", func(t *Total) error { t.Sum = 3; return nil })
		}
		w.play(same, same, same)
		if n := len(w.models.committed()); n != 1 {
			w.Errorf("%d commits have writes", n)
		}
		w.total("x", 0, 3)
	})
}

func TestWhatFailsLeavesNothingInDocumentsThatShareWhatTheyHave(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Skip
		w.config.Writes = []string{"ledgers"}
		ledgers := projection.NewDocuments[Ledger]("ledgers")
		line := func(n int) func(l *Ledger) error {
			return func(l *Ledger) error {
				if l.Per == nil {
					l.Per = map[string]int{}
				}
				l.Lines = append(l.Lines, strconv.Itoa(n))
				l.Per["sum"] += n
				return nil
			}
		}
		w.append("a-1", Added{N: 1}, Added{N: 2, Bad: true}, Added{N: 4}, Added{N: 8, Bad: true}, Added{N: 16})
		w.caughtUp(projection.On(func(ctx context.Context, b *projection.Batch, e Added, _ *es.Message) error {
			shown, _, err := ledgers.In(b).Get(ctx, "x")
			if err != nil {
				return err
			}
			if e.Bad && len(shown.Lines) > 1 {
				shown.Per["sum"] = 1000 // what must not be done, by an event that fails
				return errBad
			}
			if err := ledgers.In(b).Update(ctx, "x", line(e.N)); err != nil || !e.Bad {
				return err
			}
			return errBad
		}))
		item, err := es.NewModel[Ledger](w.backend.ReadModels(), "ledgers").Load(w.Context(), "x")
		w.ok(err)
		w.same("lines", item.Value.Lines, []string{"1", "4", "16"})
		if item.Value.Per["sum"] != 21 {
			w.Errorf("it is %+v", item.Value)
		}
	})
}

func TestWhatAnEventThatFailsWasShownIsAsItWas(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Skip
		w.config.Writes = []string{"ledgers"}
		w.config.BatchSize = 1
		ledgers := projection.NewDocuments[Ledger]("ledgers")
		w.append("a-1", Added{N: 1}, Added{N: 2, Bad: true}, Added{N: 3, Bad: true}, Added{N: 4})
		w.caughtUp(projection.On(func(ctx context.Context, b *projection.Batch, e Added, _ *es.Message) error {
			if !e.Bad {
				return ledgers.In(b).Update(ctx, "x", func(l *Ledger) error {
					if l.Per == nil {
						l.Per = map[string]int{}
					}
					l.Per[strconv.Itoa(e.N)] = e.N
					return nil
				})
			}
			shown, _, err := ledgers.In(b).Get(ctx, "x")
			if e.N == 3 {
				var items []es.Item[Ledger]
				if items, err = ledgers.In(b).List(ctx, "", "", 0); err == nil {
					shown = items[0].Value
				}
			}
			if err != nil {
				return err
			}
			shown.Per["meddled"] = 1000
			return errBad
		}))
		item, err := es.NewModel[Ledger](w.backend.ReadModels(), "ledgers").Load(w.Context(), "x")
		w.ok(err)
		if len(item.Value.Per) != 2 {
			w.Errorf("it is %+v", item.Value)
		}
	})
}

func TestAnUpdateThatFailsIsTakenBackWhateverTheHandlerMakesOfIt(t *testing.T) {
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Skip
		w.config.Writes = []string{"ledgers", "totals"}
		ledgers := projection.NewDocuments[Ledger]("ledgers")
		w.append("a-1", Added{To: "ledger", N: 1}, Added{To: "ledger", N: 2, Bad: true}, Added{To: "ledger", N: 4})
		w.append("a-1", Added{To: "panic", N: 8, Bad: true}, Added{To: "total", N: 16}, Added{To: "total", N: 32, Bad: true}, Added{To: "total", N: 64})
		p := w.start(projection.On(func(ctx context.Context, b *projection.Batch, e Added, _ *es.Message) error {
			defer func() { _ = recover() }()
			if e.To == "ledger" {
				_ = ledgers.In(b).Update(ctx, e.To, func(l *Ledger) error {
					l.Lines = append(l.Lines, strconv.Itoa(e.N))
					if e.Bad {
						return errBad
					}
					return nil
				})
				return nil
			}
			_ = w.totals.In(b).Update(ctx, e.To, func(t *Total) error {
				t.Events, t.Sum = t.Events+1, t.Sum+e.N
				switch {
				case e.To == "panic":
					panic("ouch")
				case e.Bad:
					return errBad
				}
				return nil
			})
			return nil
		}))
		w.await(p)
		item, err := es.NewModel[Ledger](w.backend.ReadModels(), "ledgers").Load(w.Context(), "ledger")
		w.ok(err)
		w.same("lines", item.Value.Lines, []string{"1", "4"})
		w.total("panic", 0, 0)
		w.total("total", 2, 80)
		if s := w.status(p); s.Skipped != 2 || s.Handled != 5 {
			w.Errorf("status %+v", s)
		}
	})
}

func TestListSeesWhatTheBatchHasChanged(t *testing.T) {
	inBubble(t, func(w *world) {
		page := func(b *projection.Batch, prefix, after string, limit int) string {
			items, err := w.totals.In(b).List(w.Context(), prefix, after, limit)
			w.ok(err)
			var keys []string
			for _, item := range items {
				keys = append(keys, fmt.Sprintf("%s=%d", item.Key, item.Value.Sum))
			}
			return strings.Join(keys, " ")
		}
		put := func(key string, sum int) func(context.Context, *projection.Batch) error {
			return func(_ context.Context, b *projection.Batch) error { return w.totals.In(b).Put(key, Total{Sum: sum}) }
		}
		w.play(put("a", 1), put("b", 2), put("c", 3), put("e", 5))
		steps := []func(context.Context, *projection.Batch) error{
			nil, nil, nil, nil,
			put("d", 4), put("a", 10), put("f", 6), put("aa", 11),
			func(_ context.Context, b *projection.Batch) error { return w.totals.In(b).Delete("c") },
			func(_ context.Context, b *projection.Batch) error {
				for _, c := range []struct {
					prefix, after string
					limit         int
					want          string
				}{
					{"", "", 0, "a=10 aa=11 b=2 d=4 e=5 f=6"},
					{"", "", 1, "a=10"},
					{"", "", 2, "a=10 aa=11"},
					{"", "b", 2, "d=4 e=5"},
					{"", "b", 1, "d=4"},
					{"", "d", 0, "e=5 f=6"},
					{"a", "", 0, "a=10 aa=11"},
					{"a", "a", 5, "aa=11"},
					{"c", "", 5, ""},
					{"", "f", 5, ""},
				} {
					if got := page(b, c.prefix, c.after, c.limit); got != c.want {
						w.Errorf("page %+v is %q", c, got)
					}
				}
				_, err := w.totals.In(b).List(w.Context(), "", "", -1)
				w.is(err, es.ErrInvalid)
				return nil
			},
		}
		for range steps[4:] {
			w.append("a-1", Added{})
		}
		w.caughtUp(step(steps...))
	})
}

func TestListIsWhatAMapWouldGive(t *testing.T) {
	inBubble(t, func(w *world) {
		random := rand.New(rand.NewPCG(3, 4))
		want := map[string]int{}
		w.config.BatchSize = 11
		w.config.CacheSize = 5
		for range 400 {
			w.append("a-1", Added{})
		}
		w.caughtUp(projection.OnMessage("", func(ctx context.Context, b *projection.Batch, m *es.Message) error {
			key := fmt.Sprintf("%03d", random.IntN(60))
			switch random.IntN(4) {
			case 0:
				delete(want, key)
				return w.totals.In(b).Delete(key)
			case 1:
				after, limit := fmt.Sprintf("%03d", random.IntN(60)), 1+random.IntN(20)
				var keys []string
				for k, sum := range want {
					if k > after {
						keys = append(keys, fmt.Sprintf("%s=%d", k, sum))
					}
				}
				slices.Sort(keys)
				items, err := w.totals.In(b).List(ctx, "", after, limit)
				var got []string
				for _, item := range items {
					got = append(got, fmt.Sprintf("%s=%d", item.Key, item.Value.Sum))
				}
				w.same("page", got, keys[:min(len(keys), limit)])
				return err
			default:
				want[key] = int(m.Position)
				return w.totals.In(b).Put(key, Total{Sum: int(m.Position)})
			}
		}))
	})
}

func TestAMistakeWithDocumentsFailsTheEvent(t *testing.T) {
	type other struct{ X int }
	type odd struct{ F func() }
	mistakes := map[string]func(ctx context.Context, b *projection.Batch) error{
		"a model that is not named": func(_ context.Context, b *projection.Batch) error {
			return projection.NewDocuments[Total]("foreign").In(b).Put("x", Total{})
		},
		"a model of two types": func(ctx context.Context, b *projection.Batch) error {
			_, _, err := projection.NewDocuments[Total]("totals").In(b).Get(ctx, "x")
			if err != nil {
				return err
			}
			_, _, err = projection.NewDocuments[other]("totals").In(b).Get(ctx, "x")
			return err
		},
		"a key that is too long": func(ctx context.Context, b *projection.Batch) error {
			_, _, err := projection.NewDocuments[Total]("totals").In(b).Get(ctx, strings.Repeat("x", es.MaxKeyBytes+1))
			return err
		},
		"a document within another": func(ctx context.Context, b *projection.Batch) error {
			totals := projection.NewDocuments[Total]("totals").In(b)
			return totals.Update(ctx, "x", func(*Total) error {
				_, _, err := totals.Get(ctx, "x")
				return err
			})
		},
		"a document that is none": func(ctx context.Context, b *projection.Batch) error {
			return projection.NewDocuments[Total]("totals").In(b).Update(ctx, "broken", func(*Total) error { return nil })
		},
		"a value that cannot be encoded": func(_ context.Context, b *projection.Batch) error {
			return projection.NewDocuments[odd]("totals").In(b).Put("x", odd{F: func() {}})
		},
	}
	for name, mistake := range mistakes {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.ok(w.backend.ReadModels().Commit(w.Context(), es.Commit{
					Writes: []es.Write{{Model: "totals", Key: "broken", Data: []byte("{")}},
				}))
				w.append("a-1", Added{To: "x", N: 1})
				p := w.start(projection.OnMessage("", func(ctx context.Context, b *projection.Batch, _ *es.Message) error {
					return mistake(ctx, b)
				}))
				if _, ok := errors.AsType[*projection.EventError](w.ended(p)); !ok {
					w.Errorf("it ended by %v", p.Err())
				}
			})
		})
	}
}

func TestATimeInADocumentIsCopied(t *testing.T) {
	type Stamp struct{ At time.Time }
	inBubble(t, func(w *world) {
		w.config.OnError = projection.Skip
		stamps := projection.NewDocuments[Stamp]("totals")
		w.append("a-1", Added{N: 1}, Added{N: 2, Bad: true}, Added{N: 3})
		w.caughtUp(projection.On(func(ctx context.Context, b *projection.Batch, e Added, m *es.Message) error {
			w.called(m)
			if _, _, err := stamps.In(b).Get(ctx, "x"); err != nil || e.Bad {
				return errors.Join(err, errBad)
			}
			return stamps.In(b).Put("x", Stamp{At: time.Now()})
		}))
		w.same("calls", w.made(), []string{"a-1/1", "a-1/2", "a-1/3"})
	})
}
