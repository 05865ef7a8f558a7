package estest

import (
	"fmt"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func durabilityLines() []eventLine {
	return []eventLine{
		onEvents("E10", "what_was_acknowledged_survives_a_crash", survivesCrash, needDurable()),
		onEvents("E10", "what_was_acknowledged_survives_kill_9", survivesKill, needProcesses()),
	}
}

func survivesCrash(b *eventBench) {
	var all []*es.Message
	var appends []es.Append
	var places [][]es.Place
	for round := range 4 {
		for n := range 5 {
			stream := fmt.Sprintf("crash-%d", n%2)
			a := es.Append{Streams: []es.StreamAppend{{Stream: stream, Events: some(stream, 1+n)}, {Stream: "both-1", Events: some("both-1", 1)}}}
			for i, m := range a.Streams[0].Events {
				m.Data = []byte{0, byte(i), 0xff}
				m.Tags, m.Metadata = []string{"t", stream}, map[string]string{"k": "v"}
			}
			appends, places = append(appends, a), append(places, b.must(a).Places)
		}
		all = b.all()
		head := b.head()
		b.storage.Crash(b.TB, b.store)
		b.store = b.storage.Open(b.TB, Namespace)
		b.same(b.all(), all, fmt.Sprintf("after crash %d", round))
		if again := b.settled(b.lastOf(all)); again.Incarnation != head.Incarnation {
			b.Fatalf("the incarnation changes from %v to %v, although nothing was lost", head.Incarnation, again.Incarnation)
		}
		for i, a := range appends { // and whoever does not know whether it was taken repeats it
			b.repeats(a, places[i])
		}
	}
}

// survivesKill kills a process that appends, in the middle of it, and opens what it left: everything that it was told is
// appended is there, once, in order and whole. Then another process goes on, and so on. A handle stays open all the time.
func survivesKill(b *eventBench) {
	const rounds, perAppend = 4, 3
	total := 0
	for round := range rounds {
		count := b.children(1, job{Kind: jobCount, Count: perAppend})[0]
		// Some way into its work, at another moment in each round.
		acked, err := count.countedTo(b.ctx, total/perAppend+7+13*round)
		if err != nil {
			b.Fatalf("the process that counts: %v", err)
		}
		acked = count.killCounting(acked)
		for who, store := range map[string]es.EventStore{"a handle that stayed open": b.store, "a new handle": b.another().store} {
			events, err := readAll(b.ctx, store, es.Query{Stream: countStream})
			if err != nil {
				b.Fatalf("%s, after kill -9: %v", who, err)
			}
			if len(events) < acked*perAppend {
				b.Fatalf("%s has %d events after kill -9; %d were acknowledged", who, len(events), acked*perAppend)
			}
			if len(events)%perAppend != 0 || len(events) > (acked+1)*perAppend {
				b.Fatalf("%s has %d events after kill -9, of %d acknowledged appends of %d and one under way", who, len(events), acked, perAppend)
			}
			for i, m := range events {
				if want := countName(i); m.Version != int64(i+1) || m.Name != want {
					b.Fatalf("%s has version %d, %q, after kill -9, where %q was appended", who, m.Version, m.Name, want)
				}
			}
			total = len(events)
		}
	}
	// What the last process had under way when it was killed may still come, where a server had heard of it. It is there now or never.
	next := b.put(countStream, es.Any, some(countStream, 1)...).Places[0].Version
	if next != int64(total+1) && next != int64(total+perAppend+1) {
		b.Fatalf("after %d events, and %d that may have been under way, the next one is given version %d", total, perAppend, next)
	}
	all := b.all()
	b.settled(b.lastOf(all))
	b.same(b.read(es.Query{}), all, "the global order")
	seen := map[uuid.UUID]bool{}
	for _, m := range all {
		if seen[m.ID] {
			b.Fatalf("event %s is there twice", m.ID)
		}
		seen[m.ID] = true
	}
}
