package projection_test

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// Deposited is an event of an account.
type Deposited struct {
	Amount int `json:"amount"`
}

// Account is a document: what there is of an account.
type Account struct {
	Balance int `json:"balance"`
}

func Example() {
	ctx := context.Background()
	backend := memory.New()
	defer backend.Close()
	types := es.NewTypes()
	es.Register[Deposited](types, "Deposited")

	accounts := projection.NewDocuments[Account]("accounts")
	p, err := projection.New(
		projection.Config{Name: "accounts", Events: backend.Events(), Models: backend.ReadModels(), Types: types},
		projection.On(func(ctx context.Context, b *projection.Batch, e Deposited, m *es.Message) error {
			return accounts.In(b).Update(ctx, m.Stream, func(a *Account) error {
				a.Balance += e.Amount
				return nil
			})
		}),
	)
	check(err)
	check(p.Start(ctx))

	a, err := types.AppendTo("account-7", es.Any, Deposited{Amount: 40}, Deposited{Amount: 2})
	check(err)
	appended, err := backend.Events().Append(ctx, a)
	check(err)

	check(p.WaitFor(ctx, es.Checkpoint{Position: appended.Position}))
	account, err := es.NewModel[Account](backend.ReadModels(), "accounts").Load(ctx, "account-7")
	check(err)
	fmt.Println("the balance is", account.Value.Balance)
	check(p.Stop(ctx))
	// Output: the balance is 42
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
