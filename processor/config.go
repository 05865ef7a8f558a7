package processor

import (
	"cmp"
	"errors"
	"log/slog"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// Config is how a processor works. Outbox and Events are required, for [AtMostOnce] Outbox and one of Events and Publisher; for
// everything else the zero value means the default.
type Config struct {
	// Name is for logs, for health reports and for the dead letters, which say who gave up. Processors that do the same work
	// have the same name. The default is "processor".
	Name string
	// Outbox is where the messages come from.
	Outbox es.Outbox
	// Events is the event store that they are appended to, each to its own stream, at whatever version that has.
	Events es.EventStore
	// Publisher is told of each message after it was appended. Nil publishes nothing: for programs whose handlers read the
	// event store itself.
	Publisher es.Publisher
	// Topic says where a message is published to. It is called with the message as it was stored, and must not change it. The
	// default is the category of the message's stream.
	Topic func(m *es.Message) string
	// DeadStream is the stream for what fails for good. The default is "dead".
	DeadStream string
	// PollInterval is how long a processor goes without looking when nothing wakes it. It is a fallback: outboxes wake. The
	// default is 1 second.
	PollInterval time.Duration
	// InHand is the largest number of entries in hand at a time, and with the size of the messages it bounds the memory. The
	// default is 256, and for [Batch] 16 times the size of a batch.
	InHand int
	// Lease is how long a claim is the processor's before it has to be extended, which happens after a third of it. After a
	// crash the entries wait for its end. The default is 30 seconds.
	Lease time.Duration
	// Retry says what happens to a message that could not be appended or published.
	Retry Retry
	// AfterDeadLetter says what happens to the stream of a message that failed for good. The default is [Continue].
	AfterDeadLetter Policy
	// UnhealthyAfter is how long everything must have failed, without any success between, until Health says so. The default is
	// 10 seconds.
	UnhealthyAfter time.Duration
	// MaxLag makes Health fail while the oldest entry of the outbox is older than that. The default, 0, does not look.
	MaxLag time.Duration
	// Logger is told about retries (warnings), and about dead letters and dropped messages (errors). The default discards.
	Logger *slog.Logger
}

// Retry says how often and when to try again. The zero value means the defaults.
type Retry struct {
	// Attempts is how often a message is tried, the first time included, before it is given up. What it counts, and the default,
	// are the processor's: 10 for [AtLeastOnce], where it counts the attempts at publishing; 1 for [Batch]; and always 1 for
	// [AtMostOnce].
	//
	// The processor counts by itself and in memory, because the outbox counts attempts of other kinds too, and a store that was
	// down must not use up those at publishing. A processor that takes over counts from the beginning.
	Attempts int
	// Backoff is how long to wait between attempts: at a message, and at an outbox that does not answer.
	Backoff middleware.Backoff
}

// Policy says what happens to a stream after one of its messages has become a dead letter.
type Policy int

const (
	// Continue lets the later messages of the stream go on without it.
	Continue Policy = iota
	// Park lets them wait until the dead letter is replayed or discarded; see [es.Outbox].
	Park
)

func (p Policy) String() string {
	switch p {
	case Continue:
		return "continue"
	case Park:
		return "park"
	}
	return "unknown"
}

// withDefaults fills in what is zero. How often to try, and how much to take in hand, depend on the processor.
func (c Config) withDefaults(attempts, inHand int) Config {
	if c.Name == "" {
		c.Name = "processor"
	}
	if c.Topic == nil {
		c.Topic = (*es.Message).Category
	}
	if c.DeadStream == "" {
		c.DeadStream = "dead"
	}
	if c.InHand == 0 {
		c.InHand = inHand
	}
	if c.Retry.Attempts == 0 {
		c.Retry.Attempts = attempts
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.PollInterval, time.Second},
		{&c.Lease, 30 * time.Second},
		{&c.UnhealthyAfter, 10 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// faults collects an error for each thing that is wrong.
type faults []error

func (f *faults) addf(broken bool, what, format string, args ...any) {
	if broken {
		*f = append(*f, es.Invalidf(what, format, args...))
	}
}

func (f *faults) join() error { return errors.Join(*f...) }

// check returns an error for each field that is wrong for every kind of processor.
func (c Config) check() faults {
	var f faults
	f.addf(c.Outbox == nil, "processor", "has no Outbox; it takes its messages from one")
	if err := es.ValidateName("processor name", c.Name); err != nil {
		f = append(f, err)
	}
	const most = es.MaxNameBytes - ownerSuffix
	f.addf(len(c.Name) > most, "processor name", "has %d bytes; at most %d are allowed", len(c.Name), most)
	if err := es.ValidateName("dead stream", c.DeadStream); err != nil {
		f = append(f, err)
	}
	f.addf(c.PollInterval < time.Millisecond, "poll interval", "is %v; it takes 1ms or more", c.PollInterval)
	f.addf(c.InHand < 1, "number in hand", "is %d entries; it takes 1 or more", c.InHand)
	f.addf(c.Lease < time.Millisecond, "lease", "is %v; it takes 1ms or more", c.Lease)
	f.addf(c.Retry.Attempts < 1, "retry attempts", "are %d; it takes 1 or more", c.Retry.Attempts)
	base, longest := cmp.Or(c.Retry.Backoff.Base, middleware.DefaultBackoffBase), c.Retry.Backoff.Max
	f.addf(base < 0, "retry base", "is %v; it takes a duration above 0", base)
	f.addf(longest < 0 || longest > 0 && longest < base, "retry maximum", "is %v; it takes the base of %v or more", longest, base)
	f.addf(c.AfterDeadLetter != Continue && c.AfterDeadLetter != Park, "policy after a dead letter",
		"is %d; it takes Continue or Park", c.AfterDeadLetter)
	f.addf(c.UnhealthyAfter < 0, "unhealthy after", "is %v; it takes a duration above 0", c.UnhealthyAfter)
	f.addf(c.MaxLag < 0, "maximal lag", "is %v; it takes 0 for none, or more", c.MaxLag)
	return f
}

// checkEvents is for the processors that cannot do without an event store.
func (c Config) checkEvents(f *faults) {
	f.addf(c.Events == nil, "processor", "has no Events; it appends its messages to an event store")
}
