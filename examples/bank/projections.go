package main

import (
	"context"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// The read models: what is looked up. Each event has its effect on them once, whatever happens to the program.

// accountView is an account in the list of accounts.
type accountView struct {
	ID      string `json:"id"`
	Owner   string `json:"owner"`
	Balance int64  `json:"balance"`
	Closed  bool   `json:"closed,omitempty"`
}

// books are the accounts of the bank itself. What is in all accounts together is Deposited - Withdrawn - UnderWay, always.
type books struct {
	Accounts  int   `json:"accounts"`
	Deposited int64 `json:"deposited"`
	Withdrawn int64 `json:"withdrawn"`
	// UnderWay is what was sent and not received. A transfer is one append, but a batch may end between its two events, so that it can be
	// other than 0 for as long as the next batch takes.
	UnderWay int64 `json:"under_way"`
}

// booksKey is the key of the only document of the model "books".
const booksKey = "bank"

// newOverview returns the projection that keeps the list of accounts and the books, in one commit each time.
func newOverview(c projection.Config) (*projection.Projection, error) {
	c.Name, c.Writes = "overview", []string{"accounts", "books"}
	return projection.New(c,
		overview(func(e AccountOpened, a *accountView, b *books) { a.Owner = e.Owner; b.Accounts++ }),
		overview(func(e MoneyDeposited, a *accountView, b *books) { a.Balance += e.Amount; b.Deposited += e.Amount }),
		overview(func(e MoneyWithdrawn, a *accountView, b *books) { a.Balance -= e.Amount; b.Withdrawn += e.Amount }),
		overview(func(e TransferSent, a *accountView, b *books) { a.Balance -= e.Amount; b.UnderWay += e.Amount }),
		overview(func(e TransferReceived, a *accountView, b *books) { a.Balance += e.Amount; b.UnderWay -= e.Amount }),
		overview(func(_ AccountClosed, a *accountView, b *books) { a.Closed = true; b.Accounts-- }),
	)
}

// overview makes a handler of what an event changes in its account's view and in the books, one after the other.
func overview[E event](change func(e E, a *accountView, b *books)) projection.Handler {
	accounts, bank := projection.NewDocuments[accountView]("accounts"), projection.NewDocuments[books]("books")
	return projection.On(func(ctx context.Context, b *projection.Batch, e E, m *es.Message) error {
		id := accountOf(m.Stream)
		err := accounts.In(b).Update(ctx, id, func(a *accountView) error {
			a.ID = id
			change(e, a, &books{})
			return nil
		})
		if err != nil {
			return err
		}
		return bank.In(b).Update(ctx, booksKey, func(s *books) error {
			change(e, &accountView{}, s)
			return nil
		})
	})
}

// entry is a line of an account's statement.
type entry struct {
	Version int64     `json:"version"`
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	Amount  int64     `json:"amount,omitempty"` // below 0 when it went out
	With    string    `json:"with,omitempty"`   // the other account of a transfer
	// CorrelationID is that of the request that led to it.
	CorrelationID string `json:"correlation_id"`
}

// entryKey is the key of an entry, or of the first one when the version is 0: those of an account follow each other.
func entryKey(account string, version int64) string { return fmt.Sprintf("%s/%019d", account, version) }

// newStatements returns the projection that keeps the statements. Entries of different accounts have nothing to do with each other, so that
// they are handled beside each other.
func newStatements(c projection.Config) (*projection.Projection, error) {
	c.Name, c.Parallel = "statements", 4
	return projection.New(c,
		statement(func(AccountOpened) entry { return entry{} }),
		statement(func(e MoneyDeposited) entry { return entry{Amount: e.Amount} }),
		statement(func(e MoneyWithdrawn) entry { return entry{Amount: -e.Amount} }),
		statement(func(e TransferSent) entry { return entry{Amount: -e.Amount, With: e.To} }),
		statement(func(e TransferReceived) entry { return entry{Amount: e.Amount, With: e.From} }),
		statement(func(AccountClosed) entry { return entry{} }),
	)
}

// statement makes a handler of what an event is on the statement.
func statement[E event](line func(e E) entry) projection.Handler {
	statements := projection.NewDocuments[entry]("statements")
	return projection.On(func(_ context.Context, b *projection.Batch, e E, m *es.Message) error {
		l := line(e)
		l.Version, l.Time, l.Event, l.CorrelationID = m.Version, m.Time, m.Name, m.CorrelationID
		return statements.In(b).Put(entryKey(accountOf(m.Stream), m.Version), l)
	})
}
