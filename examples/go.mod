module github.com/eventsourcing-go/eventsourcing/examples

go 1.26

require github.com/eventsourcing-go/eventsourcing v0.0.0

require github.com/google/uuid v1.6.0 // indirect

replace github.com/eventsourcing-go/eventsourcing => ../
