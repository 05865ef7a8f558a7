package main

import (
	"regexp"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The domain: an account, what can happen to it, and what can be asked of it. Nothing here knows where events are kept or who asks.

// account is the state of an account: as much of what has happened to it as decisions need. It is also what a snapshot keeps.
type account struct {
	Owner   string `json:"owner"`
	Balance int64  `json:"balance"` // in cents
	Status  status `json:"status"`
}

type status string

const (
	open   status = "open"
	closed status = "closed"
)

// event is something that happened to an account. Each kind says what it makes of an account, so that none can be forgotten.
type event interface {
	apply(a account) account
}

// AccountOpened is the first event of every account.
type AccountOpened struct {
	Owner string `json:"owner"`
}

// MoneyDeposited came from outside of the bank.
type MoneyDeposited struct {
	Amount int64 `json:"amount"`
}

// MoneyWithdrawn went out of the bank.
type MoneyWithdrawn struct {
	Amount int64 `json:"amount"`
}

// TransferSent is one half of a transfer. The other one, with the same Transfer, is a [TransferReceived] in the account To. They are
// appended together: there is no history that has one without the other.
type TransferSent struct {
	Transfer uuid.UUID `json:"transfer"`
	To       string    `json:"to"`
	Amount   int64     `json:"amount"`
}

// TransferReceived is the other half of a [TransferSent] in the account From.
type TransferReceived struct {
	Transfer uuid.UUID `json:"transfer"`
	From     string    `json:"from"`
	Amount   int64     `json:"amount"`
}

// AccountClosed is the last event of an account.
type AccountClosed struct{}

func (e AccountOpened) apply(account) account { return account{Owner: e.Owner, Status: open} }

func (e MoneyDeposited) apply(a account) account {
	a.Balance += e.Amount
	return a
}

func (e MoneyWithdrawn) apply(a account) account {
	a.Balance -= e.Amount
	return a
}

func (e TransferSent) apply(a account) account {
	a.Balance -= e.Amount
	return a
}

func (e TransferReceived) apply(a account) account {
	a.Balance += e.Amount
	return a
}

func (AccountClosed) apply(a account) account {
	a.Status = closed
	return a
}

// evolve applies an event to an account.
func evolve(a account, e event) account { return e.apply(a) }

// newTypes returns the names of the events on the wire. They may never change, unlike the Go types.
func newTypes() *es.Types {
	types := es.NewTypes()
	es.Register[AccountOpened](types, "AccountOpened")
	es.Register[MoneyDeposited](types, "MoneyDeposited")
	es.Register[MoneyWithdrawn](types, "MoneyWithdrawn")
	es.Register[TransferSent](types, "TransferSent")
	es.Register[TransferReceived](types, "TransferReceived")
	es.Register[AccountClosed](types, "AccountClosed")
	return types
}

// refusal is why the bank does not do what it is asked for. The request is in order, and may be granted another time.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	errTaken    refusal = "the account is there already; choose another ID"
	errClosed   refusal = "the account is closed"
	errTooLow   refusal = "the balance is too low"
	errNotEmpty refusal = "there is money in the account; withdraw it or transfer it before you close it"
	errNoPayee  refusal = "there is no open account to transfer to under that ID"
)

// maxAmount is the most that is moved at a time: a million, in cents.
const maxAmount = 1_000_000_00

// OpenAccount asks for a new account.
type OpenAccount struct {
	Owner string `json:"owner"`
}

func (c OpenAccount) decide(a account) ([]event, error) {
	switch {
	case c.Owner == "":
		return nil, es.Invalidf("owner", "is empty; it takes a name")
	case a.Status != "":
		return nil, errTaken
	}
	return []event{AccountOpened(c)}, nil
}

// Deposit asks to put money into an account.
type Deposit struct {
	Amount int64 `json:"amount"`
}

func (c Deposit) decide(a account) ([]event, error) {
	if err := a.takes(c.Amount); err != nil {
		return nil, err
	}
	return []event{MoneyDeposited(c)}, nil
}

// Withdraw asks for money from an account.
type Withdraw struct {
	Amount int64 `json:"amount"`
}

func (c Withdraw) decide(a account) ([]event, error) {
	if err := a.gives(c.Amount); err != nil {
		return nil, err
	}
	return []event{MoneyWithdrawn(c)}, nil
}

// CloseAccount asks to close an account for good.
type CloseAccount struct{}

func (CloseAccount) decide(a account) ([]event, error) {
	switch {
	case a.Status == "":
		return nil, es.ErrNotFound
	case a.Status == closed:
		return nil, errClosed
	case a.Balance != 0:
		return nil, errNotEmpty
	}
	return []event{AccountClosed{}}, nil
}

// Transfer asks to move money from an account to another. It is decided about in two halves, one for each account.
type Transfer struct {
	To     string `json:"to"`
	Amount int64  `json:"amount"`
}

func (c Transfer) send(transfer uuid.UUID, a account) ([]event, error) {
	if err := a.gives(c.Amount); err != nil {
		return nil, err
	}
	return []event{TransferSent{Transfer: transfer, To: c.To, Amount: c.Amount}}, nil
}

func (c Transfer) receive(transfer uuid.UUID, from string, a account) ([]event, error) {
	if a.Status != open {
		return nil, errNoPayee
	}
	return []event{TransferReceived{Transfer: transfer, From: from, Amount: c.Amount}}, nil
}

// takes tells why money cannot be put into an account.
func (a account) takes(amount int64) error {
	switch {
	case amount < 1 || amount > maxAmount:
		return es.Invalidf("amount", "is %d; it takes 1 to %d cents", amount, maxAmount)
	case a.Status == "":
		return es.ErrNotFound
	case a.Status == closed:
		return errClosed
	}
	return nil
}

// gives tells why money cannot be taken out of an account.
func (a account) gives(amount int64) error {
	if err := a.takes(amount); err != nil {
		return err
	}
	if a.Balance < amount {
		return errTooLow
	}
	return nil
}

// accountIDs are those that fit into paths and keys as they are.
var accountIDs = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// validID tells what is wrong with the ID of an account.
func validID(id string) error {
	if !accountIDs.MatchString(id) {
		return es.Invalidf("account ID", "is %.70q; it takes 1 to 64 letters, digits, \"-\" and \"_\"", id)
	}
	return nil
}
