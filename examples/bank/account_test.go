package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

func TestWhatIsDecidedAboutAnAccount(t *testing.T) {
	t.Parallel()
	transfer := uuid.MustParse("8e03978e-40d5-43e8-bc93-6894a57f9324")
	toBob := Transfer{To: "bob", Amount: 30}
	send := func(a account) ([]event, error) { return toBob.send(transfer, a) }
	receive := func(a account) ([]event, error) { return toBob.receive(transfer, "ann", a) }

	opened, deposited := AccountOpened{Owner: "Ann"}, MoneyDeposited{Amount: 30}
	rich := []event{opened, deposited}
	gone := []event{opened, AccountClosed{}}
	for name, c := range map[string]struct {
		given []event
		when  func(account) ([]event, error)
		then  []event
		err   error
	}{
		"an account is opened":              {nil, OpenAccount{Owner: "Ann"}.decide, []event{opened}, nil},
		"an account is opened once":         {[]event{opened}, OpenAccount{Owner: "Bob"}.decide, nil, errTaken},
		"also when it is closed":            {gone, OpenAccount{Owner: "Bob"}.decide, nil, errTaken},
		"an owner has a name":               {nil, OpenAccount{}.decide, nil, es.ErrInvalid},
		"money is deposited":                {[]event{opened}, Deposit{Amount: 30}.decide, []event{deposited}, nil},
		"no less than a cent":               {[]event{opened}, Deposit{Amount: 0}.decide, nil, es.ErrInvalid},
		"no more than a million":            {[]event{opened}, Deposit{Amount: maxAmount + 1}.decide, nil, es.ErrInvalid},
		"nothing is deposited nowhere":      {nil, Deposit{Amount: 30}.decide, nil, es.ErrNotFound},
		"nothing in a closed account":       {gone, Deposit{Amount: 30}.decide, nil, errClosed},
		"money is withdrawn to the last":    {rich, Withdraw{Amount: 30}.decide, []event{MoneyWithdrawn{Amount: 30}}, nil},
		"and no further":                    {rich, Withdraw{Amount: 31}.decide, nil, errTooLow},
		"nor below nothing":                 {rich, Withdraw{Amount: -1}.decide, nil, es.ErrInvalid},
		"a transfer is sent":                {rich, send, []event{TransferSent{Transfer: transfer, To: "bob", Amount: 30}}, nil},
		"a transfer that is too large":      {[]event{opened}, send, nil, errTooLow},
		"a transfer is received":            {[]event{opened}, receive, []event{TransferReceived{Transfer: transfer, From: "ann", Amount: 30}}, nil},
		"no transfer to a closed account":   {gone, receive, nil, errNoPayee},
		"no transfer to nowhere":            {nil, receive, nil, errNoPayee},
		"an empty account is closed":        {[]event{opened}, CloseAccount{}.decide, []event{AccountClosed{}}, nil},
		"an account with money stays open":  {rich, CloseAccount{}.decide, nil, errNotEmpty},
		"an account is closed once":         {gone, CloseAccount{}.decide, nil, errClosed},
		"what is not there cannot be ended": {nil, CloseAccount{}.decide, nil, es.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			estest.Given(t, evolve).Through(newTypes()).After(c.given...).When(c.when).ThenEither(c.then, c.err)
		})
	}
}

func TestIDsOfAccounts(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "Ann_7-x", strings.Repeat("x", 64)} {
		if err := validID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if got := accountOf(category + "-" + id); got != id {
			t.Errorf("the account of the stream of %q is %q", id, got)
		}
	}
	for _, id := range []string{"", "a/b", "ä", "a b", "a\n", strings.Repeat("x", 65)} {
		if err := validID(id); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}
