package memory_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/tests/oracle"
)

// TestEventStoreIsLinearizable lets clients, on handles of their own to one storage, append to two streams and read them, and
// asks whether one after the other could have answered as they were answered.
func TestEventStoreIsLinearizable(t *testing.T) {
	t.Parallel()
	const clients, operations, timeout = 6, 30, 30 * time.Second
	for seed := range uint64(10) {
		storage := memory.NewStorage()
		var clock atomic.Int64 // its order is that of the calls and returns
		histories := make([][]porcupine.Operation, clients)
		var running sync.WaitGroup
		start := make(chan struct{})
		for client := range clients {
			b, err := memory.Open(memory.Config{Storage: storage})
			if err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(seed, uint64(client)))
			running.Go(func() {
				<-start
				for range operations {
					input := anOperation(random)
					called := clock.Add(1)
					output, err := operate(t, b.Events(), input)
					returned := clock.Add(1)
					if err != nil {
						t.Errorf("%+v: %v", input, err)
						return
					}
					histories[client] = append(histories[client], porcupine.Operation{
						ClientId: client, Input: input, Call: called, Output: output, Return: returned,
					})
				}
			})
		}
		close(start)
		running.Wait()
		var history []porcupine.Operation
		for _, h := range histories {
			history = append(history, h...)
		}
		if got := porcupine.CheckOperationsTimeout(oracle.Stream(), history, timeout); got != porcupine.Ok {
			t.Errorf("seed %d: the history is %s", seed, got)
		}
	}
}

// anOperation makes up what a client does next.
func anOperation(random *rand.Rand) any {
	stream := fmt.Sprintf("stream-%d", random.IntN(2))
	if random.IntN(3) == 0 {
		return oracle.Read{Stream: stream}
	}
	expect := []es.Expectation{es.Any, es.Any, es.NoStream, es.StreamExists, es.Exactly(random.Int64N(40))}
	return oracle.Append{Stream: stream, Expect: expect[random.IntN(len(expect))], Events: 1 + random.IntN(3)}
}

func operate(t *testing.T, store es.EventStore, input any) (any, error) {
	t.Helper()
	switch call := input.(type) {
	case oracle.Read:
		last := int64(0)
		for m, err := range store.Read(t.Context(), es.Query{Stream: call.Stream}) {
			if err != nil {
				return nil, err
			}
			if m.Version != last+1 {
				return nil, fmt.Errorf("version %d follows %d", m.Version, last)
			}
			last = m.Version
		}
		return last, nil
	case oracle.Append:
		events := make([]*es.Message, call.Events)
		for i := range events {
			events[i] = es.NewMessage(call.Stream, "Happened", nil)
		}
		done, err := store.Append(t.Context(), es.AppendTo(call.Stream, call.Expect, events...))
		switch {
		case errors.Is(err, es.ErrConflict):
			return oracle.Appended{Conflict: true}, nil
		case err != nil:
			return nil, err
		}
		return oracle.Appended{Version: done.Places[len(events)-1].Version}, nil
	}
	return nil, fmt.Errorf("there is no operation %T", input)
}
