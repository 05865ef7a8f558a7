package eventsourcing

import "time"

// Backend groups the roles that one engine plays. A role that it does not play is nil.
type Backend interface {
	Events() EventStore
	Outbox() Outbox
	ReadModels() ReadModels
	Dedupe() Dedupe
	Leases() Leases
	Snapshots() Snapshots
	Capabilities() Capabilities
	// Close waits for the writes that are under way and ends everything else. Afterwards every call of every role is
	// [ErrClosed]. Closing twice is fine.
	Close() error
}

// Capabilities say what an engine can do, so that a program finds out when it starts and not in the middle.
type Capabilities struct {
	// Name of the engine, such as "memory".
	Name string
	// Durable: what was acknowledged survives kill -9 of the process. SurvivesPowerLoss: and loss of power.
	Durable, SurvivesPowerLoss bool
	// Shared: several processes may use it at once.
	Shared bool
	// WakeUp is how long it takes at the 99th percentile until another process is told of something new; 0 when not Shared.
	WakeUp time.Duration
	// Edits: streams can be truncated, deleted and erased from; see [StreamEditor].
	Edits bool
	// Limits are the largest sizes it takes.
	Limits Limits
}
