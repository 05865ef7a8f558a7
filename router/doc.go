// Package router takes messages from subscriptions, runs them through middleware to handlers, and sends what the handlers
// return.
//
//	r, err := router.New(router.Config{Subscriber: broker, Emit: router.ToOutbox(outbox)})
//	...
//	err = r.Use(middleware.Retry(middleware.RetryConfig{}), middleware.Recover(middleware.RecoverConfig{}))
//	err = r.Route("order", es.HandlerFunc(ship), router.Options{Name: "shipping", Concurrency: 8})
//	err = r.Run(ctx) // until ctx ends, and then gracefully
//
// # A message's way
//
// Each route subscribes to its topic with its name as the consumer group. Its chain is built once, when the router starts:
// the router's middleware outermost, in the order it was added, then the route's, then the step that sends what the handler
// returns, then the handler. What the chain returns decides about the message ([es.Judge]):
//
//   - nil or [es.Skip]: it is acknowledged.
//   - [es.RetryAfter]: it comes again after the delay, with Attempt raised. Later messages of its key wait for it.
//   - [es.Busy]: it comes again after the delay with the same Attempt, and holds up no worker meanwhile.
//   - [es.DeadLetter]: it goes to the dead stream, and is acknowledged when it has arrived there.
//   - any other error: it comes again after [Config].Backoff. [middleware.Retry] has a finer policy.
//   - a panic is a plain error, an [*es.PanicError] with its stack.
//
// A message whose attempts are used up ([Options].MaxAttempts), and one that cannot be decoded, is a dead letter without the
// handler being called. When a dead letter cannot be sent, the message comes again after a backoff: nothing is lost. A route
// whose topic is the dead stream makes no dead letters; what fails there is tried again without end.
//
// # Dead letters that come back
//
// A route that can make dead letters also subscribes to its [es.ReplayTopic], under the same name as its group, and takes back what
// is replayed to it and to no other route: through the same chain, with the same options, by the same workers, so that
// [Options].Concurrency holds for both together. The handler is shown the message that failed, as it was, with its own topic and
// group; attempts count from 1, and when it fails for good again that is a new dead letter. Replays of one key keep their order among
// themselves, as far as they are replayed in order; they have their turns among what the topic brings meanwhile, and another process may
// handle the two at once. What comes and is no replay of the route is a dead letter itself. [Options].NoReplays does without.
//
// # Handlers of Go values
//
// [On] makes a handler of a function that takes a Go type registered in an [es.Types], and [Switch] puts several of them, of a topic
// that carries several names, on one route.
//
// # Routes while the router runs
//
// [Router.Pause] and [Router.Resume], [Router.StopRoute] and [Router.StartRoute], and [Router.AddRoute] are for one route and leave the
// others alone. A route that is paused or stopped is no member of its group: other processes of the group get all of its messages.
// How much a group collects that has no members at all is for its backend; one in memory keeps a bounded number and drops the oldest.
// [Router.Stats] and [Router.Lags] have the figures.
//
// A handler can do all of that to its own route, but wait for it: what would wait for the handler that calls it, by the handler's own
// context, returns [es.ErrInvalid] instead. With another context it waits for ever.
//
// # What handlers return
//
// Messages that a handler returns are sent by [Config].Emit before the message counts as handled, inside the chain, so that what
// [middleware.Dedupe] calls done has been sent. They become the router's when they are returned: it sets their correlation
// and causation ([es.Message.Caused]) and their IDs, whatever the handler had set. The ID is derived from the input's ID, the
// route's name and the place among the outputs ([es.DeriveID]), so that an input which is delivered twice sends its outputs
// under the same IDs again, and they are not doubled. For that a handler has to return the same outputs, in the same order,
// for the same input; when their content differs, a store or outbox that still has the first ones turns the others down with
// [es.ErrDuplicate], which fails the handler. Outputs that come with an error are not sent.
//
// # What handlers are given
//
// The delivery is the router's and is used again when the handler has returned; its message may be kept. Its Deadline is the
// one it came with, although the router prolongs the lease of what takes long. The context carries the delivery
// ([es.DeliveryFrom]) until shortly after the handler has returned, and ends when the router is stopped and the grace period
// is over; its cause is then [ErrStopped].
package router
