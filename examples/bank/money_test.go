package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/store"
)

var (
	kills = flag.Int("kills", 20, "how often programs are killed with kill -9")
	seed  = flag.Uint64("seed", 0, "what the moments are drawn from; 0 takes another one each time")
)

// TestTransfersThatRace lets clients move money between few accounts, so that they are in each other's way: in one program, and in two that
// share a store.
func TestTransfersThatRace(t *testing.T) {
	t.Parallel()
	servicetest.ForEachStore(t, func(t *testing.T, where string) {
		b := &branch{T: t, where: where}
		b.audit(program.Kill(t, servicetest.Killing{Setups: b.programs(), Clients: clients, Client: b.client}))
	})
}

// TestTransfersAlthoughProgramsAreKilled does the same while the programs are killed with kill -9. Clients that get no answer send their request
// again, until they know what became of it.
func TestTransfersAlthoughProgramsAreKilled(t *testing.T) {
	t.Parallel()
	servicetest.ForEachDurableStore(t, func(t *testing.T, where string) {
		b := &branch{T: t, where: where}
		b.audit(program.Kill(t, servicetest.Killing{
			Setups: b.programs(), Kills: *kills, Seed: *seed, Clients: clients, Client: b.client,
		}))
	})
}

const (
	clients = 6   // and as many accounts
	least   = 30  // transfers of each client
	initial = 500 // cents in each account; some transfers are for more than there is
)

// branch is clients that move money, and what they know of it.
type branch struct {
	*testing.T

	where string

	mu       sync.Mutex
	balances map[string]int64 // by what was acknowledged
	moved    int
	refused  int
}

// programs are two that share a store, where it can be shared.
func (b *branch) programs() []servicetest.Setup {
	setup := servicetest.Setup{Args: []string{"-store", b.where, "-lease", "300ms"}}
	if b.where == "memory:" {
		return []servicetest.Setup{setup}
	}
	return []servicetest.Setup{setup, setup}
}

func name(client int) string { return fmt.Sprint("c", client) }

// client opens an account, and then moves money between any accounts.
func (b *branch) client(c *servicetest.Client) {
	b.open(c)
	for n := 0; n < least || c.More(); n++ {
		b.move(c, n)
	}
}

// open opens the client's own account, and puts money into it.
func (b *branch) open(c *servicetest.Client) {
	own := name(c.Number)
	b.settle(c, keyed(own+"/open", "/accounts/"+own, `{"owner":"Client"}`), nil)
	b.settle(c, keyed(own+"/first", "/accounts/"+own+"/deposits", fmt.Sprintf(`{"amount":%d}`, initial)), map[string]int64{own: initial})
}

// move is the client's n-th request to move money.
func (b *branch) move(c *servicetest.Client, n int) {
	from, to, amount := name(c.Random.IntN(clients)), name(c.Random.IntN(clients)), 1+c.Random.Int64N(200)
	path, body, moves := "/transfers", fmt.Sprintf(`{"to":%q,"amount":%d}`, to, amount), map[string]int64{from: -amount, to: amount}
	if to == from {
		body = fmt.Sprintf(`{"amount":%d}`, amount)
		path, moves = "/withdrawals", map[string]int64{from: -amount}
		if n%2 == 0 {
			path, moves = "/deposits", map[string]int64{from: amount}
		}
	}
	b.settle(c, keyed(fmt.Sprint(name(c.Number), "/", n), "/accounts/"+from+path, body), moves)
}

// settle sends a request until its outcome is known, and notes what it has moved.
func (b *branch) settle(c *servicetest.Client, r servicetest.Request, moves map[string]int64) {
	answer, err := c.Settle(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		b.Errorf("%s: %v", r.Path, err)
	case answer.Status == http.StatusCreated:
		if b.balances == nil {
			b.balances = map[string]int64{}
		}
		for account, amount := range moves {
			b.balances[account] += amount
		}
		b.moved++
	case answer.Status == http.StatusNotFound, answer.Status == http.StatusUnprocessableEntity &&
		(strings.Contains(answer.Body, string(errTooLow)) || strings.Contains(answer.Body, string(errNoPayee))):
		b.refused++
	default:
		b.Errorf("%s %s: %d %s", r.Path, r.Body, answer.Status, answer.Body)
	}
}

// audit looks at what the programs show and at what is stored: all of it is what was acknowledged, to the cent.
func (b *branch) audit(services []*servicetest.Service) {
	b.Helper()
	if b.Failed() {
		return
	}
	last := services[0].Ask(http.StatusCreated, keyed("last", "/accounts/last", `{"owner":"Last"}`))
	b.balances["last"] = 0
	sum := int64(0)
	for _, balance := range b.balances {
		sum += balance
	}
	for _, s := range services {
		var page accountPage
		s.Ask(http.StatusOK, servicetest.Get("/accounts").With(after(last)...)).Decode(b.T, &page)
		listed := map[string]int64{}
		for _, a := range page.Accounts {
			listed[a.ID] = a.Balance
		}
		if !maps.Equal(listed, b.balances) {
			b.Errorf("listed is %v, and acknowledged was %v", listed, b.balances)
		}
		var totals books
		s.Ask(http.StatusOK, servicetest.Get("/books").With(after(last)...)).Decode(b.T, &totals)
		if totals.Accounts != clients+1 || totals.UnderWay != 0 || totals.Deposited-totals.Withdrawn != sum {
			b.Errorf("the books are %+v, and in all accounts is %d", totals, sum)
		}
		for id, balance := range b.balances {
			b.auditAccount(s, last, id, balance)
		}
	}
	for _, s := range services {
		s.Stop()
	}
	if b.where != "memory:" {
		b.auditStore()
	}
	b.Logf("%d requests moved money, and %d were refused", b.moved, b.refused)
}

// auditAccount looks at an account as it is built of its events, and at its statement.
func (b *branch) auditAccount(s *servicetest.Service, last servicetest.Answer, id string, balance int64) {
	b.Helper()
	var now struct {
		Version int64   `json:"version"`
		Account account `json:"account"`
	}
	s.Ask(http.StatusOK, servicetest.Get("/accounts/"+id)).Decode(b.T, &now)
	entries, sum := int64(0), int64(0)
	for next := int64(0); ; {
		var page statementPage
		s.Ask(http.StatusOK, servicetest.Get(fmt.Sprintf("/accounts/%s/statement?after=%d", id, next)).With(after(last)...)).Decode(b.T, &page)
		for _, e := range page.Entries {
			entries++
			sum += e.Amount
			if e.Version != entries || sum < 0 {
				b.Errorf("entry %d of %s is %+v, with %d in the account", entries, id, e, sum)
			}
		}
		if next = page.Next; next == 0 {
			break
		}
	}
	if now.Account.Balance != balance || sum != balance || entries != now.Version {
		b.Errorf("%s is %+v with %d entries of %d in all; acknowledged was %d", id, now, entries, sum, balance)
	}
}

// auditStore looks at the events.
func (b *branch) auditStore() {
	b.Helper()
	ctx := context.WithoutCancel(b.Context())
	backend, err := store.Open(ctx, b.where, es.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	types := newTypes()
	accounts, halves := map[string]account{}, map[uuid.UUID][]any{}
	for m, err := range backend.Events().Read(ctx, es.Query{Category: category}) {
		if err != nil {
			b.Fatal(err)
		}
		e, err := es.Decode[event](types, m)
		if err != nil {
			b.Fatal(err)
		}
		id := accountOf(m.Stream)
		accounts[id] = evolve(accounts[id], e)
		if accounts[id].Balance < 0 {
			b.Errorf("%s at version %d is %+v", id, m.Version, accounts[id])
		}
		switch e := e.(type) {
		case TransferSent:
			halves[e.Transfer] = append(halves[e.Transfer], [3]any{id, e.To, e.Amount})
		case TransferReceived:
			halves[e.Transfer] = append(halves[e.Transfer], [3]any{e.From, id, e.Amount})
		}
	}
	for id, balance := range b.balances {
		if accounts[id].Balance != balance {
			b.Errorf("stored is %+v for %s, and acknowledged was %d", accounts[id], id, balance)
		}
	}
	for transfer, h := range halves {
		if len(h) != 2 || h[0] != h[1] {
			b.Errorf("the transfer %s is %v", transfer, h)
		}
	}
	if len(halves) == 0 || len(accounts) != len(b.balances) {
		b.Errorf("there are %d transfers, and the accounts %v", len(halves), slices.Sorted(maps.Keys(accounts)))
	}
}
