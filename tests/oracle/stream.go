// Package oracle tells whether what a store answered under concurrency could have come from a correct store.
package oracle

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Append is a call that appends to one stream.
type Append struct {
	Stream string
	Expect es.Expectation
	Events int
}

// Appended is how an [Append] returned. An append whose outcome is unknown has no place in a history.
type Appended struct {
	// Version is that of the stream after the append.
	Version int64
	// Conflict says that the append was refused, because of its expectation.
	Conflict bool
}

// Read is a call that reads one stream from its beginning to its end. It returns the version of the last event, an int64,
// or 0 for a stream without events.
type Read struct {
	Stream string
}

// Stream is the sequential specification of an event store, one stream at a time: the input of an operation is an [Append]
// or a [Read], its output an [Appended] or an int64.
//
// Checking is NP-complete. Keep a history below a few hundred operations on a stream, give the check a timeout, and let a
// result of porcupine.Unknown fail the test.
func Stream() porcupine.Model {
	return porcupine.Model{
		Partition: partition,
		Init:      func() any { return int64(0) },
		Step:      step,
		DescribeOperation: func(input, output any) string {
			return fmt.Sprintf("%+v: %+v", input, output)
		},
		DescribeState: func(state any) string {
			return fmt.Sprintf("version %d", state)
		},
	}
}

func step(state, input, output any) (bool, any) {
	version, _ := state.(int64)
	switch call := input.(type) {
	case Append:
		got, ok := output.(Appended)
		if !ok {
			return false, state
		}
		if !call.Expect.Holds(version) {
			return got.Conflict, version
		}
		version += int64(call.Events)
		return !got.Conflict && got.Version == version, version
	case Read:
		got, ok := output.(int64)
		return ok && got == version, version
	}
	return false, state
}

// partition splits a history by stream: streams are independent, and small histories are quick to check.
func partition(history []porcupine.Operation) [][]porcupine.Operation {
	index := make(map[string]int)
	var parts [][]porcupine.Operation
	for _, op := range history {
		var stream string
		switch call := op.Input.(type) {
		case Append:
			stream = call.Stream
		case Read:
			stream = call.Stream
		}
		i, known := index[stream]
		if !known {
			i = len(parts)
			index[stream] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], op)
	}
	return parts
}
