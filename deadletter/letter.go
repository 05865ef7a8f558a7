package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The names of the messages that say what became of a dead letter. They stand in the dead stream, and their causation is the ID of
// the letter.
const (
	ReplayedName  = "DeadLetterReplayed"
	DiscardedName = "DeadLetterDiscarded"
)

// Letter is a dead letter that nobody has dealt with yet.
type Letter struct {
	// ID is that of the letter itself, and not of the message that failed, which is Original.ID.
	ID uuid.UUID
	// Version is its place in the dead stream.
	Version int64

	es.DeadLetterRecord

	// Err says why the letter cannot be decoded, when somebody else has put something into the dead stream. Such a letter has no
	// record, and can only be discarded.
	Err error
}

// OfProcessor tells whether a processor gave the message up, which is then a dead letter of its outbox too. Otherwise it was a
// route.
func (l *Letter) OfProcessor() bool { return l.Err == nil && l.Group == "" }

// Filter selects dead letters. What is set must all be met; the zero value selects all.
type Filter struct {
	// Topic and Group are those of the route that failed.
	Topic, Group string
	// Handler is the name of the route or processor that failed.
	Handler string
	// Name and Stream are those of the message that failed.
	Name, Stream string
	// Since and Before bound when it failed for good: at Since or later, and before Before.
	Since, Before time.Time
	// After is the version in the dead stream beyond which to begin: that of the last letter of the page before.
	After int64
	// Limit is the largest number of letters; 0 means all.
	Limit int
}

func (f *Filter) validate() error {
	switch {
	case f.After < 0:
		return es.Invalidf("dead letter filter", "begins after version %d; it takes 0 or more", f.After)
	case f.Limit < 0:
		return es.Invalidf("dead letter filter", "has the limit %d; it takes 0 for all, or more", f.Limit)
	}
	return nil
}

func (f *Filter) matches(l *Letter) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return is(f.Topic, l.Topic) && is(f.Group, l.Group) && is(f.Handler, l.Handler) &&
		is(f.Name, l.Original.Name) && is(f.Stream, l.Original.Stream) &&
		(f.Since.IsZero() || !l.Time.Before(f.Since)) && (f.Before.IsZero() || l.Time.Before(f.Before))
}

// read makes a letter of a message in the dead stream.
func read(m *es.Message) Letter {
	l := Letter{ID: m.ID, Version: m.Version}
	err := json.Unmarshal(m.Data, &l.DeadLetterRecord)
	if err == nil && l.Handler == "" { // which every record has
		err = errors.New("it is the record of nothing that failed")
	}
	if err != nil {
		l.DeadLetterRecord = es.DeadLetterRecord{Time: m.Time}
		l.Err = fmt.Errorf("decode dead letter %s: %w", m.ID, err)
	}
	return l
}

// settlement makes the message that says what became of a letter. There is one ID for each letter, so that it is dealt with once.
func settlement(stream, name string, letter uuid.UUID) *es.Message {
	m := es.NewMessage(stream, name, nil)
	m.ID = es.DeriveID(letter, "what became of it", 0)
	m.CausationID = letter.String()
	return m
}
