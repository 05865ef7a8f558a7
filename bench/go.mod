module github.com/eventsourcing-go/eventsourcing/bench

go 1.26

replace github.com/eventsourcing-go/eventsourcing => ../

require (
	github.com/ThreeDotsLabs/watermill v1.5.1
	github.com/eventsourcing-go/eventsourcing v0.0.0
	github.com/google/uuid v1.6.0
)

require (
	github.com/cenkalti/backoff/v5 v5.0.3 // indirect
	github.com/lithammer/shortuuid/v3 v3.0.7 // indirect
	github.com/oklog/ulid v1.3.1 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/sony/gobreaker v1.0.0 // indirect
)
