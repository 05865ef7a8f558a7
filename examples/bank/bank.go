package main

import (
	"context"
	"log/slog"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
)

// category is that of the streams of accounts: the account "ann" is the stream "account-ann".
const category = "account"

// accountOf returns the ID of the account that a stream belongs to.
func accountOf(stream string) string { return strings.TrimPrefix(stream, category+"-") }

// newAccounts returns the accounts: loaded from their latest snapshot and what has happened since, and kept in memory for the next time.
func newAccounts(backend es.Backend, types *es.Types, log *slog.Logger) (*aggregate.Repository[account, event], error) {
	return aggregate.New(aggregate.Config[account, event]{
		Events: backend.Events(), Types: types, Category: category,
		Evolve:    evolve,
		Snapshots: backend.Snapshots(), SnapshotEvery: 50,
		CacheSize: 10_000,
		Logger:    log,
	})
}

// bank decides about commands. What it decides is appended by an [es.CommandHandler], which carries each command out once, and decides
// again when somebody else was first.
type bank struct {
	accounts *aggregate.Repository[account, event]
}

// command is what can be asked of one account.
type command interface {
	decide(a account) ([]event, error)
}

// decider decides what a command leads to.
type decider[C any] func(ctx context.Context, c C, m *es.Message) (es.Append, error)

// deciding returns the decider of a command for one account, which is the one that its message is for.
func deciding[C command](b *bank) decider[C] {
	return func(ctx context.Context, c C, m *es.Message) (es.Append, error) {
		return b.accounts.Propose(ctx, accountOf(m.Stream), c.decide)
	}
}

// transfer decides about a command for two accounts. Each half is decided about by the account it happens to, and both are one append: all
// or nothing, at the versions of both that were decided from.
func (b *bank) transfer(ctx context.Context, c Transfer, m *es.Message) (es.Append, error) {
	from := accountOf(m.Stream)
	if err := validID(c.To); err != nil {
		return es.Append{}, err
	}
	if from == c.To {
		return es.Append{}, es.Invalidf("account to transfer to", "is the one that the money comes from; it takes another")
	}
	sent, err := b.accounts.Propose(ctx, from, func(a account) ([]event, error) { return c.send(m.ID, a) })
	if err != nil {
		return es.Append{}, err
	}
	received, err := b.accounts.Propose(ctx, c.To, func(a account) ([]event, error) { return c.receive(m.ID, from, a) })
	if err != nil {
		return es.Append{}, err
	}
	return sent.And(received), nil
}
