package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// api is the bank over HTTP.
type api struct {
	bank   *bank
	events es.EventStore
	models es.ReadModels
	// overview and statements wait for the projections of that name.
	overview, statements es.Waiter

	mux *http.ServeMux
	err error // the first of those that the endpoints were made with
}

// routes returns the handler of all requests.
func (a *api) routes() (http.Handler, error) {
	a.mux = http.NewServeMux()
	route(a, "POST /accounts/{id}", "bank.open", http.StatusCreated, deciding[OpenAccount](a.bank))
	route(a, "POST /accounts/{id}/deposits", "bank.deposit", http.StatusCreated, deciding[Deposit](a.bank))
	route(a, "POST /accounts/{id}/withdrawals", "bank.withdraw", http.StatusCreated, deciding[Withdraw](a.bank))
	route(a, "POST /accounts/{id}/transfers", "bank.transfer", http.StatusCreated, decider[Transfer](a.bank.transfer))
	route(a, "POST /accounts/{id}/close", "bank.close", http.StatusOK, deciding[CloseAccount](a.bank))
	a.queries()
	return eshttp.Correlation(eshttp.Problems(a.mux)), a.err
}

// route adds an endpoint for commands of a type. Each is carried out once: the client sends an Idempotency-Key, and who has no answer sends
// the same request again. With the ETag of an account as its If-Match nothing is done when the account has changed since.
func route[C any](a *api, pattern, name string, status int, decide decider[C]) {
	handler, err := es.NewCommandHandler(es.CommandConfig{
		Name: name, Events: a.events,
		Attempts: 10, // accounts that many use at once are decided about again more often than others
	}, es.DecideAs(nil, refusing(decide)))
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	endpoint, err := eshttp.Command(eshttp.CommandConfig[C]{
		Handler: handler, Name: name, Status: status, RequireKey: true,
		Stream: func(r *http.Request, _ *C) (string, error) {
			id := r.PathValue("id")
			return category + "-" + id, validID(id)
		},
	})
	a.err = errors.Join(a.err, err)
	a.mux.Handle(pattern, endpoint)
}

// refusing makes problems of refusals: the request is understood, and is not granted as things are (422).
func refusing[C any](decide decider[C]) decider[C] {
	return func(ctx context.Context, c C, m *es.Message) (es.Append, error) {
		decided, err := decide(ctx, c, m)
		if refused, ok := errors.AsType[refusal](err); ok {
			err = eshttp.Problemf(http.StatusUnprocessableEntity, "%s", refused)
		}
		return decided, err
	}
}

// queries adds the endpoints that are only asked.
func (a *api) queries() {
	// The account as the next decision sees it: built from its events, so that there is nothing to wait for, and its version is the ETag.
	query(a, "GET /accounts/{id}", present{}, a.account, func(l aggregate.Loaded[account]) string {
		return strconv.FormatInt(l.Version, 10)
	}, func(l aggregate.Loaded[account]) any {
		return map[string]any{"id": l.ID, "version": l.Version, "as_of": l.Recorded, "account": l.State}
	})
	query(a, "GET /accounts", a.overview, a.list, nil, nil)
	query(a, "GET /books", a.overview, a.books, nil, nil)
	query(a, "GET /accounts/{id}/statement", a.statements, a.statement, nil, nil)
}

func query[Q, R any](
	a *api, pattern string, waiter es.Waiter, ask func(context.Context, Q) (R, error), revision func(R) string, body func(R) any,
) {
	handler, err := es.NewQueryHandler(es.QueryConfig{Waiter: waiter}, ask)
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	endpoint, err := eshttp.Query(eshttp.QueryConfig[Q, R]{Handler: handler, Revision: revision, Body: body})
	a.err = errors.Join(a.err, err)
	a.mux.Handle(pattern, endpoint)
}

// present waits for nothing: what is answered from the events themselves is never behind them.
type present struct{}

func (present) WaitFor(context.Context, es.Checkpoint) error { return nil }

type accountQuery struct {
	ID string `path:"id"`
	// Version and At ask for the account as it was then.
	Version int64     `query:"version"`
	At      time.Time `query:"at"`
}

func (a *api) account(ctx context.Context, q accountQuery) (aggregate.Loaded[account], error) {
	accounts := a.bank.accounts
	err := validID(q.ID)
	switch {
	case err != nil:
		return aggregate.Loaded[account]{}, err
	case q.Version != 0 && !q.At.IsZero():
		return aggregate.Loaded[account]{}, es.Invalidf("query", "has both a version and a time; send one of them")
	case q.Version != 0:
		return accounts.LoadAt(ctx, q.ID, q.Version)
	case !q.At.IsZero():
		return accounts.LoadAsOf(ctx, q.ID, q.At)
	}
	return accounts.Load(ctx, q.ID)
}

type pageQuery struct {
	// After is next of the page before.
	After string `query:"after"`
}

type accountPage struct {
	Accounts []accountView `json:"accounts"`
	Next     string        `json:"next,omitempty"` // there may be more behind it
}

// pageSize is how many entries a page has.
const pageSize = 100

func (a *api) list(ctx context.Context, q pageQuery) (accountPage, error) {
	items, err := es.NewModel[accountView](a.models, "accounts").List(ctx, "", q.After, pageSize)
	page := accountPage{Accounts: []accountView{}}
	for _, item := range items {
		page.Accounts = append(page.Accounts, item.Value)
	}
	if len(items) == pageSize {
		page.Next = items[pageSize-1].Key
	}
	return page, err
}

func (a *api) books(ctx context.Context, _ struct{}) (books, error) {
	item, err := es.NewModel[books](a.models, "books").Load(ctx, booksKey)
	if errors.Is(err, es.ErrNotFound) { // nothing has happened yet
		err = nil
	}
	return item.Value, err
}

type statementQuery struct {
	ID string `path:"id"`
	// After is the version of the last entry of the page before.
	After int64 `query:"after"`
}

type statementPage struct {
	Entries []entry `json:"entries"`
	Next    int64   `json:"next,omitempty"` // there may be more behind it
}

func (a *api) statement(ctx context.Context, q statementQuery) (statementPage, error) {
	page := statementPage{Entries: []entry{}}
	if err := validID(q.ID); err != nil {
		return page, err
	}
	if q.After < 0 {
		return page, es.Invalidf("after", "is %d; it takes the version of an entry", q.After)
	}
	items, err := es.NewModel[entry](a.models, "statements").List(ctx, q.ID+"/", entryKey(q.ID, q.After), pageSize)
	for _, item := range items {
		page.Entries = append(page.Entries, item.Value)
	}
	if len(items) == pageSize {
		page.Next = items[pageSize-1].Value.Version
	}
	return page, err
}
