package processor

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Config is how a processor works. Outbox and Events are required; for everything else the zero value means the default.
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
	// Batch is the largest number of entries in hand at a time, and with the size of the messages it bounds the memory. The
	// default is 256.
	Batch int
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
	// Logger is told about retries (warnings) and dead letters (errors). The default discards.
	Logger *slog.Logger
}

// Retry says how often and when to try again. The zero value means the defaults.
type Retry struct {
	// Attempts is how often publishing a message is tried before it becomes a dead letter. The default is 10, which with the
	// default delays takes about a minute. Appending is tried for as long as it can help: the message is nowhere else yet.
	//
	// The processor counts by itself and in memory, because the outbox counts the attempts at appending too, and a store that
	// was down must not use up those at publishing. A processor that takes over counts from the beginning.
	Attempts int
	// Base is the delay after the first failure. It doubles with each further one up to Max; the actual delay is drawn between
	// half of that and all of it, so that what failed together does not come back together. The defaults are 100 milliseconds
	// and 30 seconds.
	Base, Max time.Duration
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

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "processor"
	}
	if c.Topic == nil {
		c.Topic = (*es.Message).Category
	}
	if c.DeadStream == "" {
		c.DeadStream = "dead"
	}
	if c.Batch == 0 {
		c.Batch = 256
	}
	if c.Retry.Attempts == 0 {
		c.Retry.Attempts = 10
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.PollInterval, time.Second},
		{&c.Lease, 30 * time.Second},
		{&c.Retry.Base, 100 * time.Millisecond},
		{&c.Retry.Max, max(30*time.Second, c.Retry.Base)},
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

// validate joins an error for each field that is wrong.
func (c Config) validate() error {
	var errs []error
	wrong := func(broken bool, what, format string, args ...any) {
		if broken {
			errs = append(errs, es.Invalidf(what, format, args...))
		}
	}
	wrong(c.Outbox == nil, "processor", "has no Outbox; it takes its messages from one")
	wrong(c.Events == nil, "processor", "has no Events; it appends its messages to an event store")
	if err := es.ValidateName("processor name", c.Name); err != nil {
		errs = append(errs, err)
	}
	const most = es.MaxNameBytes - ownerSuffix
	wrong(len(c.Name) > most, "processor name", "has %d bytes; at most %d are allowed", len(c.Name), most)
	if err := es.ValidateName("dead stream", c.DeadStream); err != nil {
		errs = append(errs, err)
	}
	wrong(c.PollInterval < time.Millisecond, "poll interval", "is %v; it takes 1ms or more", c.PollInterval)
	wrong(c.Batch < 1, "batch", "is %d entries; it takes 1 or more", c.Batch)
	wrong(c.Lease < time.Millisecond, "lease", "is %v; it takes 1ms or more", c.Lease)
	wrong(c.Retry.Attempts < 1, "retry attempts", "are %d; it takes 1 or more", c.Retry.Attempts)
	wrong(c.Retry.Base < 0, "retry base", "is %v; it takes a duration above 0", c.Retry.Base)
	wrong(c.Retry.Max < c.Retry.Base, "retry maximum", "is %v, less than the base of %v", c.Retry.Max, c.Retry.Base)
	wrong(c.AfterDeadLetter != Continue && c.AfterDeadLetter != Park, "policy after a dead letter",
		"is %d; it takes Continue or Park", c.AfterDeadLetter)
	wrong(c.UnhealthyAfter < 0, "unhealthy after", "is %v; it takes a duration above 0", c.UnhealthyAfter)
	wrong(c.MaxLag < 0, "maximal lag", "is %v; it takes 0 for none, or more", c.MaxLag)
	return errors.Join(errs...)
}

// delay is how long to wait after the given number of failures.
func (r Retry) delay(failures int) time.Duration {
	d := r.Base
	for ; failures > 1 && d < r.Max; failures-- {
		d *= 2
	}
	d = min(d, r.Max)
	return d - rand.N(d/2+1)
}
