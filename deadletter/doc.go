// Package deadletter is for those who look after what could not be handled: it lists the dead letters of a program, shows them,
// and discards or replays them, one or all.
//
//	dead, err := deadletter.New(deadletter.Config{Events: backend.Events(), Outbox: backend.Outbox()})
//	for letter, err := range dead.List(ctx, deadletter.Filter{Group: "mailer"}) { ... }
//	err = dead.Replay(ctx, letter.ID)
//
// Dead letters are messages in the dead stream of an event store, as routers and processors make them. What became of one is
// appended to the same stream, so that the stream tells the whole story: what failed, and who dealt with it when.
//
// A letter of a route is replayed to this very route: through [es.ReplayTopic], which no other route is subscribed to. A letter of
// a processor is replayed by putting its entry back into the outbox.
package deadletter
