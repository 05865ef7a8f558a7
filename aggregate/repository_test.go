package aggregate_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

type (
	opened    struct{ Owner string }
	deposited struct{ Amount int }
	withdrawn struct{ Amount int }
)

// account has a map and a slice, so that sharing shows.
type account struct {
	Balance int
	Log     []string
	Counts  map[string]int
}

func cloneAccount(a account) account {
	a.Log = slices.Clone(a.Log)
	a.Counts = maps.Clone(a.Counts)
	return a
}

func evolve(a account, e any) account {
	if a.Counts == nil {
		a.Counts = map[string]int{}
	}
	switch e := e.(type) {
	case opened:
		a.Log = append(a.Log, "opened by "+e.Owner)
	case deposited:
		a.Balance += e.Amount
		a.Log = append(a.Log, fmt.Sprint("+", e.Amount))
	case withdrawn:
		a.Balance -= e.Amount
		a.Log = append(a.Log, fmt.Sprint("-", e.Amount))
	}
	a.Counts[fmt.Sprintf("%T", e)]++
	return a
}

func accountTypes() *es.Types {
	types := es.NewTypes()
	es.Register[opened](types, "Opened")
	es.Register[deposited](types, "Deposited")
	es.Register[withdrawn](types, "Withdrawn")
	return types
}

// bank is a store with accounts.
type bank struct {
	*testing.T

	backend *memory.Backend
	config  aggregate.Config[account, any]
}

func newBank(t *testing.T) *bank {
	t.Helper()
	backend := memory.New()
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bank{T: t, backend: backend, config: aggregate.Config[account, any]{
		Events: backend.Events(), Types: accountTypes(), Category: "account", Evolve: evolve, Clone: cloneAccount,
	}}
}

func (b *bank) repository() *aggregate.Repository[account, any] {
	b.Helper()
	r, err := aggregate.New(b.config)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (b *bank) update(r *aggregate.Repository[account, any], id string, events ...any) aggregate.Updated[account] {
	b.Helper()
	done, err := r.Update(b.Context(), id, func(account) ([]any, error) { return events, nil })
	if err != nil {
		b.Fatal(err)
	}
	return done
}

func (b *bank) want(r *aggregate.Repository[account, any], id string, version int64, balance int) {
	b.Helper()
	got, err := r.Load(b.Context(), id)
	if err != nil || got.Version != version || got.State.Balance != balance || len(got.State.Log) != int(version) {
		b.Errorf("%s is %+v, %v; want version %d, balance %d", id, got, err, version, balance)
	}
}

func TestUpdateAppendsWhatWasDecided(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	r := b.repository()
	if _, err := r.Load(t.Context(), "7"); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("before the first event: %v", err)
	}
	ctx := es.WithOrigin(t.Context(), es.Origin{CorrelationID: "c-1"})
	done, err := r.Update(ctx, "7", func(a account) ([]any, error) {
		if a.Balance != 0 || a.Log != nil {
			t.Errorf("the first decision sees %+v", a)
		}
		return []any{opened{"ada"}, deposited{10}}, nil
	})
	if err != nil || done.Version != 2 || done.State.Balance != 10 || done.Checkpoint.Position != 2 || len(done.Appended.Places) != 2 {
		t.Errorf("%+v, %v", done, err)
	}
	for m, err := range b.backend.Events().Read(t.Context(), es.Query{Stream: "account-7"}) {
		if err != nil || m.CorrelationID != "c-1" {
			t.Errorf("%+v, %v", m, err)
		}
	}
	b.want(r, "7", 2, 10)
	done = b.update(r, "7")
	if done.Version != 2 || done.Checkpoint.Position != 0 || done.State.Balance != 10 {
		t.Errorf("nothing was decided: %+v", done)
	}
	refused := errors.New("refused")
	if _, err := r.Update(ctx, "7", func(account) ([]any, error) { return []any{deposited{1}}, refused }); !errors.Is(err, refused) {
		t.Errorf("a decision that is refused: %v", err)
	}
	conflict := fmt.Errorf("taken: %w", es.ErrConflict)
	decided := 0
	_, err = r.Update(ctx, "7", func(account) ([]any, error) { decided++; return nil, conflict })
	if err != conflict || decided != 1 { //nolint:errorlint // as it is
		t.Errorf("a decision with a conflict of its own: %v, decided %d times", err, decided)
	}
	b.want(r, "7", 2, 10)
}

func TestUpdateDecidesAgainWhenOthersWereFirst(t *testing.T) {
	t.Parallel()
	for _, cached := range []int{0, 8} {
		b := newBank(t)
		b.config.CacheSize = cached
		r, other := b.repository(), b.repository()
		b.update(r, "7", opened{"ada"}, deposited{10})
		decided := 0
		done, err := r.Update(t.Context(), "7", func(a account) ([]any, error) {
			if decided++; decided < 3 {
				b.update(other, "7", deposited{1})
			}
			a.Counts["changed by the decision"]++
			a.Log[0] = "changed by the decision"
			return []any{withdrawn{a.Balance}}, nil
		})
		if err != nil || decided != 3 || done.State.Balance != 0 || done.Version != 5 {
			t.Errorf("decided %d times: %+v, %v", decided, done, err)
		}
		b.want(r, "7", 5, 0)
		got, err := r.Load(t.Context(), "7")
		if err != nil || got.State.Log[0] != "opened by ada" || got.State.Counts["changed by the decision"] != 0 {
			t.Errorf("what a decision has changed is seen: %+v, %v", got.State, err)
		}
		b.config.Attempts = 2
		_, err = b.repository().Update(t.Context(), "7", func(account) ([]any, error) {
			b.update(other, "7", deposited{1})
			return []any{deposited{1}}, nil
		})
		if !errors.Is(err, es.ErrConflict) {
			t.Errorf("somebody was first each time: %v", err)
		}
	}
}

func TestProposeAppendsNothing(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.config.Snapshots, b.config.SnapshotEvery = b.backend.Snapshots(), 2
	r := b.repository()
	b.update(r, "7", deposited{10})
	b.update(r, "7", deposited{10})
	move := func(event any) func(account) ([]any, error) {
		return func(account) ([]any, error) { return []any{event}, nil }
	}
	from, err := r.Propose(t.Context(), "7", move(withdrawn{5}))
	if err != nil {
		t.Fatal(err)
	}
	to, err := r.Propose(t.Context(), "8", move(deposited{5}))
	if err != nil {
		t.Fatal(err)
	}
	b.want(r, "7", 2, 20)
	if none, err := r.Propose(t.Context(), "7", func(account) ([]any, error) { return nil, nil }); err != nil || len(none.Streams) > 0 {
		t.Errorf("nothing was decided: %+v, %v", none, err)
	}
	both := from.And(to)
	if _, err := b.backend.Events().Append(t.Context(), both); err != nil {
		t.Error(err)
	}
	b.want(r, "7", 3, 15)
	b.want(r, "8", 1, 5)
	again, err := r.Propose(t.Context(), "9", move(deposited{1}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.backend.Events().Append(t.Context(), from.And(again)); !errors.Is(err, es.ErrConflict) {
		t.Errorf("when one of the two is out of date: %v", err)
	}
	if _, err := r.Load(t.Context(), "9"); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("the other one: %v", err)
	}
	for stream, want := range map[string]string{"account-7": "7", "account-a-b": "a-b"} {
		if id, ok := r.ID(stream); id != want || !ok {
			t.Errorf("the ID of %s is %q, %t", stream, id, ok)
		}
	}
	for _, stream := range []string{"account", "other-7"} {
		if id, ok := r.ID(stream); ok {
			t.Errorf("the ID of %s is %q", stream, id)
		}
	}
}

func TestUpdateIfWantsWhatTheCallerHasSeen(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	r, other := b.repository(), b.repository()
	add := func(account) ([]any, error) { return []any{deposited{1}}, nil }
	if _, err := r.UpdateIf(t.Context(), "7", es.NoStream, add); err != nil {
		t.Error(err)
	}
	for _, expect := range []es.Expectation{es.NoStream, es.Exactly(2)} {
		_, err := r.UpdateIf(t.Context(), "7", expect, func(account) ([]any, error) { t.Error("it was asked"); return nil, nil })
		if conflict, ok := errors.AsType[*es.ConflictError](err); !ok || conflict.Actual != 1 {
			t.Errorf("%v: %v", expect, err)
		}
	}
	_, err := r.UpdateIf(t.Context(), "7", es.Exactly(1), func(account) ([]any, error) {
		b.update(other, "7", deposited{1})
		return []any{deposited{1}}, nil
	})
	if !errors.Is(err, es.ErrConflict) {
		t.Errorf("overtaken: %v", err)
	}
	b.want(r, "7", 2, 2)
}

// forgetful is a store that loses answers.
type forgetful struct {
	es.EventStore

	mu           sync.Mutex
	before, lost int // so many appends are lost on the way there, and so many answers on the way back
}

var errLost = errors.New("the connection was lost")

func (f *forgetful) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before > 0 {
		f.before--
		return es.Appended{}, errLost
	}
	done, err := f.EventStore.Append(ctx, a)
	if err == nil && f.lost > 0 {
		f.lost--
		return es.Appended{}, errLost
	}
	return done, err
}

func TestALostAnswerIsAskedForAgain(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	store := &forgetful{EventStore: b.config.Events}
	b.config.Events = store
	r := b.repository()
	for _, f := range []struct{ before, lost int }{{0, 1}, {1, 0}, {1, 1}} {
		store.before, store.lost = f.before, f.lost
		b.update(r, "7", deposited{1})
	}
	b.want(r, "7", 3, 3)
	store.before = 100
	if _, err := r.Update(t.Context(), "7", func(account) ([]any, error) { return []any{deposited{1}}, nil }); !errors.Is(err, errLost) {
		t.Errorf("when it stays lost: %v", err)
	}
}

func TestTheCacheStaysRight(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.config.CacheSize = 2
	r, other := b.repository(), b.repository()
	for i := range 5 {
		b.update(r, strconv.Itoa(i), opened{"ada"})
	}
	for i := range 5 {
		b.update(other, strconv.Itoa(i), deposited{i})
		b.want(r, strconv.Itoa(i), 2, i)
	}
	events := b.backend.Events()
	if err := events.Delete(t.Context(), "account-4", es.SoftDelete); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load(t.Context(), "4"); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	done := b.update(r, "4", deposited{3})
	if done.Version != 3 || done.State.Balance != 3 || len(done.State.Log) != 1 {
		t.Errorf("begun again: %+v", done)
	}
	if err := events.Delete(t.Context(), "account-3", es.Tombstone); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Update(t.Context(), "3", func(account) ([]any, error) { return []any{deposited{1}}, nil }); !errors.Is(err, es.ErrStreamDeleted) {
		t.Errorf("closed for good: %v", err)
	}
}

func TestSnapshotsSaveEventsAndChangeNothing(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.config.Snapshots, b.config.SnapshotEvery = b.backend.Snapshots(), 3
	counting := &countingStore{EventStore: b.config.Events}
	b.config.Events = counting
	r := b.repository()
	for range 10 {
		b.update(r, "7", deposited{1})
	}
	counting.read = 0
	b.want(r, "7", 10, 10)
	if counting.read > 3 {
		t.Errorf("%d events were read", counting.read)
	}
	key := es.SnapshotKey{Stream: "account-7", Name: "account", Schema: 1}
	snapshot, err := b.backend.Snapshots().Load(t.Context(), key)
	if err != nil || snapshot.Version != 9 || !strings.HasPrefix(snapshot.ContentType, "application/json") {
		t.Fatalf("%+v, %v", snapshot, err)
	}
	for name, breaks := range map[string]func(*es.Snapshot){
		"data":             func(s *es.Snapshot) { s.Data = []byte("{") },
		"media type":       func(s *es.Snapshot) { s.ContentType = "" },
		"of another event": func(s *es.Snapshot) { s.ContentType = strings.ReplaceAll(s.ContentType, "0", "1") },
		"from the future":  func(s *es.Snapshot) { s.Version = 100 },
	} {
		if err := b.backend.Snapshots().Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		broken := snapshot
		broken.Data = []byte(`{"Balance":77}`)
		breaks(&broken)
		if err := b.backend.Snapshots().Save(t.Context(), broken); err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		b.want(r, "7", 10, 10)
	}
	if err := r.Forget(t.Context(), "7"); err != nil {
		t.Error(err)
	}
	if _, err := b.backend.Snapshots().Load(t.Context(), key); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("when it was forgotten: %v", err)
	}
	b.want(r, "7", 10, 10)
	b.config.Snapshots = failingSnapshots{}
	b.update(b.repository(), "7", deposited{1})
	b.want(b.repository(), "7", 11, 11)
}

type countingStore struct {
	es.EventStore

	read int
}

func (c *countingStore) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	return func(yield func(*es.Message, error) bool) {
		for m, err := range c.EventStore.Read(ctx, q) {
			c.read++
			if !yield(m, err) {
				return
			}
		}
	}
}

type failingSnapshots struct{}

func (failingSnapshots) Load(context.Context, es.SnapshotKey) (es.Snapshot, error) {
	return es.Snapshot{}, errLost
}
func (failingSnapshots) Save(context.Context, es.Snapshot) error      { return errLost }
func (failingSnapshots) Delete(context.Context, es.SnapshotKey) error { return errLost }

func TestThePastCanBeLoaded(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.config.Snapshots, b.config.SnapshotEvery = b.backend.Snapshots(), 2
	r := b.repository()
	var times []time.Time
	for i := range 7 {
		b.update(r, "7", deposited{i})
		loaded, err := r.Load(t.Context(), "7")
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, loaded.Recorded)
	}
	balance := 0
	for i := range 7 {
		balance += i
		at, err := r.LoadAt(t.Context(), "7", int64(i+1))
		if err != nil || at.State.Balance != balance || at.Version != int64(i+1) {
			t.Errorf("at version %d: %+v, %v", i+1, at, err)
		}
		asOf, err := r.LoadAsOf(t.Context(), "7", times[i])
		if err != nil || asOf.Version < int64(i+1) || asOf.Recorded.After(times[i]) {
			t.Errorf("as of %v: %+v, %v", times[i], asOf, err)
		}
	}
	if _, err := r.LoadAt(t.Context(), "7", 8); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
	if _, err := r.LoadAt(t.Context(), "7", 0); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("version 0: %v", err)
	}
	if _, err := r.LoadAsOf(t.Context(), "7", times[0].Add(-time.Second)); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("before it began: %v", err)
	}
}

func TestManyUpdateAtOnce(t *testing.T) {
	t.Parallel()
	for _, cached := range []int{0, 4} {
		b := newBank(t)
		b.config.CacheSize, b.config.Attempts = cached, 1000
		b.config.Snapshots, b.config.SnapshotEvery = b.backend.Snapshots(), 7
		repositories := []*aggregate.Repository[account, any]{b.repository(), b.repository()}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for range 25 {
					if _, err := repositories[i%2].Update(t.Context(), "7", func(a account) ([]any, error) {
						return []any{deposited{1 + a.Balance - a.Balance}}, nil
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		b.want(repositories[0], "7", 200, 200)
	}
}

func TestConfigsThatCannotBe(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*aggregate.Config[account, any]){
		"no Events":       func(c *aggregate.Config[account, any]) { c.Events = nil },
		"no Types":        func(c *aggregate.Config[account, any]) { c.Types = nil },
		"no Evolve":       func(c *aggregate.Config[account, any]) { c.Evolve = nil },
		"Category":        func(c *aggregate.Config[account, any]) { c.Category = "a-b" },
		"category":        func(c *aggregate.Config[account, any]) { c.Category = "" },
		"Attempts":        func(c *aggregate.Config[account, any]) { c.Attempts = -1 },
		"SnapshotEvery":   func(c *aggregate.Config[account, any]) { c.SnapshotEvery = -1 },
		"CacheSize":       func(c *aggregate.Config[account, any]) { c.CacheSize = -1 },
		"give it a Clone": func(c *aggregate.Config[account, any]) { c.CacheSize, c.Clone = 1, nil },
		"unknown":         func(c *aggregate.Config[account, any]) { c.Unknown = 9 },
		"schema":          func(c *aggregate.Config[account, any]) { c.Snapshots, c.SnapshotSchema = failingSnapshots{}, -1 },
	} {
		b := newBank(t)
		change(&b.config)
		if _, err := aggregate.New(b.config); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to speak of %q", err, want)
		}
	}
}
