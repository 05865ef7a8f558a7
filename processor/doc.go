// Package processor moves messages on from an outbox: to the event store, and from there to a publisher.
//
// A processor is an [es.Component]: Start it after the backend was opened, and Stop it before the backend is closed.
// [AtLeastOnce] loses nothing and may publish a message again, with the same ID, after a crash.
//
// # One batch at a time
//
// A processor has one goroutine. It claims a batch, works on it, answers each entry of it, and claims the next; it waits only
// when there is nothing to claim. A lone entry does not wait for company, and many entries share the commits. While a batch
// takes long its leases are extended. Several processors may work on one outbox beside each other, in one process or in many:
// the outbox gives the entries of a stream to one of them at a time.
//
// What fails is given back to the outbox with a delay and does not keep the processor: other streams go on meanwhile. A
// publisher that blocks, on the other hand, does: that is how it slows down those who publish too much.
package processor
