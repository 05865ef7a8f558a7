// Package eventsourcing is the vocabulary of the toolkit: the message envelope, the roles that a backend plays, and the
// values that pass between them. Import it as es:
//
//	import es "github.com/eventsourcing-go/eventsourcing"
//
// A program records what happened as messages in an [EventStore], hands work over through an [Outbox], tells others through
// a [Publisher] and a [Subscriber], and keeps what it wants to look up in [ReadModels]. Each of these is a small interface.
// The package memory implements all of them; a backend that needs a driver lives in a module of its own, so that nobody
// inherits the dependencies of a backend they do not use. The packages router, middleware, processor and eshttp put the roles
// to work and know no backend. A program starts and stops its parts, each a [Component], together: see [Group].
//
// What each role promises is written on its interface, and the package estest holds every backend to it.
//
// # Conventions
//
// Versions, positions, attempts and schema numbers count from 1; 0 means "none yet". Durations are time.Duration, sizes are
// bytes. Calls that can block take a context first and return its error when it ends. Errors are tested with errors.Is
// against the sentinels of this package ([ErrConflict], [ErrInvalid], ...); typed errors carry the facts. What has a Close
// gives [ErrClosed] to every call that comes after it, and so does every role of a closed [Backend]; to close twice is fine.
// Everything is safe for use by several goroutines at once unless its comment says otherwise.
package eventsourcing
