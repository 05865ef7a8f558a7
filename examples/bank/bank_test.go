package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/store"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// TestABusyAccountHasASnapshot moves money often, and looks whether the account is not built from its first event each time.
func TestABusyAccountHasASnapshot(t *testing.T) {
	t.Parallel()
	servicetest.ForEachStore(t, func(t *testing.T, where string) {
		backend, err := store.Open(context.WithoutCancel(t.Context()), where, es.Config{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer backend.Close()
		types := newTypes()
		accounts, err := newAccounts(backend, types, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		deposits, err := es.NewCommandHandler(
			es.CommandConfig{Name: "deposit", Events: backend.Events()}, es.DecideAs(nil, deciding[Deposit](&bank{accounts})))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := accounts.Update(t.Context(), "ann", OpenAccount{Owner: "Ann"}.decide); err != nil {
			t.Fatal(err)
		}
		key := es.SnapshotKey{Stream: "account-ann", Name: category, Schema: 1}
		const most = 200
		for i := range most {
			command := es.NewMessage("account-ann", "deposit", []byte(`{"amount":1}`))
			if _, err := deposits.Do(t.Context(), command); err != nil {
				t.Fatal(err)
			}
			snapshot, err := backend.Snapshots().Load(t.Context(), key)
			switch {
			case err == nil:
				if want := fmt.Sprintf(`{"owner":"Ann","balance":%d,"status":"open"}`, snapshot.Version-1); string(snapshot.Data) != want {
					t.Errorf("the snapshot at version %d is %s, want %s", snapshot.Version, snapshot.Data, want)
				}
				return
			case !errors.Is(err, es.ErrNotFound):
				t.Fatalf("after %d deposits: %v", i, err)
			}
		}
		t.Errorf("there is no snapshot after %d events", most)
	})
}

func TestWhatTheReadModelsShow(t *testing.T) {
	t.Parallel()
	transfer := es.NewID()
	given := []estest.StreamEvents{
		estest.In("account-ann", AccountOpened{Owner: "Ann"}, MoneyDeposited{Amount: 100}),
		estest.In("account-bob", AccountOpened{Owner: "Bob"}),
		estest.In("account-ann", TransferSent{Transfer: transfer, To: "bob", Amount: 30}),
		estest.In("account-bob", TransferReceived{Transfer: transfer, From: "ann", Amount: 30}, MoneyWithdrawn{Amount: 30}, AccountClosed{}),
	}
	build := func(newProjection func(projection.Config) (*projection.Projection, error)) func(*memory.Backend, int) (estest.Engine, error) {
		return func(b *memory.Backend, batch int) (estest.Engine, error) {
			return newProjection(projection.Config{Events: b.Events(), Models: b.ReadModels(), Types: newTypes(), Category: category, BatchSize: batch})
		}
	}
	estest.Project(t, memory.New, build(newOverview)).Given(newTypes(), given...).Then(
		estest.Documents("accounts", map[string]accountView{
			"ann": {ID: "ann", Owner: "Ann", Balance: 70},
			"bob": {ID: "bob", Owner: "Bob", Closed: true},
		}),
		estest.Documents("books", map[string]books{booksKey: {Accounts: 1, Deposited: 100, Withdrawn: 30}}),
	)
	estest.Project(t, memory.New, build(newStatements)).Given(newTypes(), given...).Ignoring("Time").Then(
		estest.Documents("statements", map[string]entry{
			entryKey("ann", 1): {Version: 1, Event: "AccountOpened"},
			entryKey("ann", 2): {Version: 2, Event: "MoneyDeposited", Amount: 100},
			entryKey("ann", 3): {Version: 3, Event: "TransferSent", Amount: -30, With: "bob"},
			entryKey("bob", 1): {Version: 1, Event: "AccountOpened"},
			entryKey("bob", 2): {Version: 2, Event: "TransferReceived", Amount: 30, With: "ann"},
			entryKey("bob", 3): {Version: 3, Event: "MoneyWithdrawn", Amount: -30},
			entryKey("bob", 4): {Version: 4, Event: "AccountClosed"},
		}),
	)
}
