package eventsourcing

import (
	"context"
	"slices"

	"github.com/google/uuid"
)

// Query selects events. What is set must all be met; the zero value selects everything.
type Query struct {
	// Stream selects one stream. After and UpTo are then versions.
	Stream string
	// Category selects the streams of a category; see [Category].
	Category string
	// Names selects events with one of these names.
	Names []string
	// Tags selects events that have all of these tags.
	Tags []string
	// Any selects events that match one of these criteria.
	Any []Criterion
	// After and UpTo bound the positions, or with Stream the versions: beyond After, up to and including UpTo. An UpTo of 0
	// means as far as there is; in the global order a read ends at the settled head in any case, unless Unsettled is set.
	After, UpTo int64
	// Limit is the largest number of events; 0 means all.
	Limit int
	// Reverse gives the newest first. After and UpTo keep their meaning.
	Reverse bool
	// Unsettled also gives events of the global order that are committed and beyond the settled head. It is for decisions
	// (see [ReadForDecision]) and not for readers that keep a checkpoint: they would skip what settles later.
	Unsettled bool
	// Incarnation, when it is set, must be the store's; see [Query.Resume].
	Incarnation uuid.UUID
}

// Resume returns q going on after a checkpoint.
func (q Query) Resume(c Checkpoint) Query {
	q.After, q.Incarnation = c.Position, c.Incarnation
	return q
}

// Validate checks a query against the rules that hold on every backend.
func (q Query) Validate() error {
	switch {
	case q.After < 0 || q.UpTo < 0:
		return Invalidf("query", "is bounded by %d and %d; bounds are 0 or more", q.After, q.UpTo)
	case q.Limit < 0:
		return Invalidf("query", "has the limit %d; it is 0 for all, or more", q.Limit)
	case q.Stream != "" && q.Category != "":
		return Invalidf("query", "has both a stream and a category; a stream has only one category")
	}
	if q.Stream != "" {
		if err := ValidateName("stream", q.Stream); err != nil {
			return err
		}
	}
	if q.Category != "" {
		if err := ValidateName("category", q.Category); err != nil {
			return err
		}
	}
	if err := (Criterion{Names: q.Names, Tags: q.Tags}).validate(); err != nil {
		return err
	}
	for _, c := range q.Any {
		if err := c.validate(); err != nil {
			return err
		}
	}
	return nil
}

// Matches tells whether a message is of the stream or category, and has the names and tags, that q selects. It does not look
// at the bounds.
func (q Query) Matches(m *Message) bool {
	if q.Stream != "" && m.Stream != q.Stream {
		return false
	}
	if q.Category != "" && Category(m.Stream) != q.Category {
		return false
	}
	if !(Criterion{Names: q.Names, Tags: q.Tags}).Matches(m) {
		return false
	}
	return len(q.Any) == 0 || MatchesAny(q.Any, m)
}

// Criterion selects events by name and tags: those with one of the names, if there are any, and with all of the tags.
// The zero value selects every event.
type Criterion struct {
	Names, Tags []string
}

// Matches tells whether a message meets c.
func (c Criterion) Matches(m *Message) bool {
	if len(c.Names) > 0 && !slices.Contains(c.Names, m.Name) {
		return false
	}
	for _, tag := range c.Tags {
		if !slices.Contains(m.Tags, tag) {
			return false
		}
	}
	return true
}

func (c Criterion) validate() error {
	for _, name := range c.Names {
		if name == "" || len(name) > MaxNameBytes {
			return Invalidf("criterion", "has a name of %d bytes; it takes 1 to %d", len(name), MaxNameBytes)
		}
		if err := validateText("criterion name", name); err != nil {
			return err
		}
	}
	for _, tag := range c.Tags {
		if err := validateTag(tag); err != nil {
			return err
		}
	}
	return nil
}

// MatchesAny tells whether a message meets one of the criteria.
func MatchesAny(criteria []Criterion, m *Message) bool {
	for _, c := range criteria {
		if c.Matches(m) {
			return true
		}
	}
	return false
}

// Condition fails an append when events match that the maker of the decision has not seen.
//
// After is the settled head when it began to read, and Seen the number of matches it then saw beyond it. "Nothing after the
// last position I read" would not do: it misses an event whose position was drawn before that read and committed after it.
//
// Hidden events (see [StreamEditor]) match nothing, and with a Seen of 0 they do not matter at all. With a Seen above 0, others
// may stand in the place of events that were seen and are hidden since: a store must not take these for those, and may call
// the append a conflict whenever something beyond After is hidden.
//
// [ReadForDecision] makes conditions; nobody should have to make one by hand.
type Condition struct {
	// Match says which events matter: those that meet one of the criteria. A zero Criterion stands for every event.
	Match []Criterion
	After int64
	Seen  int
}

// Validate checks a condition against the rules that hold on every backend.
func (c Condition) Validate() error {
	if len(c.Match) == 0 {
		return Invalidf("condition", "has no criterion; a zero Criterion stands for every event")
	}
	if c.After < 0 || c.Seen < 0 {
		return Invalidf("condition", "has After %d and Seen %d; both are 0 or more", c.After, c.Seen)
	}
	for _, criterion := range c.Match {
		if err := criterion.validate(); err != nil {
			return err
		}
	}
	return nil
}

// ReadForDecision reads every committed event that meets one of the criteria, in order, and returns the condition under which
// a decision made from them may be appended: that nothing else matching has been committed since. The first error, the
// store's or that of fn, ends it.
func ReadForDecision(ctx context.Context, store EventStore, match []Criterion, fn func(*Message) error) (Condition, error) {
	condition := Condition{Match: match}
	if err := condition.Validate(); err != nil {
		return Condition{}, err
	}
	head, err := store.Head(ctx) // before the read: what is committed behind it from now on counts as not seen
	if err != nil {
		return Condition{}, err
	}
	condition.After = head.Position
	for m, err := range store.Read(ctx, Query{Any: match, Unsettled: true}) {
		if err != nil {
			return Condition{}, err
		}
		if m.Position > condition.After {
			condition.Seen++
		}
		if err := fn(m); err != nil {
			return Condition{}, err
		}
	}
	return condition, nil
}
