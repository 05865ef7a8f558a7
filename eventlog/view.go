package eventlog

import (
	"context"
	"fmt"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// View is a log restricted to some of its messages. It is an [es.Subscriber].
type View struct {
	log  *Log
	only []es.Criterion
}

var _ es.Subscriber = (*View)(nil)

// Only returns a view of the log whose subscriptions see what meets one of the criteria: messages with certain names or tags. A
// group of a view moves on to the head when nothing matches, and does not lag.
//
// The store does the choosing. What a group is restricted to belongs to it, like its ordering key: all its subscriptions use the
// same. When it changes, because a program now handles one more kind of message, it holds from where the group stands; what was
// passed over before does not come.
//
// The error is [es.ErrInvalid] without a criterion, and for a name or a tag that breaks the rules.
func (l *Log) Only(criteria ...es.Criterion) (*View, error) {
	if len(criteria) == 0 {
		return nil, es.Invalidf("view", "has no criterion; the log itself is the view of everything")
	}
	if err := (es.Query{Any: criteria}).Validate(); err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	only := make([]es.Criterion, len(criteria))
	for i, c := range criteria {
		only[i] = es.Criterion{Names: slices.Clone(c.Names), Tags: slices.Clone(c.Tags)}
	}
	return &View{log: l, only: only}, nil
}

// Subscribe opens a subscription that sees what the view selects; see [Log.Subscribe].
func (v *View) Subscribe(ctx context.Context, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
	return v.log.subscribe(ctx, topic, subscribeOptions{SubscribeOptions: opts, only: v.only})
}

// storedCriterion is a criterion in the document of a group.
type storedCriterion struct {
	Names []string `json:"names,omitempty"`
	Tags  []string `json:"tags,omitempty"`
}

// stored returns criteria as the document of a group has them.
func stored(only []es.Criterion) []storedCriterion {
	var all []storedCriterion
	for _, c := range only {
		all = append(all, storedCriterion(c))
	}
	return all
}

// criteria returns those that the document of a group has.
func (d groupDocument) criteria() []es.Criterion {
	var all []es.Criterion
	for _, c := range d.Only {
		all = append(all, es.Criterion(c))
	}
	return all
}
