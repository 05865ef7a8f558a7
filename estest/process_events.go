package estest

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// children starts child processes on the bench's storage; see [startChildren].
func (b *eventBench) children(n int, j job) []*child {
	b.Helper()
	return startChildren(b.ctx, b.TB, b.harness, b.storage, n, j)
}

// append has a child that makes calls make an append, and returns its error.
func (c *child) append(ctx context.Context, a es.Append) error {
	_, err := calling[es.Appended](ctx, c, "append", a)
	return err
}

// write has a writing child begin, and returns what it was told is appended.
func (c *child) write(ctx context.Context) []ack {
	var acks []ack
	err := c.order(struct{}{})
	if err == nil {
		err = c.hear(ctx, &acks)
	}
	if err != nil {
		return []ack{{Err: err.Error()}}
	}
	return acks
}

// writeEvents is a job: it makes appends of every kind when it is told to begin, and tells what became of them.
func writeEvents(w *worker) error {
	var start struct{}
	if err := w.order(&start); err != nil {
		return err
	}
	return w.tell(writeAtRandom(w.ctx, w.backend.Events(), w.Seed, w.Count))
}

// countStream is where children count, and countName the name of the event at an index.
const countStream = "count-1"

func countName(index int) string { return fmt.Sprintf("Number%d", index+1) }

// countEvents is a job: it appends numbered events, several at a time, from where the stream ends on, and tells how many
// appends there are as soon as each is acknowledged. It ends by being killed.
func countEvents(w *worker) error {
	store := w.backend.Events()
	there, err := readAll(w.ctx, store, es.Query{Stream: countStream})
	if err != nil {
		return fmt.Errorf("read what was counted before: %w", err)
	}
	for n := len(there); ; n += w.Count {
		events := make([]*es.Message, w.Count)
		for i := range events {
			events[i] = made(countStream, countName(n+i))
		}
		if _, err := store.Append(w.ctx, es.AppendTo(countStream, es.Exactly(int64(n)), events...)); err != nil {
			return fmt.Errorf("count on from %d: %w", n, err)
		}
		if err := w.tell(n/w.Count + 1); err != nil {
			return err
		}
	}
}
