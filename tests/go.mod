module github.com/eventsourcing-go/eventsourcing/tests

go 1.26

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/eventsourcing-go/eventsourcing v0.0.0
	go.uber.org/goleak v1.3.0
	pgregory.net/rapid v1.3.0
)

require github.com/google/uuid v1.6.0

replace github.com/eventsourcing-go/eventsourcing => ../
