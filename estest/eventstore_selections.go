package estest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

func selectionLines() []eventLine {
	return []eventLine{
		onEvents("E7", "every_query_as_defined", everyQuery),
		onEvents("E7", "random_queries_as_defined", randomQueries),
		onEvents("E7", "names_are_compared_exactly", comparedExactly),
		onEvents("E7", "stream_bounds_are_versions", streamBounds),
		onEvents("E7", "what_is_not_there_is_empty", notThereIsEmpty),
		onEvents("E7", "broken_queries_are_invalid", brokenQueries),
		onEvents("E7", "many_pages", manyPages),
	}
}

// history fills the store with a generated history, the same every time but for its IDs, and returns it as it stands there.
func (b *eventBench) history(appends int) []*es.Message {
	b.Helper()
	random := rand.New(rand.NewPCG(7, 11))
	streams := []string{"order-1", "order-2", "order-3", "orders-1", "order", "item-1", "item-1-2", "-dash", "Item-1"}
	names := []string{"Added", "Removed", "Moved", "Seen"}
	tags := []string{"red", "green", "blue", "round"}
	var batch []es.Append
	for range appends {
		stream := streams[random.IntN(len(streams))]
		a := es.AppendTo(stream, es.Any)
		for range 1 + random.IntN(3) {
			m := made(stream, names[random.IntN(len(names))])
			for _, tag := range tags {
				if random.IntN(3) == 0 {
					m.Tags = append(m.Tags, tag)
				}
			}
			a.Streams[0].Events = append(a.Streams[0].Events, m)
		}
		batch = append(batch, a)
	}
	want := make(map[string][]*es.Message)
	total := 0
	for i, o := range b.store.AppendEach(b.ctx, batch) {
		if o.Err != nil {
			b.Fatalf("append %d of the history: %v", i, o.Err)
		}
		s := batch[i].Streams[0]
		want[s.Stream] = append(want[s.Stream], s.Events...)
		total += len(s.Events)
	}
	for stream, events := range want {
		b.holds(stream, events...)
	}
	all := b.all()
	if len(all) != total {
		b.Fatalf("the history has %d events, want %d", len(all), total)
	}
	b.settled(b.lastOf(all))
	return all
}

// model says what a query selects of a history that is settled, word for word as its documentation does.
func model(history []*es.Message, q es.Query) []*es.Message {
	var found []*es.Message
	for _, m := range history {
		place := m.Position
		if q.Stream != "" {
			place = m.Version
		}
		if place > q.After && (q.UpTo == 0 || place <= q.UpTo) && selects(q, m) {
			found = append(found, m)
		}
	}
	if q.Reverse {
		slices.Reverse(found)
	}
	if q.Limit > 0 && len(found) > q.Limit {
		found = found[:q.Limit]
	}
	return found
}

// selects is the model's own idea of which events a query selects, so that a mistake in [es.Query.Matches] is one, too.
func selects(q es.Query, m *es.Message) bool {
	meets := func(names, tags []string) bool {
		for _, tag := range tags {
			if !slices.Contains(m.Tags, tag) {
				return false
			}
		}
		return len(names) == 0 || slices.Contains(names, m.Name)
	}
	category := m.Stream
	for i := 1; i < len(category); i++ {
		if category[i] == '-' && category[0] != '-' {
			category = category[:i]
		}
	}
	either := len(q.Any) == 0
	for _, c := range q.Any {
		either = either || meets(c.Names, c.Tags)
	}
	there := (q.Stream == "" || q.Stream == m.Stream) && (q.Category == "" || q.Category == category)
	return there && meets(q.Names, q.Tags) && either
}

// agrees fails unless the store gives for a query what the model does.
func (b *eventBench) agrees(history []*es.Message, q es.Query) {
	b.Helper()
	got, err := readAll(b.ctx, b.store, q)
	if err != nil {
		b.Fatalf("read %+v: %v", q, err)
	}
	if diff := differ(got, model(history, q)); diff != "" {
		b.Fatalf("read %+v: %s", q, diff)
	}
}

// everyQuery tries every combination of what a query can have.
func everyQuery(b *eventBench) {
	history := b.history(80)
	positionOf := func(i int) int64 { return history[i].Position }
	middle := positionOf(len(history) / 2)
	type bounds struct{ after, upTo int64 }
	places := []es.Query{{}, {Stream: "order-1"}, {Category: "order"}, {Category: "-dash"}}
	namings := [][]string{nil, {"Added"}, {"Added", "Moved"}}
	taggings := [][]string{nil, {"red"}, {"red", "blue"}}
	eithers := [][]es.Criterion{
		nil, {{}}, {{Names: []string{"Seen"}}, {Tags: []string{"green", "round"}}},
		{{Names: []string{"Moved", "Added"}, Tags: []string{"blue"}}},
	}
	for _, place := range places {
		ranges := []bounds{{0, 0}, {middle, 0}, {0, middle}, {positionOf(10), positionOf(len(history) - 10)}, {middle, positionOf(3)}}
		if place.Stream != "" {
			ranges = []bounds{{0, 0}, {3, 0}, {0, 3}, {2, 7}, {7, 2}}
		}
		for _, r := range ranges {
			for _, names := range namings {
				for _, tags := range taggings {
					for _, either := range eithers {
						for _, limit := range []int{0, 1, 4} {
							q := place
							q.After, q.UpTo, q.Names, q.Tags, q.Any, q.Limit = r.after, r.upTo, names, tags, either, limit
							b.agrees(history, q)
							q.Reverse = true
							b.agrees(history, q)
						}
					}
				}
			}
		}
	}
}

func randomQueries(b *eventBench) {
	history := b.history(150)
	random := rand.New(rand.NewPCG(3, 5))
	pick := func(of ...string) []string {
		var some []string
		for _, s := range of {
			if random.IntN(4) == 0 {
				some = append(some, s)
			}
		}
		return some
	}
	criterion := func() es.Criterion {
		return es.Criterion{Names: pick("Added", "Removed", "Moved", "Never"), Tags: pick("red", "green", "blue", "round")}
	}
	last := history[len(history)-1].Position
	for range 400 {
		c := criterion()
		q := es.Query{Names: c.Names, Tags: c.Tags, Reverse: random.IntN(2) == 0, Unsettled: random.IntN(2) == 0}
		for range random.IntN(3) {
			q.Any = append(q.Any, criterion())
		}
		top := last
		switch random.IntN(3) {
		case 0:
			q.Stream = history[random.IntN(len(history))].Stream
			top = 60
		case 1:
			q.Category = []string{"order", "orders", "item", "Item", "-dash", "none"}[random.IntN(6)]
		}
		q.Limit = random.IntN(3) * random.IntN(20)
		if random.IntN(2) == 0 {
			q.After = random.Int64N(top + 1)
		}
		if random.IntN(2) == 0 {
			q.UpTo = random.Int64N(top + 1)
		}
		b.agrees(history, q)
	}
}

// comparedExactly uses names that are alike, and those that would mean something else to a query language.
func comparedExactly(b *eventBench) {
	alike := []string{
		"a", "A", "aa", "a ", " a", "á", "a\u0301", "a%", "a_", "%", "_", "a*", "a?", "a'", `a"`, `a\`, "a,b", "b,a", "a;b", "a|b", "a&b",
		"{a}", "[a]", "a:b", "a/b", "a\nb", "null", "0", "00", "ａ", "ß", "ss", "ﬀ", "İ", "i", "I", "ı", "\U0001F600",
	}
	var events []*es.Message
	for _, text := range alike {
		stream := "s-1"
		m := made(stream, text, text)
		if text != "a\nb" { // no control characters in the name of a stream
			m.Stream = text
		}
		b.put(m.Stream, es.NoStream, m)
		events = append(events, m)
	}
	b.settledNow()
	for i, text := range alike {
		queries := []es.Query{
			{Names: []string{text}}, {Tags: []string{text}},
			{Any: []es.Criterion{{Names: []string{text}}}}, {Any: []es.Criterion{{Tags: []string{text}}}},
		}
		if events[i].Stream == text {
			queries = append(queries, es.Query{Stream: text}, es.Query{Category: text})
		}
		for _, q := range queries {
			if got := b.read(q); len(got) != 1 || got[0].ID != events[i].ID {
				b.Fatalf("read %+v gives %d events; want the one that has exactly %q", q, len(got), text)
			}
		}
		after := b.settledNow()
		for _, c := range []es.Criterion{{Names: []string{text}}, {Tags: []string{text}}} {
			b.conflictsOver(unless("decision-1", es.Condition{Match: []es.Criterion{c}}), 0, 1)
			b.must(es.Append{Unless: []es.Condition{{Match: []es.Criterion{c}, After: after}}})
		}
	}
}

func streamBounds(b *eventBench) {
	b.put("other-1", es.Any, some("other-1", 7)...)
	events := some("bound-1", 5)
	b.put("bound-1", es.Any, events...)
	for after := range int64(8) {
		for upTo := range int64(8) {
			for _, limit := range []int{0, 1, 2, 5, 6} {
				for _, reverse := range []es.Query{{}, {Reverse: true}} {
					q := es.Query{Stream: "bound-1", After: after, UpTo: upTo, Limit: limit, Reverse: reverse.Reverse}
					want := model(b.numbered(events), q)
					got := b.read(q)
					if len(got) != len(want) {
						b.Fatalf("read %+v gives %d events, want %d", q, len(got), len(want))
					}
					for i, m := range got {
						if m.ID != want[i].ID || m.Version != want[i].Version {
							b.Fatalf("read %+v gives version %d at %d, want %d", q, m.Version, i, want[i].Version)
						}
					}
				}
			}
		}
	}
}

// numbered returns copies of a stream's events with the versions that they have.
func (b *eventBench) numbered(events []*es.Message) []*es.Message {
	copies := make([]*es.Message, len(events))
	for i, m := range events {
		copies[i] = m.Clone()
		copies[i].Version = int64(i + 1)
	}
	return copies
}

func notThereIsEmpty(b *eventBench) {
	empty := func(q es.Query) {
		b.Helper()
		if got := b.read(q); len(got) != 0 {
			b.Errorf("read %+v gives %d events, want none", q, len(got))
		}
	}
	queries := []es.Query{
		{Stream: "none-1"}, {Stream: "none-1", After: 10}, {Stream: "none-1", UpTo: 10}, {Stream: "none-1", Reverse: true},
		{Category: "none"}, {Names: []string{"Never"}}, {Tags: []string{"never"}}, {Any: []es.Criterion{{Tags: []string{"never"}}}},
		{Category: "none", Reverse: true, Limit: 1}, {Names: []string{"Never"}, Unsettled: true},
	}
	for _, q := range append(queries, es.Query{}, es.Query{Unsettled: true}, es.Query{Reverse: true}) {
		empty(q) // of a store that is empty
	}
	b.put("some-1", es.Any, made("some-1", "Happened", "tag"), made("some-1", "Happened"))
	after := b.settledNow()
	for _, q := range append(queries,
		es.Query{After: after}, es.Query{Stream: "some-1", After: 2}, es.Query{Stream: "some-1", After: 1000},
		es.Query{Stream: "some-1", Names: []string{"Never"}}, es.Query{Category: "some", Tags: []string{"tag", "never"}},
	) {
		empty(q)
	}
}

func brokenQueries(b *eventBench) {
	b.put("some-1", es.Any, some("some-1", 1)...)
	for _, q := range []es.Query{
		{After: -1}, {UpTo: -1}, {Limit: -1}, {Stream: "some-1", Category: "some"}, {Stream: "some\x01"}, {Category: "\xff"},
		{Stream: "some-1", After: -1}, {Names: []string{""}}, {Tags: []string{"ok", ""}},
		{Any: []es.Criterion{{}, {Tags: []string{"nul\x00"}}}},
	} {
		if got, err := readAll(b.ctx, b.store, q); len(got) != 0 || !isInvalid(err) {
			b.Errorf("read %+v gives %d events and %v; want an ErrInvalid", q, len(got), err)
		}
	}
}

// manyPages reads a history that no backend reads in one piece, with limits and bounds on and around round numbers.
func manyPages(b *eventBench) {
	const batches = 6
	each := min(500, b.limits().EventsPerAppend)
	streams := []string{"page-1", "page-2", "other-1"}
	for i := range batches {
		var a es.Append
		for j, stream := range streams {
			events := some(stream, each/len(streams))
			for k, m := range events {
				m.Name = fmt.Sprintf("N%d", k%5)
				if k%50 == j {
					m.Tags = []string{"rare"}
				}
			}
			a.Streams = append(a.Streams, es.StreamAppend{Stream: stream, Expect: es.Exactly(int64(i * len(events))), Events: events})
		}
		b.must(a)
	}
	all := b.all()
	if want := batches * (each / len(streams)) * len(streams); len(all) != want {
		b.Fatalf("there are %d events, want %d", len(all), want)
	}
	b.settled(b.lastOf(all))
	for _, q := range []es.Query{
		{}, {Unsettled: true}, {Stream: "page-1"}, {Category: "page"}, {Names: []string{"N3"}}, {Tags: []string{"rare"}},
		{Category: "page", Tags: []string{"rare"}}, {Any: []es.Criterion{{Names: []string{"N1"}}, {Tags: []string{"rare"}}}},
	} {
		for _, limit := range []int{0, 99, 100, 101, 255, 256, 257, 511, 512, 513, 999, 1000, 1001, 2000} {
			q.Limit, q.Reverse, q.After, q.UpTo = limit, false, 0, 0
			b.agrees(all, q)
			q.Reverse = true
			b.agrees(all, q)
			q.After = 150
			if q.Stream == "" {
				q.After = all[150].Position
			}
			b.agrees(all, q)
			q.Reverse, q.UpTo = false, q.After+700
			b.agrees(all, q)
		}
	}
	// A reader that takes a page at a time sees the whole.
	for _, page := range []int{1, 7, 100, 1000} {
		var seen []*es.Message
		for q := (es.Query{Limit: page, After: all[len(all)-60].Position}); ; {
			got := b.read(q)
			if len(got) == 0 {
				break
			}
			seen = append(seen, got...)
			q.After = got[len(got)-1].Position
		}
		b.same(seen, all[len(all)-59:], fmt.Sprintf("in pages of %d", page))
	}
}
