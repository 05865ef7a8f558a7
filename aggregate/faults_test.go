package aggregate_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// entry is what the events of a ledger have in common. A *posted is one, and a posted, which is what is decoded, is not.
type entry interface{ entry() }

type posted struct{ Amount int }

func (*posted) entry() {}

func TestWhatNobodyCouldLoadIsNotAppended(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	types := es.NewTypes()
	es.Register[posted](types, "Posted")
	r, err := aggregate.New(aggregate.Config[int, entry]{
		Events: b.config.Events, Types: types, Category: "ledger", Evolve: func(s int, _ entry) int { return s + 1 },
	})
	if err != nil {
		t.Fatal(err)
	}
	post := func(int) ([]entry, error) { return []entry{&posted{1}}, nil }
	if _, err := r.Update(t.Context(), "7", post); err == nil {
		t.Error("an event that is no entry once it is decoded was taken")
	}
	if _, err := r.Propose(t.Context(), "7", post); err == nil {
		t.Error("an event that is no entry once it is decoded was proposed")
	}
	if _, err := r.Load(t.Context(), "7"); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("something was appended: %v", err)
	}
}

func TestNothingWasThereBeforeTheFirstTime(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	r := b.repository()
	b.update(r, "7", deposited{1})
	if got, err := r.LoadAsOf(t.Context(), "7", time.Time{}); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("at the zero time: %+v, %v", got, err)
	}
}

func TestAnAggregateHasAnID(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	r := b.repository()
	if _, err := r.Load(t.Context(), ""); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("load: %v", err)
	}
	add := func(account) ([]any, error) { return []any{deposited{1}}, nil }
	if _, err := r.Update(t.Context(), "", add); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("update: %v", err)
	}
	if _, ok := r.ID("account-"); ok {
		t.Error("a stream has an aggregate without an ID")
	}
	if _, err := r.UpdateIf(t.Context(), "7", es.Exactly(-1), add); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("a negative version: %v", err)
	}
}

func TestAStreamOfWhichAllIsHiddenGoesOn(t *testing.T) {
	t.Parallel()
	for _, cached := range []int{0, 4} {
		b := newBank(t)
		b.config.CacheSize = cached
		b.config.Snapshots, b.config.SnapshotEvery = b.backend.Snapshots(), 1
		r := b.repository()
		for range 3 {
			b.update(r, "7", deposited{10})
		}
		if err := b.backend.Events().Truncate(t.Context(), "account-7", 100); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Load(t.Context(), "7"); !errors.Is(err, es.ErrNotFound) {
			t.Errorf("truncated: %v", err)
		}
		done := b.update(r, "7", deposited{1})
		if done.Version != 4 || done.State.Balance != 1 {
			t.Errorf("it goes on as %+v", done)
		}
		if got, err := b.repository().Load(t.Context(), "7"); err != nil || got.Version != 4 || got.State.Balance != 1 {
			t.Errorf("it is loaded as %+v, %v", got, err)
		}
	}
}

func TestASnapshotThatIsGoodForNothingMakesRoom(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(*es.Snapshot){
		"cannot be decoded":    func(s *es.Snapshot) { s.Data = []byte("{") },
		"of another codec":     func(s *es.Snapshot) { s.ContentType = strings.Replace(s.ContentType, "json", "cbor", 1) },
		"beyond the stream":    func(s *es.Snapshot) { s.Version = 1000 },
		"of another stream":    func(s *es.Snapshot) { s.ContentType = "application/json; event=" + es.NewID().String() },
		"without a media type": func(s *es.Snapshot) { s.ContentType = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBank(t)
			snapshots := b.backend.Snapshots()
			b.config.Snapshots, b.config.SnapshotEvery = snapshots, 5
			r := b.repository()
			for range 10 {
				b.update(r, "7", deposited{1})
			}
			key := es.SnapshotKey{Stream: "account-7", Name: "account", Schema: 1}
			broken, err := snapshots.Load(t.Context(), key)
			if err != nil || broken.Version != 10 {
				t.Fatalf("%+v, %v", broken, err)
			}
			breaks(&broken)
			if err := snapshots.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			if err := snapshots.Save(t.Context(), broken); err != nil {
				t.Fatal(err)
			}
			b.want(r, "7", 10, 10)
			again, err := snapshots.Load(t.Context(), key)
			if err != nil || again.Version != 10 || reflect.DeepEqual(again, broken) {
				t.Errorf("the snapshot in its place is %+v, %v", again, err)
			}
		})
	}
}

// TestThePastLeavesTheSnapshot: one that is too new for the time that was asked for is not good for nothing.
func TestThePastLeavesTheSnapshot(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.config.Snapshots, b.config.SnapshotEvery = b.backend.Snapshots(), 2
	r := b.repository()
	b.update(r, "7", deposited{1})
	b.update(r, "7", deposited{1})
	if _, err := r.LoadAsOf(t.Context(), "7", time.Now().Add(-time.Hour)); !errors.Is(err, es.ErrNotFound) {
		t.Error(err)
	}
	if _, err := r.LoadAt(t.Context(), "7", 1); err != nil {
		t.Error(err)
	}
	if _, err := b.backend.Snapshots().Load(t.Context(), es.SnapshotKey{Stream: "account-7", Name: "account", Schema: 1}); err != nil {
		t.Error(err)
	}
}

// parametrized is JSON under a media type that has a parameter.
type parametrized struct{ es.JSON }

func (parametrized) ContentType() string { return `application/vnd.bank+json; charset=utf-8` }

func TestAMediaTypeMayHaveParameters(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.config.Snapshots, b.config.SnapshotEvery, b.config.SnapshotCodec = b.backend.Snapshots(), 5, parametrized{}
	counting := &countingStore{EventStore: b.config.Events}
	b.config.Events = counting
	r := b.repository()
	for range 10 {
		b.update(r, "7", deposited{1})
	}
	counting.read = 0
	b.want(r, "7", 10, 10)
	if counting.read != 1 {
		t.Errorf("%d events were read; the snapshot was not used", counting.read)
	}
}

// nameless is a codec whose media type is none.
type nameless struct{ es.JSON }

func (nameless) ContentType() string { return "" }

func TestASnapshotNeedsAMediaType(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.config.Snapshots, b.config.SnapshotCodec = b.backend.Snapshots(), nameless{}
	if _, err := aggregate.New(b.config); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), "media type") {
		t.Error(err)
	}
}

// purse has a field that JSON does not take.
type purse struct {
	Coins int
	total int
}

// drawer has a field that is lost when it is empty, and that Evolve needs.
type drawer struct {
	Coins map[string]int `json:",omitempty"`
}

// TestAStateThatIsNotKeptWholeIsNotKept: a state that JSON makes another one of would be wrong without an error anywhere.
func TestAStateThatIsNotKeptWholeIsNotKept(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	b := newBank(t)
	purses, err := aggregate.New(aggregate.Config[purse, any]{
		Events: b.config.Events, Types: accountTypes(), Category: "purse", Snapshots: b.backend.Snapshots(), SnapshotEvery: 2,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Evolve: func(p purse, e any) purse { p.Coins++; p.total += e.(deposited).Amount; return p }, //nolint:errcheck // nothing else is in it
	})
	if err != nil {
		t.Fatal(err)
	}
	drawers, err := aggregate.New(aggregate.Config[drawer, any]{
		Events: b.config.Events, Types: accountTypes(), Category: "drawer", Snapshots: b.backend.Snapshots(), SnapshotEvery: 1,
		Initial: func() drawer { return drawer{Coins: map[string]int{}} },
		Evolve: func(d drawer, e any) drawer {
			if n := e.(deposited).Amount; n > 0 { //nolint:errcheck // nothing else is in it
				d.Coins["coin"] += n
			}
			return d
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		done, err := purses.Update(t.Context(), "7", func(purse) ([]any, error) { return []any{deposited{10}}, nil })
		if err != nil || done.State.Coins != i+1 || done.State.total != 10*(i+1) {
			t.Errorf("update %d: %+v, %v", i, done.State, err)
		}
	}
	if !strings.Contains(log.String(), "does not come back as it was") {
		t.Errorf("the log says %q", log.String())
	}
	for i := range 4 {
		done, err := drawers.Update(t.Context(), "7", func(drawer) ([]any, error) { return []any{deposited{i}}, nil })
		if err != nil || done.State.Coins["coin"] != i*(i+1)/2 {
			t.Errorf("update %d: %+v, %v", i, done.State, err)
		}
	}
}

// hanging does not answer.
type hanging struct{ failingSnapshots }

func (hanging) Save(ctx context.Context, _ es.Snapshot) error { <-ctx.Done(); return ctx.Err() }

func TestASnapshotThatIsNotTakenDoesNotHoldUpForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := memory.New()
		defer func() { _ = backend.Close() }()
		r, err := aggregate.New(aggregate.Config[total, any]{
			Events: backend.Events(), Types: accountTypes(), Category: "account", Evolve: evolveTotal, Snapshots: hanging{}, SnapshotEvery: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		done, err := r.Update(t.Context(), "7", func(total) ([]any, error) { return []any{deposited{1}}, nil })
		if took := time.Since(began); err != nil || done.Version != 1 || took > 2*time.Second {
			t.Errorf("%+v, %v, after %v", done, err, took)
		}
	})
}

// TestACachedStateIsWholeWhateverBecomesOfADecision: Evolve changes states in place, and a decision that is overtaken and then refuses leaves
// the cache as it was.
func TestACachedStateIsWholeWhateverBecomesOfADecision(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.config.CacheSize = 1
	r, other := b.repository(), b.repository()
	b.update(r, "7", opened{"ada"})
	refused, decided := errors.New("refused"), 0
	_, err := r.Update(t.Context(), "7", func(account) ([]any, error) {
		if decided++; decided == 1 {
			b.update(other, "7", deposited{1})
			return []any{deposited{5}}, nil
		}
		return nil, refused
	})
	if !errors.Is(err, refused) || decided != 2 {
		t.Fatalf("%v, decided %d times", err, decided)
	}
	got, err := r.Load(t.Context(), "7")
	if err != nil || got.State.Counts["aggregate_test.deposited"] != 1 || got.State.Balance != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	unreadable := es.NewMessage("account-7", "Nobody knows it", []byte(`{}`))
	more := []*es.Message{b.encode("account-7", deposited{1}), unreadable}
	if _, err := b.backend.Events().Append(t.Context(), es.AppendTo("account-7", es.Any, more...)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.Load(t.Context(), "7"); !errors.Is(err, es.ErrUnknownType) {
			t.Errorf("an event that nobody knows: %v", err)
		}
	}
	es.Register[struct{}](b.config.Types, unreadable.Name)
	got, err = r.Load(t.Context(), "7")
	if err != nil || got.State.Balance != 2 || got.State.Counts["aggregate_test.deposited"] != 2 {
		t.Errorf("when it is known after all: %+v, %v", got, err)
	}
}

func (b *bank) encode(stream string, event any) *es.Message {
	b.Helper()
	m, err := b.config.Types.Encode(stream, event)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func TestOneStoredEventMayBeSeveral(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	es.Upcast(b.config.Types, "Twice", 1, func(m *es.Message) ([]*es.Message, error) {
		first, second := m.Clone(), m.Clone()
		first.Name, second.Name = "Deposited", "Deposited"
		return []*es.Message{first, second}, nil
	})
	es.Upcast(b.config.Types, "Gone", 1, es.DropEvent)
	r := b.repository()
	for _, name := range []string{"Twice", "Gone"} {
		m := es.NewMessage("account-7", name, []byte(`{"Amount":3}`))
		if _, err := b.backend.Events().Append(t.Context(), es.AppendTo("account-7", es.Any, m)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := r.Load(t.Context(), "7"); err != nil || got.State.Balance != 6 || got.Version != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if done := b.update(r, "7", deposited{1}); done.Version != 3 || done.State.Balance != 7 {
		t.Errorf("%+v", done)
	}
}
