module github.com/eventsourcing-go/eventsourcing/watermill

go 1.26

replace github.com/eventsourcing-go/eventsourcing => ../
