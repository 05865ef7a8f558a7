package oracle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	es "github.com/eventsourcing-go/eventsourcing"
)

// CheckStreams lets clients, on handles of their own to one storage, append to two streams and read them, and asks whether one after the
// other could have answered as they were answered. New makes a storage that has nothing in it.
func CheckStreams(t *testing.T, seeds int, storage func(t *testing.T) Open) {
	t.Helper()
	check(t, Stream(), seeds, storage, func(random *rand.Rand) client {
		return func(ctx context.Context, store es.EventStore, call caller) error {
			input := aStreamCall(random)
			return call(input, func() (any, error) { return makeStreamCall(ctx, store, input) })
		}
	})
}

// CheckDecisions lets clients, on handles of their own to one storage, make decisions over tags and append without any, and asks whether
// one after the other could have answered as they were answered.
func CheckDecisions(t *testing.T, seeds int, storage func(t *testing.T) Open) {
	t.Helper()
	check(t, Decisions(), seeds, storage, func(random *rand.Rand) client {
		return func(ctx context.Context, store es.EventStore, call caller) error {
			return decide(ctx, store, random, call)
		}
	})
}

// caller makes a call that goes into the history.
type caller func(input any, do func() (output any, err error)) error

// client makes its next call, or its next ones.
type client func(ctx context.Context, store es.EventStore, call caller) error

func check(
	t *testing.T, model porcupine.Model, seeds int, storage func(t *testing.T) Open, newClient func(random *rand.Rand) client,
) {
	t.Helper()
	const clients, turns, timeout = 6, 30, 30 * time.Second
	for seed := range uint64(seeds) { //nolint:gosec // not negative
		open := storage(t)
		var clock atomic.Int64 // its order is that of the calls and returns
		histories := make([][]porcupine.Operation, clients)
		var running sync.WaitGroup
		start := make(chan struct{})
		for id := range clients {
			b, err := open()
			if err != nil {
				t.Fatal(err)
			}
			next := newClient(rand.New(rand.NewPCG(seed, uint64(id))))
			call := func(input any, do func() (any, error)) error {
				called := clock.Add(1)
				output, err := do()
				if err != nil {
					return fmt.Errorf("%+v: %w", input, err)
				}
				histories[id] = append(histories[id], porcupine.Operation{
					ClientId: id, Input: input, Call: called, Output: output, Return: clock.Add(1),
				})
				return nil
			}
			running.Go(func() {
				defer func() {
					if err := b.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				}()
				<-start
				for range turns {
					if err := next(t.Context(), b.Events(), call); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		close(start)
		running.Wait()
		var history []porcupine.Operation
		for _, h := range histories {
			history = append(history, h...)
		}
		if got := porcupine.CheckOperationsTimeout(model, history, timeout); got != porcupine.Ok {
			t.Errorf("seed %d: the history is %s", seed, got)
		}
	}
}

// aStreamCall makes up what a client does next.
func aStreamCall(random *rand.Rand) any {
	stream := fmt.Sprintf("stream-%d", random.IntN(2))
	if random.IntN(3) == 0 {
		return Read{Stream: stream}
	}
	expect := []es.Expectation{es.Any, es.Any, es.NoStream, es.StreamExists, es.Exactly(random.Int64N(40))}
	return Append{Stream: stream, Expect: expect[random.IntN(len(expect))], Events: 1 + random.IntN(3)}
}

func makeStreamCall(ctx context.Context, store es.EventStore, input any) (any, error) {
	switch call := input.(type) {
	case Read:
		last := int64(0)
		for m, err := range store.Read(ctx, es.Query{Stream: call.Stream}) {
			if err != nil {
				return nil, err
			}
			if m.Version != last+1 {
				return nil, fmt.Errorf("version %d follows %d", m.Version, last)
			}
			last = m.Version
		}
		return last, nil
	case Append:
		events := make([]*es.Message, call.Events)
		for i := range events {
			events[i] = es.NewMessage(call.Stream, "Happened", nil)
		}
		done, err := store.Append(ctx, es.AppendTo(call.Stream, call.Expect, events...))
		switch {
		case errors.Is(err, es.ErrConflict):
			return Appended{Conflict: true}, nil
		case err != nil:
			return nil, err
		}
		return Appended{Version: done.Places[len(events)-1].Version}, nil
	}
	return nil, fmt.Errorf("there is no operation %T", input)
}

// decide reads what a decision is about, and appends under the condition that nothing more of it has come; or appends without any.
func decide(ctx context.Context, store es.EventStore, random *rand.Rand, call caller) error {
	a, b := es.Criterion{Tags: []string{"a"}}, es.Criterion{Tags: []string{"b"}}
	both := es.Criterion{Tags: []string{"a", "b"}}
	d := Decide{
		Match: [][]es.Criterion{nil, {a}, {b}, {a, b}, {both}, {{}}}[random.IntN(6)],
		Tags:  tagsOf(random.IntN(4)),
	}
	m := es.NewMessage(fmt.Sprintf("stream-%d", random.IntN(2)), "Decided", nil)
	m.Tags = d.Tags
	appending := es.AppendTo(m.Stream, es.Any, m)
	if len(d.Match) > 0 {
		err := call(Count{d.Match}, func() (any, error) {
			condition, err := es.ReadForDecision(ctx, store, d.Match, func(*es.Message) error { d.Seen++; return nil })
			appending.Unless = []es.Condition{condition}
			return d.Seen, err
		})
		if err != nil {
			return err
		}
	}
	return call(d, func() (any, error) {
		_, err := store.Append(ctx, appending)
		if errors.Is(err, es.ErrConflict) {
			return Decided{Conflict: true}, nil
		}
		return Decided{}, err
	})
}
