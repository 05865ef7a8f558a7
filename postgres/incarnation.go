package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Fork gives a namespace a new incarnation: for a database that may have lost what somebody has seen, after a backup was restored that is
// not the newest state, or after a failover to a replica that was behind. Every checkpoint that was kept elsewhere is [es.ErrCheckpoint]
// from then on, instead of going on in the wrong history, at positions that are given to other events now. Whoever owns one finds out
// what it has done, and begins anew from where that is checked.
//
// Call it before a program opens the namespace: one that has it open goes on with the incarnation that it has found.
//
// Errors: those of [Open]; a namespace that is not there is [es.ErrNotFound].
func Fork(ctx context.Context, c Config) error {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return err
	}
	db := &DB{config: c, names: names{schema: c.Schema}}
	if err := db.connect(ctx); err != nil {
		return err
	}
	defer db.disconnect()
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("fork: %w", fault(err))
	}
	defer conn.Release()
	err = inTransaction(ctx, conn.Conn(), func(tx pgx.Tx) error {
		version, err := db.version(ctx, tx)
		if err != nil {
			return err
		}
		if version == 0 {
			return fmt.Errorf("schema %q: %w", c.Schema, es.ErrNotFound)
		}
		done, err := tx.Exec(ctx, db.sql("UPDATE @spaces SET incarnation = $2 WHERE name = $1"), c.Namespace, es.NewID())
		if err == nil && done.RowsAffected() == 0 {
			return fmt.Errorf("namespace %q: %w", c.Namespace, es.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	return nil
}
