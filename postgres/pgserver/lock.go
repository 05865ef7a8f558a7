package pgserver

import (
	"context"
	"fmt"
	"os"
	"time"
)

// lockInTurn locks a file as soon as nobody else has it locked.
func lockInTurn(ctx context.Context, file *os.File) error {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		if locked, err := lockNow(file); locked || err != nil {
			return err
		}
		select {
		case <-again.C: // a lock that is waited for in the system could not be given up
		case <-ctx.Done():
			return fmt.Errorf("pgserver: wait for %s: %w", file.Name(), context.Cause(ctx))
		}
	}
}
