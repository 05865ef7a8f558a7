package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
)

var program servicetest.Program

func TestMain(m *testing.M) { os.Exit(servicetest.Run(m, &program)) }

// keyed is a request with an Idempotency-Key of its own.
func keyed(key, path, body string) servicetest.Request {
	return servicetest.Post(path, body).With("Idempotency-Key", key)
}

// started starts the program on a store.
func started(t *testing.T, where string) *servicetest.Service {
	t.Helper()
	s := program.Launch(t, servicetest.Setup{Args: []string{"-store", where, "-lease", "500ms"}})
	s.AwaitListening()
	return s
}

// after returns the position of an answer, for the request that is to see what came of it.
func after(a servicetest.Answer) []string {
	return []string{eshttp.PositionName, a.Header.Get(eshttp.PositionName)}
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestATransferMovesMoneyOnce(t *testing.T) {
	t.Parallel()
	servicetest.ForEachStore(t, func(t *testing.T, where string) {
		s := started(t, where)
		want(t, "at first", s.Ask(http.StatusOK, servicetest.Get("/books")).Body, `{"accounts":0,"deposited":0,"withdrawn":0,"under_way":0}`)
		s.Ask(http.StatusCreated, keyed("1", "/accounts/ann", `{"owner":"Ann"}`))
		s.Ask(http.StatusCreated, keyed("2", "/accounts/bob", `{"owner":"Bob"}`))
		s.Ask(http.StatusCreated, keyed("3", "/accounts/ann/deposits", `{"amount":1000}`))

		transfer := keyed("4", "/accounts/ann/transfers", `{"to":"bob","amount":300}`)
		first := s.Ask(http.StatusCreated, transfer)
		again := s.Ask(http.StatusCreated, transfer)
		if again.Body != first.Body || again.Header.Get("Idempotency-Replayed") != "true" || first.Header.Get("Idempotency-Replayed") != "" {
			t.Errorf("the first answer is %s %v, and the second is %s %v", first.Body, first.Header, again.Body, again.Header)
		}
		s.Ask(http.StatusUnprocessableEntity, keyed("4", "/accounts/ann/transfers", `{"to":"bob","amount":301}`))
		s.Ask(http.StatusUnprocessableEntity, keyed("4", "/accounts/ann/withdrawals", `{"amount":300}`))

		seen := after(first)
		want(t, "accounts", s.Ask(http.StatusOK, servicetest.Get("/accounts").With(seen...)).Body,
			`{"accounts":[{"id":"ann","owner":"Ann","balance":700},{"id":"bob","owner":"Bob","balance":300}]}`)
		want(t, "books", s.Ask(http.StatusOK, servicetest.Get("/books").With(seen...)).Body,
			`{"accounts":2,"deposited":1000,"withdrawn":0,"under_way":0}`)

		var ann, bob statementPage
		s.Ask(http.StatusOK, servicetest.Get("/accounts/ann/statement").With(seen...)).Decode(t, &ann)
		s.Ask(http.StatusOK, servicetest.Get("/accounts/bob/statement").With(seen...)).Decode(t, &bob)
		if len(ann.Entries) != 3 || len(bob.Entries) != 2 {
			t.Fatalf("the statements are %+v and %+v", ann, bob)
		}
		sent, received := ann.Entries[2], bob.Entries[1]
		if sent.Amount != -300 || received.Amount != 300 || sent.With != "bob" || received.With != "ann" {
			t.Errorf("the transfer is %+v and %+v", sent, received)
		}
		correlation := first.Header.Get(eshttp.CorrelationName)
		if correlation == "" || sent.CorrelationID != correlation || received.CorrelationID != correlation {
			t.Errorf("the transfer is %+v and %+v, and the request was %q", sent, received, correlation)
		}
	})
}

func TestIfMatchTellsOfAnAccountThatHasChanged(t *testing.T) {
	t.Parallel()
	servicetest.ForEachStore(t, func(t *testing.T, where string) {
		s := started(t, where)
		s.Ask(http.StatusCreated, keyed("1", "/accounts/ann", `{"owner":"Ann"}`))
		s.Ask(http.StatusCreated, keyed("2", "/accounts/ann/deposits", `{"amount":1000}`))
		read := s.Ask(http.StatusOK, servicetest.Get("/accounts/ann"))
		tag := read.Header.Get("ETag")
		want(t, "its tag", tag, `"2"`)
		s.Ask(http.StatusNotModified, servicetest.Get("/accounts/ann").With("If-None-Match", tag))

		all := keyed("3", "/accounts/ann/withdrawals", `{"amount":600}`).With("If-Match", tag)
		want(t, "its tag then", s.Ask(http.StatusCreated, all).Header.Get("ETag"), `"3"`)
		s.Ask(http.StatusCreated, all) // the same request: it has been carried out, whatever the account is like now
		s.Ask(http.StatusPreconditionFailed, keyed("4", "/accounts/ann/withdrawals", `{"amount":1}`).With("If-Match", tag))
		s.Ask(http.StatusPreconditionFailed, keyed("5", "/accounts/ann/deposits", `{"amount":1}`).With("If-None-Match", "*"))
		want(t, "what is left", s.Ask(http.StatusOK, servicetest.Get("/books").With(after(s.Ask(http.StatusCreated, all))...)).Body,
			`{"accounts":1,"deposited":1000,"withdrawn":600,"under_way":0}`)
	})
}

func TestAnAccountAsItWas(t *testing.T) {
	t.Parallel()
	servicetest.ForEachStore(t, func(t *testing.T, where string) {
		s := started(t, where)
		type answer struct {
			Version int64     `json:"version"`
			AsOf    time.Time `json:"as_of"`
			Account account   `json:"account"`
		}
		load := func(query string) (a answer) {
			s.Ask(http.StatusOK, servicetest.Get("/accounts/ann"+query)).Decode(t, &a)
			return a
		}
		const deposits = 120 // more than two snapshots
		s.Ask(http.StatusCreated, keyed("open", "/accounts/ann", `{"owner":"Ann"}`))
		for i := range deposits {
			s.Ask(http.StatusCreated, keyed(strconv.Itoa(i), "/accounts/ann/deposits", `{"amount":1}`))
			if i%50 == 0 {
				load("") // a look, at which a snapshot may be taken
			}
		}
		for version := int64(1); version <= deposits+1; version += 10 {
			if a := load(fmt.Sprintf("?version=%d", version)); a.Version != version || a.Account.Balance != version-1 {
				t.Errorf("at version %d it is %+v", version, a)
			}
		}
		then := load("?version=40")
		if a := load("?at=" + then.AsOf.Format(time.RFC3339Nano)); a.Version < 40 || a.Account.Balance != a.Version-1 || !a.AsOf.Equal(then.AsOf) {
			t.Errorf("at %v it is %+v, and at version 40 it is %+v", then.AsOf, a, then)
		}
		s.Ask(http.StatusNotFound, servicetest.Get("/accounts/ann?version=1000"))
		s.Ask(http.StatusNotFound, servicetest.Get("/accounts/ann?at=2000-01-01T00:00:00Z"))
		s.Ask(http.StatusUnprocessableEntity, servicetest.Get("/accounts/ann?version=1&at=2000-01-01T00:00:00Z"))
	})
}

func TestLongListsComeInPages(t *testing.T) {
	t.Parallel()
	s := started(t, "memory:")
	const n = 2*pageSize + 1
	var last servicetest.Answer
	for i := range n {
		last = s.Ask(http.StatusCreated, keyed(fmt.Sprint("o", i), fmt.Sprintf("/accounts/a%03d", i), `{"owner":"O"}`))
	}
	for i := range n {
		last = s.Ask(http.StatusCreated, keyed(fmt.Sprint("d", i), "/accounts/a000/deposits", `{"amount":1}`))
	}
	seen := after(last)
	var pages []int
	for next := ""; len(pages) == 0 || next != ""; {
		var page accountPage
		s.Ask(http.StatusOK, servicetest.Get("/accounts?after="+next).With(seen...)).Decode(t, &page)
		pages, next = append(pages, len(page.Accounts)), page.Next
	}
	want(t, "pages of accounts", fmt.Sprint(pages), "[100 100 1]")
	version, pages := int64(0), nil
	for len(pages) == 0 || version != 0 {
		var page statementPage
		s.Ask(http.StatusOK, servicetest.Get(fmt.Sprintf("/accounts/a000/statement?after=%d", version)).With(seen...)).Decode(t, &page)
		for i, e := range page.Entries {
			if e.Version != version+int64(i)+1 {
				t.Errorf("entry %d behind %d is %+v", i, version, e)
			}
		}
		pages, version = append(pages, len(page.Entries)), page.Next
	}
	want(t, "pages of the statement", fmt.Sprint(pages), "[100 100 2]")
}

func TestWhatIsNotGrantedSaysWhy(t *testing.T) {
	t.Parallel()
	s := started(t, "memory:")
	for i, c := range []struct {
		path, body string
		status     int
		detail     string
	}{
		{"/accounts/ann", `{"owner":"Ann"}`, http.StatusCreated, ""},
		{"/accounts/ann", `{"owner":"Ann"}`, http.StatusUnprocessableEntity, "there already"},
		{"/accounts/bob", `{"owner":""}`, http.StatusUnprocessableEntity, "owner"},
		{"/accounts/bob", `{}`, http.StatusUnprocessableEntity, "owner"},
		{"/accounts/bob", `{"owner":7}`, http.StatusUnprocessableEntity, "owner"},
		{"/accounts/bob", `{"owner":`, http.StatusBadRequest, "JSON"},
		{"/accounts/b%2Fb", `{"owner":"Bob"}`, http.StatusUnprocessableEntity, "account ID"},
		{"/accounts/ann/withdrawals", `{"amount":1}`, http.StatusUnprocessableEntity, "balance"},
		{"/accounts/ann/deposits", `{"amount":0}`, http.StatusUnprocessableEntity, "amount"},
		{"/accounts/ann/deposits", `{"amount":1.5}`, http.StatusUnprocessableEntity, "amount"},
		{"/accounts/eve/deposits", `{"amount":1}`, http.StatusNotFound, "not there"},
		{"/accounts/ann/deposits", `{"amount":5}`, http.StatusCreated, ""},
		{"/accounts/ann/close", `{}`, http.StatusUnprocessableEntity, "money in the account"},
		{"/accounts/ann/transfers", `{"to":"eve","amount":1}`, http.StatusUnprocessableEntity, "no open account"},
		{"/accounts/ann/transfers", `{"to":"ann","amount":1}`, http.StatusUnprocessableEntity, "it takes another"},
		{"/accounts/ann/transfers", `{"to":"e e","amount":1}`, http.StatusUnprocessableEntity, "account ID"},
		{"/accounts/ann/withdrawals", `{"amount":5}`, http.StatusCreated, ""},
		{"/accounts/ann/close", `{}`, http.StatusOK, ""},
		{"/accounts/ann/deposits", `{"amount":5}`, http.StatusUnprocessableEntity, "closed"},
		{"/accounts/ann/nowhere", `{}`, http.StatusNotFound, "path"},
	} {
		answer := s.Ask(c.status, keyed(strconv.Itoa(i), c.path, c.body))
		if c.detail != "" && (answer.Header.Get("Content-Type") != eshttp.ContentTypeProblem || !strings.Contains(answer.Body, c.detail)) {
			t.Errorf("%s %s: %s %s, want %q in it", c.path, c.body, answer.Header.Get("Content-Type"), answer.Body, c.detail)
		}
	}
	s.Ask(http.StatusBadRequest, servicetest.Post("/accounts/bob", `{"owner":"Bob"}`)) // without a key
	s.Ask(http.StatusNotFound, servicetest.Get("/accounts/eve"))
	s.Ask(http.StatusUnprocessableEntity, servicetest.Get("/accounts/ann/statement?after=-1"))
	s.Ask(http.StatusOK, servicetest.Get("/readyz"))
	s.Ask(http.StatusOK, servicetest.Get("/livez"))
}
