package workloads

import (
	"context"
	"errors"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

func postgresOutboxToHandler(m *models) measure.Workload {
	p := databasePlan{models: m, callers: 1}
	return measure.Workload{
		Name:  "postgres-outbox-handler",
		Title: "PostgreSQL: from Enqueue to the handler, at 500 messages a second",
		About: "Every 2 milliseconds a message is enqueued. An at-least-once processor appends it and publishes it in memory, and a router " +
			"brings it to the handler. The time is that from the call of Enqueue to that of the handler. Each message is handled once, in the " +
			"order of its stream.",
		Unit:     measure.Latency,
		Messages: handedMessages,
		Contenders: []measure.Contender{
			{
				Name: measure.Ours, Open: p.handing,
				How: "postgres.Open, processor.NewAtLeastOnce, memory.PubSub and router.New with their defaults",
			},
			{
				Name: threeCommits, Open: p.threeCommits,
				How: "three times what a bare INSERT takes at the same pace, and a millisecond",
			},
		},
		Floors: []measure.Floor{
			{Against: threeCommits, Ratio: 0.5, Why: "to enqueue, claim and forward is a commit each, of several statements; 1 is aimed at"},
		},
	}
}

func (p databasePlan) handing(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	d, _, err := p.copied(ctx, s)
	if err != nil {
		return nil, err
	}
	ours, err := openOurDatabase(ctx, d, 1)
	if err != nil {
		return nil, errors.Join(err, d.drop())
	}
	h, err := newHanding(ctx, ours.handles[0])
	if err != nil {
		_, closing := ours.close()
		return nil, errors.Join(err, closing, d.drop())
	}
	h.discard = d.drop
	return h, nil
}

func (p databasePlan) threeCommits(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	d, plan, err := p.copied(ctx, s)
	if err != nil {
		return nil, err
	}
	bare, err := openBareDatabase(ctx, d, 1)
	if err != nil {
		return nil, errors.Join(err, d.drop())
	}
	return &threeCommitsOf{
		file: bare, message: newEvent(), discard: func(string) error { return d.drop() },
		total: uint64(plan.events + plan.streams), //nolint:gosec // a count; the streams from there on are new
	}, nil
}
