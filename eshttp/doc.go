// Package eshttp joins a program's components and its web server: [Run] starts processors, routers and projections before the
// server listens, and stops them after it has drained.
//
//	mux := http.NewServeMux()
//	mux.HandleFunc("POST /orders", place)
//	mux.Handle("/", eshttp.Health(router, processor)) // /livez and /readyz
//	err := eshttp.Run(ctx, eshttp.Config{Handler: mux, Components: []es.Component{router, processor}})
//
// [Command] and [Query] make endpoints of command and query handlers: each command is carried out once, however often its request
// comes, and who has changed something can ask for an answer that has it. [Live] shows what changes, as server-sent events.
//
// Errors are told as problems, application/problem+json after RFC 9457. [Error] makes one of any error: those of the toolkit
// have a status each, and of all others nothing is told but that there was one. [ReadJSON] and [DecodeJSON] read a body of
// limited size and depth, and say what is wrong with one that they do not take.
package eshttp
