package sqlite

import (
	"context"
	"time"
)

// SortedAtOnce is how many entries a claim sorts in.
const SortedAtOnce = sortedAtOnce

// ClaimAndHang makes a claim and calls hang before it is committed.
func ClaimAndHang(ctx context.Context, db *DB, most int, hang func(claimed int)) error {
	return db.write(ctx, &op{relaxed: true, run: func(tx *txn) error {
		entries, _, err := db.outbox.claim(tx, most, time.Hour)
		if err == nil {
			hang(len(entries))
		}
		return err
	}})
}
