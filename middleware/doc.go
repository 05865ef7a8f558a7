// Package middleware has what routes put around their handlers. Each is made from a configuration whose zero value is sensible, is
// safe for use by several goroutines at once, may be shared by routes, and costs no allocation for a message that is handled without
// an error.
//
// Middleware is listed from the outside to the inside. The order that suits most routes, of which each leaves out what it does not
// need:
//
//	r.Use(
//		middleware.Correlation(middleware.CorrelationConfig{}),
//		middleware.DeadLetter(middleware.DeadLetterConfig{Send: router.ToOutbox(outbox), Stream: "orders.dead"}),
//		middleware.Logging(middleware.LoggingConfig{Logger: logger}),
//		middleware.Metrics(middleware.MetricsConfig{Recorder: recorder}),
//		middleware.Retry(middleware.RetryConfig{}),
//		middleware.Throttle(middleware.ThrottleConfig{Rate: 100}),
//		middleware.CircuitBreaker(middleware.BreakerConfig{}),
//		middleware.Dedupe(backend.Dedupe(), middleware.DedupeConfig{}),
//		middleware.Timeout(middleware.TimeoutConfig{}),
//		middleware.Recover(middleware.RecoverConfig{}),
//	)
//
// The reasons, from the outside:
//
//   - [Correlation] comes first, so that all that is done inside of it knows the conversation.
//   - [DeadLetter] turns what has failed for good into something that is done. Outside of logging and metrics these see the failure,
//     and outside of dedupe the message can be replayed.
//   - [Logging] and [Metrics] see what becomes of the message: outside of retry they tell a further attempt from the last one.
//   - [Retry] turns errors into further attempts and dead letters. Inside of it an error says what happened, and to be busy passes.
//   - [Throttle] and [CircuitBreaker] put messages back before there is anything to be taken back: no reservation is made for them. The
//     breaker counts what those inside of it return: timeouts and panics too.
//   - [Dedupe] gives its reservation up when anything inside of it fails, be it by a timeout or a panic.
//   - [Timeout] bounds the handler and the sending of its outputs, and nothing else. Outside of retry it would pass for a stop.
//   - [Recover] comes last, so that a panic is an error for all of those above.
//
// In a test, [Duplicate] goes outside of dedupe and [RandomFailure] and [Delay] inside of it, or innermost; see there.
//
// What is to be tried again goes back to the subscription, which knows the delay, and its worker goes on with other messages. Throttle
// and CircuitBreaker wait on a worker for a short and bounded time where nothing else of the route could go on meanwhile, and say so.
package middleware
