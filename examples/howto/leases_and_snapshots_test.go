package howto_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

const leaseTime = 30 * time.Second

func Example_leases() {
	run(leases)
	// Output:
	// worker-1 holds it with token 1
	// worker-2 has to wait: worker-1 holds it
	// worker-2 holds it with token 2
	// worker-1 has lost it
}

func leases(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()

	first, err := backend.Leases().Acquire(ctx, "nightly report", "worker-1", leaseTime)
	if err != nil {
		return err
	}
	fmt.Println(first.Owner, "holds it with token", first.Token)

	_, err = backend.Leases().Acquire(ctx, "nightly report", "worker-2", leaseTime)
	if held, ok := errors.AsType[*es.LeaseHeldError](err); ok {
		fmt.Println("worker-2 has to wait:", held.Owner, "holds it") // until held.Until at the latest
	}

	renewed, err := backend.Leases().Renew(ctx, first, leaseTime) // from now on; well before first.Until
	if err != nil {
		return err
	}

	if err := backend.Leases().Release(ctx, renewed); err != nil { // so that others need not wait for the end
		return err
	}
	second, err := backend.Leases().Acquire(ctx, "nightly report", "worker-2", leaseTime)
	if err != nil {
		return err
	}
	fmt.Println(second.Owner, "holds it with token", second.Token)

	if err := backend.Leases().Check(ctx, renewed); errors.Is(err, es.ErrLeaseLost) {
		fmt.Println("worker-1 has lost it")
	}
	return nil
}

func Example_snapshots() {
	run(snapshots)
	// Output:
	// balance 60 at version 3, from 3 events
	// balance 100 at version 4, from 1 events
}

type Account struct {
	Balance int `json:"balance"`
}

// apply puts the effect of an event into the state.
func (a *Account) apply(m *es.Message) error {
	var change struct {
		Amount int `json:"amount"`
	}
	if err := json.Unmarshal(m.Data, &change); err != nil {
		return err
	}
	a.Balance += change.Amount
	return nil
}

// loadAccount builds an account from its latest snapshot and the events after it.
func loadAccount(ctx context.Context, backend es.Backend, stream string) (account Account, version int64, read int, err error) {
	key := es.SnapshotKey{Stream: stream, Name: "Account", Schema: 1}
	snapshot, err := backend.Snapshots().Load(ctx, key)
	switch {
	case errors.Is(err, es.ErrNotFound):
	case err != nil:
		return Account{}, 0, 0, err
	case json.Unmarshal(snapshot.Data, &account) == nil:
		version = snapshot.Version
	default: // one that cannot be read costs time and nothing else
		account = Account{}
	}
	for m, err := range backend.Events().Read(ctx, es.Query{Stream: stream, After: version}) {
		if err != nil {
			return Account{}, 0, 0, err
		}
		if err := account.apply(m); err != nil {
			return Account{}, 0, 0, err
		}
		version = m.Version
		read++
	}
	return account, version, read, nil
}

// saveAccount keeps a snapshot of an account.
func saveAccount(ctx context.Context, backend es.Backend, stream string, account Account, version int64) error {
	data, err := json.Marshal(account)
	if err != nil {
		return err
	}
	return backend.Snapshots().Save(ctx, es.Snapshot{
		SnapshotKey: es.SnapshotKey{Stream: stream, Name: "Account", Schema: 1},
		Version:     version,
		Time:        time.Now(),
		ContentType: es.ContentTypeJSON,
		Data:        data,
	})
}

func snapshots(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	for _, amount := range []int{10, 20, 30} {
		if err := deposit(ctx, backend, "account-1", amount); err != nil {
			return err
		}
	}
	account, version, read, err := loadAccount(ctx, backend, "account-1")
	if err != nil {
		return err
	}
	fmt.Printf("balance %d at version %d, from %d events\n", account.Balance, version, read)
	if err := saveAccount(ctx, backend, "account-1", account, version); err != nil {
		return err
	}
	if err := deposit(ctx, backend, "account-1", 40); err != nil {
		return err
	}
	account, version, read, err = loadAccount(ctx, backend, "account-1")
	if err != nil {
		return err
	}
	fmt.Printf("balance %d at version %d, from %d events\n", account.Balance, version, read)
	return nil
}

func deposit(ctx context.Context, backend es.Backend, stream string, amount int) error {
	m := es.NewMessage(stream, "Deposited", fmt.Appendf(nil, `{"amount":%d}`, amount))
	_, err := backend.Events().Append(ctx, es.AppendTo(stream, es.Any, m))
	return err
}
