package oracle

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Count is a call that reads what meets one of the criteria, as [es.ReadForDecision] does. It returns how many events these are, an int.
type Count struct {
	Match []es.Criterion
}

// Decide is a call that appends an event, on the condition that nothing more meets the criteria than what a [Count] of them has returned.
type Decide struct {
	Match []es.Criterion // none: it is appended whatever there is
	Seen  int            // what Count returned
	Tags  []string       // of the event, of "a" and "b"
}

// Decided is how a [Decide] returned.
type Decided struct {
	// Conflict says that the append was refused.
	Conflict bool
}

// Decisions is the sequential specification of decisions over the tags "a" and "b" of one event store: the input of an operation is a
// [Count] or a [Decide], its output an int or a [Decided]. See [Stream] for how long a history may be.
func Decisions() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return tagged{} },
		Step: func(state, input, output any) (bool, any) {
			t, _ := state.(tagged)
			return t.step(input, output)
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
		DescribeState:     func(state any) string { return fmt.Sprintf("events without a tag, with a, b, both: %d", state) },
	}
}

// tagged counts events: those without a tag, with a, with b, and with both.
type tagged [4]int

func (t tagged) step(input, output any) (bool, any) {
	switch call := input.(type) {
	case Count:
		got, ok := output.(int)
		return ok && got == t.count(call.Match), t
	case Decide:
		got, ok := output.(Decided)
		if !ok {
			return false, t
		}
		if len(call.Match) > 0 && t.count(call.Match) != call.Seen {
			return got.Conflict, t
		}
		t[kindOf(call.Tags)]++
		return !got.Conflict, t
	}
	return false, t
}

// count tells how many events meet one of the criteria.
func (t tagged) count(match []es.Criterion) int {
	n := 0
	for kind, events := range t {
		if es.MatchesAny(match, &es.Message{Tags: tagsOf(kind)}) {
			n += events
		}
	}
	return n
}

func tagsOf(kind int) []string { return [][]string{nil, {"a"}, {"b"}, {"a", "b"}}[kind] }

func kindOf(tags []string) int {
	kind := 0
	for _, tag := range tags {
		kind |= map[string]int{"a": 1, "b": 2}[tag]
	}
	return kind
}
