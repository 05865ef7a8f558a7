package estest

import (
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

func raceLines() []eventLine {
	return []eventLine{
		onEvents("E3", "one_of_many_goroutines_wins", oneGoroutineWins),
		onEvents("E3", "one_of_many_creates_a_stream", oneCreates),
		onEvents("E3", "one_of_many_handles_wins", oneHandleWins, needHandles()),
		onEvents("E3", "one_of_many_processes_wins", oneProcessWins, needProcesses()),
		onEvents("E3", "opposite_orders_do_not_deadlock", oppositeOrders),
	}
}

const racers = 16

// raceForVersions lets many append at the version that a stream has, again and again, each several events at once.
func (b *eventBench) raceForVersions(stream string, rounds int, stores ...es.EventStore) {
	b.Helper()
	var events []*es.Message
	for range rounds {
		version := int64(len(events))
		offers := make([][]*es.Message, racers)
		for i := range offers {
			offers[i] = some(stream, 1+i%3)
		}
		errs := together(racers, func(i int) error {
			_, err := stores[i%len(stores)].Append(b.ctx, es.AppendTo(stream, es.Exactly(version), offers[i]...))
			return err
		})
		winner := b.oneWinner(errs)
		events = append(events, offers[winner]...)
		for i, err := range errs {
			var conflict *es.ConflictError
			if i == winner {
				continue
			}
			if !errors.As(err, &conflict) || conflict.Stream != stream || conflict.Actual != int64(len(events)) {
				b.Fatalf("a loser at version %d learns %v; want a *ConflictError with the actual version %d", version, err, len(events))
			}
		}
	}
	b.holds(stream, events...)
}

func oneGoroutineWins(b *eventBench) { b.raceForVersions("race-1", 20, b.store) }

func oneHandleWins(b *eventBench) { b.raceForVersions("race-1", 20, b.handles(4)...) }

func oneCreates(b *eventBench) {
	for round := range 20 {
		stream := fmt.Sprintf("race-%d", round)
		offers := make([]*es.Message, racers)
		for i := range offers {
			offers[i] = made(stream, "Created")
		}
		errs := together(racers, func(i int) error {
			_, err := b.store.Append(b.ctx, es.AppendTo(stream, es.NoStream, offers[i]))
			return err
		})
		b.holds(stream, offers[b.oneWinner(errs)])
	}
}

func oneProcessWins(b *eventBench) {
	children := b.children(4, job{Kind: jobCall})
	var events []*es.Message
	for range 15 {
		version := int64(len(events))
		offers := make([][]*es.Message, len(children)+1)
		for i := range offers {
			offers[i] = some("race-1", 1+i%2)
		}
		errs := together(len(offers), func(i int) error {
			a := es.AppendTo("race-1", es.Exactly(version), offers[i]...)
			if i == len(children) {
				_, err := b.store.Append(b.ctx, a)
				return err
			}
			return children[i].append(b.ctx, a)
		})
		events = append(events, offers[b.oneWinner(errs)]...)
	}
	b.holds("race-1", events...)
}

// oppositeOrders lets appends lock the same streams in opposite orders. Whatever the store does about it inside, each of them
// ends, and without an error that the caller did not cause.
func oppositeOrders(b *eventBench) {
	const rounds = 15
	streams := []string{"left-1", "middle-1", "right-1"}
	errs := together(8, func(i int) error {
		for n := range rounds {
			var a es.Append
			for j := range streams {
				stream := streams[j]
				if i%2 == 1 {
					stream = streams[len(streams)-1-j]
				}
				a.Streams = append(a.Streams, es.StreamAppend{Stream: stream, Events: some(stream, 1)})
			}
			if _, err := b.store.Append(b.ctx, a); err != nil {
				return fmt.Errorf("append %d of writer %d, which expects nothing: %w", n, i, err)
			}
		}
		return nil
	})
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	for _, stream := range streams {
		if n := len(b.stream(stream)); n != 8*rounds {
			b.Errorf("stream %q has %d events, want %d", stream, n, 8*rounds)
		}
	}
}
