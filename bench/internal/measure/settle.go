package measure

import (
	"context"
	"time"
)

// settle returns when the program has come to rest, so that what a contender leaves to be done in the background is not done in the
// turn of the next one. One that never rests has had its time.
func settle(ctx context.Context) {
	const (
		look     = 10 * time.Millisecond
		atRest   = look / 10 // of processor time
		patience = 5 * time.Second
	)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for before := processorTime(); ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := processorTime()
		if now-before < atRest {
			return
		}
		before = now
	}
}
