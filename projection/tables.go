package projection

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Projector is a transaction of a backend in which a checkpoint can be moved, as those of the modules sqlite and postgres are.
type Projector interface {
	Project(c es.Commit) error
}

// TablesConfig says how to write tables of the program's own.
type TablesConfig[Tx Projector] struct {
	// Run has a function run in a transaction, and commits it when that returns nil: DB.Update of the module sqlite, and for postgres
	//
	//	func(ctx context.Context, do func(*postgres.Tx) error) error { return db.InTx(ctx, pgx.TxOptions{}, do) }
	//
	// It is required. It must be of the same backend as [Config].Models.
	Run func(ctx context.Context, do func(tx Tx) error) error
	// Clear makes room for a rebuild: it creates the tables that are built aside, or empties them. See [Projection.Rebuild].
	Clear func(ctx context.Context, tx Tx) error
	// Swap puts the tables that were built aside into the place of those that are read, by renaming them for example. It is in one
	// transaction with the checkpoint. A projection without Clear and Swap cannot be rebuilt.
	Swap func(ctx context.Context, tx Tx) error
}

// Tables makes handlers write tables of the program's own, in one transaction with the checkpoint; [TxOf] gives them the transaction. So
// each event has its effect on the tables exactly once.
//
// An event that cannot be handled has the transaction rolled back, and the others of its batch are handled again without it: what a
// handler does elsewhere may be done more than once. Handlers run one after the other ([Config].Parallel is 1).
func Tables[Tx Projector](c TablesConfig[Tx]) Target { return tables[Tx]{c} }

type tables[Tx Projector] struct{ config TablesConfig[Tx] }

func (t tables[Tx]) sink() sink { return tableSink[Tx](t) }

func (t tables[Tx]) validate(c *Config) error {
	switch {
	case t.config.Run == nil:
		return es.Invalidf("tables", "have no Run, which runs a function in a transaction")
	case (t.config.Clear == nil) != (t.config.Swap == nil):
		return es.Invalidf("tables", "have one of Clear and Swap; a rebuild takes both")
	case c.Parallel > 1:
		return es.Invalidf("parallel", "is %d streams; a transaction takes one at a time", c.Parallel)
	}
	return nil
}

// TxOf returns the transaction that the handlers of [Tables] write in. It is good for the call of the handler. The type must be that of the
// tables; it panics otherwise, which is a mistake in the program.
func TxOf[Tx Projector](b *Batch) Tx {
	tx, ok := b.tx.(Tx)
	if !ok {
		panic("projection: the batch has no transaction of this type; give the projection Tables of it as its Target")
	}
	return tx
}

// Aside tells whether the handler is called for a rebuild, and writes what takes the place of the tables that are read when it is done.
// Documents need not ask: they go to the right place.
func (b *Batch) Aside() bool { return b.aside }

type tableSink[Tx Projector] struct{ config TablesConfig[Tx] }

func (s tableSink[Tx]) commit(ctx context.Context, b *Batch, handle func(ctx context.Context) (es.Commit, error)) error {
	return s.config.Run(ctx, func(tx Tx) error {
		b.tx = tx
		defer func() { b.tx = nil }()
		c, err := handle(ctx)
		if err != nil {
			return err
		}
		return tx.Project(c)
	})
}

func (tableSink[Tx]) entangled() bool { return true }

// ours goes by what the errors of databases and of the network have in common, because the drivers are not known here: a state of SQL
// (ISO 9075) that stands for a lost connection (08), a transaction that was undone because of others (40), a server that has no room (53),
// was told to stop (57) or has trouble with its system (58).
func (tableSink[Tx]) ours(ctx context.Context, err error) bool {
	if ctx.Err() != nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	if _, network := errors.AsType[net.Error](err); network {
		return true
	}
	state, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	if !ok {
		return false
	}
	for _, class := range []string{"08", "40", "53", "57", "58"} {
		if strings.HasPrefix(state.SQLState(), class) {
			return true
		}
	}
	return false
}

// swapper is a sink that has its own way to put what was built aside in its place.
type swapper interface {
	clear(ctx context.Context, c es.Commit) error
	swap(ctx context.Context, c es.Commit) error
	swaps() bool
}

func (s tableSink[Tx]) swaps() bool { return s.config.Swap != nil }

func (s tableSink[Tx]) clear(ctx context.Context, c es.Commit) error {
	return s.with(ctx, s.config.Clear, c)
}
func (s tableSink[Tx]) swap(ctx context.Context, c es.Commit) error {
	return s.with(ctx, s.config.Swap, c)
}

// with makes a commit together with what a function of the program does.
func (s tableSink[Tx]) with(ctx context.Context, do func(ctx context.Context, tx Tx) error, c es.Commit) error {
	return s.config.Run(ctx, func(tx Tx) error {
		if err := do(ctx, tx); err != nil {
			return err
		}
		return tx.Project(c)
	})
}
