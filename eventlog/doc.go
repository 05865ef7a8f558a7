// Package eventlog makes any event store with leases a durable broker: a [Log] is an [es.Publisher] and an [es.Subscriber] whose
// topics are the categories of the store. Nothing is copied, and nothing can be lost between store and broker, because they are
// the same thing.
//
// A consumer group shares its messages among all processes that subscribe to it. It is cut into partitions by a hash of the
// ordering key; each partition belongs to one member of the group at a time. What a group has handled is kept in documents of the
// backend's read models, one for each partition: up to where it has read, and what of that is not handled yet, with the attempts.
// Every change of it is one commit under the member's lease, whose token is the fence: a member whose lease is over cannot change
// anything any more, whatever it believes.
package eventlog
