// Package projection brings the events of a store into read models, each event with its effect exactly once.
//
// A [Projection] reads the global order from its checkpoint, hands the events to handlers, and commits what they changed together with
// the new checkpoint. It works in batches: a document that a thousand events of a batch change is loaded once and written once. A commit
// takes effect as a whole or not at all, and only if the checkpoint is where its maker left it. So it can be killed anywhere, be paused
// while another takes over, or run twice by mistake: what was not committed is done again from what was, and of two who do the same work
// one commits and the other goes on from there.
//
// That is why a handler changes documents, by way of its [Batch], and nothing else: it may be called again for an event when the commit
// it was part of did not come about. What must happen once in the world outside belongs into an outbox or a consumer group.
package projection
