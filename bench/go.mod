module github.com/eventsourcing-go/eventsourcing/bench

go 1.26

replace github.com/eventsourcing-go/eventsourcing => ../
