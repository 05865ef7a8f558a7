// Package middleware has what routes put around their handlers: [Logging], [Metrics], [Recover], [Retry] and [Dedupe]. Each is
// made from a configuration whose zero value is sensible, is safe for use by several goroutines at once, may be shared by
// routes, and costs no allocation for a message that is handled without an error.
//
// Middleware is listed from the outside to the inside. The order that suits most routes:
//
//	r.Use(
//		middleware.Logging(middleware.LoggingConfig{Logger: logger}), // sees what becomes of the message
//		middleware.Metrics(middleware.MetricsConfig{Recorder: counters}),
//		middleware.Retry(middleware.RetryConfig{}),         // turns errors into retries and dead letters
//		middleware.Dedupe(store, middleware.DedupeConfig{}), // gives its reservation up when the handler fails
//		middleware.Recover(middleware.RecoverConfig{}),     // makes a panic an error for all of those above
//	)
//
// None of them sleeps: what is to be tried again goes back to the subscription, which knows the delay, and its worker goes on
// with other messages.
package middleware
