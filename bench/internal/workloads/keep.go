package workloads

import (
	"context"
	"runtime"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

const (
	million      = 1_000_000
	payloadAlone = "the payloads alone"
)

func logMemory() measure.Workload {
	return measure.Workload{
		Name:  "log-memory",
		Title: "memory of a million in-memory events of 256 bytes, bytes an event",
		About: "A million events are appended, to 1,024 streams, and the heap is looked at after a collection: the log with " +
			"its indexes, the identities and the rest of the messages against the bytes of the payloads. All events are read back.",
		Unit:     measure.Kept,
		Messages: million,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Run: keepOurs, How: "EventStore of memory.New()"},
			{Name: payloadAlone, Run: keepPayloads, How: "one slice of bytes with all payloads"},
			{Name: bareSlice, Run: keepBare, Aside: true, How: "the bare slice of the line above: identity, stream and a copy of the payload"},
		},
		Floors: []measure.Floor{
			{Against: payloadAlone, Ratio: 1 / 1.6, Why: "1.6 times the bytes of the payloads at most; the goal is 1.3 times"},
		},
	}
}

func keepOurs(ctx context.Context, n int) (measure.Result, error) {
	before := measure.Heap()
	backend := memory.New()
	defer backend.Close()
	all := newAppenders(n)
	for _, a := range all {
		for i := range a.count {
			if _, err := backend.Events().Append(ctx, a.event(i)); err != nil {
				return measure.Result{}, err
			}
		}
	}
	kept := measure.Heap() - before
	faults, err := readBack(ctx, backend.Events(), all)
	return measure.Result{Kept: kept, Faults: faults}, err
}

func keepPayloads(_ context.Context, n int) (measure.Result, error) {
	before := measure.Heap()
	payloads := make([]byte, 0, n*payloadBytes)
	all := newAppenders(n)
	for _, a := range all {
		for i := range a.count {
			payloads = append(payloads, a.event(i).Streams[0].Events[0].Data...)
		}
	}
	kept := measure.Heap() - before
	ledger := measure.NewLedger(n, 1)
	for ; len(payloads) > 0; payloads = payloads[payloadBytes:] {
		ledger.Take(numberOf(payloads))
	}
	runtime.KeepAlive(all)
	return measure.Result{Kept: kept, Faults: ledger.Close()}, nil
}

func keepBare(_ context.Context, n int) (measure.Result, error) {
	before := measure.Heap()
	var log bareLog
	all := newAppenders(n)
	for _, a := range all {
		for i := range a.count {
			log.append(a.event(i).Streams[0].Events[0])
		}
	}
	kept := measure.Heap() - before
	ledger := measure.NewLedger(n, 1)
	for _, e := range log.events {
		ledger.Take(numberOf(e.data))
	}
	runtime.KeepAlive(all)
	return measure.Result{Kept: kept, Faults: ledger.Close()}, nil
}
