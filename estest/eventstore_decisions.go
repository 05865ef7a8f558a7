package estest

import (
	"errors"
	"fmt"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

func decisionLines() []eventLine {
	return []eventLine{
		onEvents("E6", "a_decision_reads_and_appends", decisionReads),
		onEvents("E6", "one_of_many_with_a_condition_wins", oneWithConditionWins),
		onEvents("E6", "one_of_many_handles_with_a_condition_wins", oneHandleWithConditionWins, needHandles()),
		onEvents("E6", "one_of_many_processes_with_a_condition_wins", oneProcessWithConditionWins, needProcesses()),
		onEvents("E6", "disjoint_tags_all_win", disjointTagsAllWin),
		onEvents("E6", "crossed_conditions_have_one_winner", crossedConditions),
		onEvents("E6", "plain_append_against_a_condition", plainAgainstCondition),
		onEvents("E6", "concurrent_deciders_keep_the_rule", decidersKeepTheRule),
	}
}

// decide reads for a decision, and returns the condition and how many events it read.
func decide(b *eventBench, store es.EventStore, match []es.Criterion) (es.Condition, int, error) {
	read := 0
	c, err := es.ReadForDecision(b.ctx, store, match, func(*es.Message) error {
		read++
		return nil
	})
	return c, read, err
}

func decisionReads(b *eventBench) {
	match := []es.Criterion{{Tags: []string{"t"}}, {Names: []string{"Also"}}}
	for round := range 10 {
		b.put("x-1", es.Any, made("x-1", "Happened", "t"), made("x-1", "Happened"), made("x-1", "Also", "u"))
		c, read, err := decide(b, b.store, match) // reads its own writes, settled or not
		if err != nil {
			b.Fatalf("ReadForDecision: %v", err)
		}
		if want := 3*round + 2; read != want {
			b.Fatalf("the decision of round %d read %d events, want %d", round, read, want)
		}
		a := es.AppendTo("x-2", es.Any, made("x-2", "Happened", "t"))
		a.Unless = []es.Condition{c}
		b.must(a)
		a = es.AppendTo("x-2", es.Any, made("x-2", "Happened"))
		a.Unless = []es.Condition{c}
		b.refused(a, es.ErrConflict)
	}
}

// raceUnless lets many append to streams of their own under the same condition, again and again.
func (b *eventBench) raceUnless(rounds, n int, try func(i int, a es.Append) error) {
	b.Helper()
	for round := range rounds {
		match := []es.Criterion{{Names: []string{"Unrelated"}}, {Tags: []string{"seat:7"}}}
		c, read, err := decide(b, b.store, match)
		if err != nil || read != round {
			b.Fatalf("ReadForDecision in round %d: %d events, %v", round, read, err)
		}
		errs := together(n, func(i int) error {
			stream := fmt.Sprintf("customer-%d-%d", round, i)
			a := es.AppendTo(stream, es.NoStream, made(stream, "Noted"), made(stream, "Reserved", "seat:7"))
			a.Unless = []es.Condition{c}
			return try(i, a)
		})
		winner := b.oneWinner(errs)
		for i := range n {
			want := 0
			if i == winner {
				want = 2
			}
			if got := len(b.stream(fmt.Sprintf("customer-%d-%d", round, i))); got != want {
				b.Fatalf("the stream of racer %d, where %d won, has %d events", i, winner, got)
			}
		}
	}
}

func oneWithConditionWins(b *eventBench) {
	b.raceUnless(20, racers, func(_ int, a es.Append) error {
		_, err := b.store.Append(b.ctx, a)
		return err
	})
}

func oneHandleWithConditionWins(b *eventBench) {
	stores := b.handles(4)
	b.raceUnless(20, racers, func(i int, a es.Append) error {
		_, err := stores[i%len(stores)].Append(b.ctx, a)
		return err
	})
}

func oneProcessWithConditionWins(b *eventBench) {
	children := b.children(4, job{Kind: jobCall})
	b.raceUnless(15, len(children)+1, func(i int, a es.Append) error {
		if i == len(children) {
			_, err := b.store.Append(b.ctx, a)
			return err
		}
		return children[i].append(b.ctx, a)
	})
}

func disjointTagsAllWin(b *eventBench) {
	for round := range 10 {
		conditions := make([]es.Condition, racers)
		for i := range conditions {
			c, _, err := decide(b, b.store, []es.Criterion{{Tags: []string{fmt.Sprintf("seat:%d", i)}}})
			if err != nil {
				b.Fatalf("ReadForDecision: %v", err)
			}
			conditions[i] = c
		}
		errs := together(racers, func(i int) error {
			stream := fmt.Sprintf("customer-%d-%d", round, i)
			a := es.AppendTo(stream, es.NoStream, made(stream, "Reserved", fmt.Sprintf("seat:%d", i)))
			a.Unless = conditions[i : i+1]
			_, err := b.store.Append(b.ctx, a)
			return err
		})
		for i, err := range errs {
			if err != nil {
				b.Fatalf("racer %d fails in round %d, although nobody else touched its tag: %v", i, round, err)
			}
		}
	}
}

// crossedConditions is write skew: each of two may act unless the other has.
func crossedConditions(b *eventBench) {
	for round := range 30 {
		tags := []string{fmt.Sprintf("left:%d", round), fmt.Sprintf("right:%d", round)}
		after := b.head().Position
		errs := together(2, func(i int) error {
			stream := fmt.Sprintf("doctor-%d-%d", round, i)
			a := es.AppendTo(stream, es.Any, made(stream, "WentHome", tags[i]))
			a.Unless = []es.Condition{{Match: []es.Criterion{{Tags: tags[1-i : 2-i]}}, After: after}}
			_, err := b.store.Append(b.ctx, a)
			return err
		})
		b.oneWinner(errs)
	}
}

// plainAgainstCondition has an append without a condition run against one with it. What the store says must be true of the
// order that everybody can see afterwards: the decision was taken before the other event was, or it was turned down.
func plainAgainstCondition(b *eventBench) {
	for round := range 30 {
		tag := fmt.Sprintf("t:%d", round)
		match := []es.Criterion{{Tags: []string{tag}}}
		c, _, err := decide(b, b.store, match)
		if err != nil {
			b.Fatalf("ReadForDecision: %v", err)
		}
		errs := together(2, func(i int) error {
			stream := fmt.Sprintf("x-%d-%d", round, i)
			a := es.AppendTo(stream, es.Any, made(stream, "Happened", tag))
			if i == 0 {
				a.Unless = []es.Condition{c}
			}
			_, err := b.store.Append(b.ctx, a)
			return err
		})
		if errs[1] != nil {
			b.Fatalf("the plain append: %v", errs[1])
		}
		if errs[0] != nil && !errors.Is(errs[0], es.ErrConflict) {
			b.Fatalf("the conditional append: %v", errs[0])
		}
		want := 1
		if errs[0] == nil {
			want = 2
		}
		if _, read, err := decide(b, b.store, match); err != nil || read != want {
			b.Fatalf("after a race of a plain and a conditional append (%v) there are %d events, want %d (%v)", errs[0], read, want, err)
		}
		// Now both are there, and the old condition cannot hold any more.
		b.refused(unless("decision-1", c), es.ErrConflict)
	}
}

// decidersKeepTheRule lets many fill a course that has room for some: read, count, append, and again after a conflict.
func decidersKeepTheRule(b *eventBench) {
	const room, students = 5, 12
	match := []es.Criterion{{Names: []string{"Subscribed", "Unsubscribed"}, Tags: []string{"course:go"}}}
	type outcome struct {
		in  bool
		err error
	}
	outcomes := together(students, func(i int) outcome {
		stream := fmt.Sprintf("student-%d", i)
		for {
			c, taken, err := decide(b, b.store, match)
			if err != nil || taken >= room {
				return outcome{false, err}
			}
			a := es.AppendTo(stream, es.NoStream, made(stream, "Subscribed", "student:"+stream, "course:go"))
			a.Unless = []es.Condition{c}
			if _, err = b.store.Append(b.ctx, a); !errors.Is(err, es.ErrConflict) {
				return outcome{err == nil, err}
			}
		}
	})
	var in []string
	for i, o := range outcomes {
		if o.err != nil {
			b.Fatalf("decider %d: %v", i, o.err)
		}
		if o.in {
			in = append(in, fmt.Sprintf("student-%d", i))
		}
	}
	var subscribed []string
	for _, m := range b.read(es.Query{Any: match, Unsettled: true}) {
		subscribed = append(subscribed, m.Stream)
	}
	slices.Sort(in)
	slices.Sort(subscribed)
	if !slices.Equal(in, subscribed) || len(in) != room {
		b.Fatalf("%v were told that they are in and %v are, of %d places", in, subscribed, room)
	}
}
