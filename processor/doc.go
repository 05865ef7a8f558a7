// Package processor moves messages on from an outbox: to the event store, and from there to a publisher.
//
// A processor is an [es.Component]: Start it after the backend was opened, and Stop it before the backend is closed. There are
// three kinds, which differ in when they tell the outbox that a message is done, and in what they do when it is not:
//
//   - [AtLeastOnce] appends, publishes, completes. A crash between two steps repeats a message, and loses none. What fails is tried
//     again; what fails for good goes to the dead stream. It is the one to take unless there is a reason for another.
//   - [AtMostOnce] completes, appends, publishes. A crash between two steps loses a message, and repeats none. What fails is dropped
//     and counted. It is for what is worth nothing when it comes late or twice.
//   - [Batch] collects the messages of a stream, and then appends, publishes and completes them together. A crash repeats a batch,
//     and loses none. What fails goes to the dead stream, the whole batch of it. It is for receivers that want many at a time and can
//     wait for them.
//
// All of them keep the order of a stream when they append and publish, and the failure of one stream is no other's. Among several
// AtMostOnce, which let go of a message before they pass it on, the order of a stream is that of each of them alone.
//
// # One claim at a time
//
// A processor has one goroutine. It claims entries, works on them, answers each of them, and claims the next; it waits only when
// there is nothing to claim. A lone entry does not wait for company, except in a Batch, and many entries share the commits. While
// the work takes long its leases are extended. Several processors, of the same and of different kinds, may work on one outbox beside
// each other, in one process or in many: the outbox gives the entries of a stream to one of them at a time. Of different kinds,
// whoever comes first does with a message what its kind does.
//
// What fails is given back to the outbox with a delay and does not keep the processor: other streams go on meanwhile. A
// publisher that blocks, on the other hand, does: that is how it slows down those who publish too much.
//
// On a stop, what is in hand is finished, or given back when there is no time for it; neither is counted as an attempt. Stats tells
// how much waits, how old the oldest of it is, and what has failed, and Health whether anything gets done.
package processor
