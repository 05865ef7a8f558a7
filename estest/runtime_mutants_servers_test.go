package estest_test

import (
	"context"
	"net/http"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// hastyCommands carries commands out each time that they come.
type hastyCommands struct {
	events es.EventStore
	decide es.Decide
	stamp  bool // the events name the command as their cause
}

func (c hastyCommands) Do(ctx context.Context, command *es.Message) (es.CommandResult, error) {
	a, err := c.decide(ctx, command)
	if err != nil {
		return es.CommandResult{}, err
	}
	if c.stamp {
		for _, s := range a.Streams {
			command.Caused(s.Events...)
		}
	}
	appended, err := c.events.Append(ctx, a)
	if err != nil {
		return es.CommandResult{}, err
	}
	return es.CommandResult{Appended: appended, Checkpoint: es.Checkpoint{Position: appended.Position}}, nil
}

func (c hastyCommands) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	_, err := c.Do(ctx, d.Message)
	return nil, err
}

func brokenCommands(stamp bool) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.Commands = func(c es.CommandConfig, decide es.Decide) (estest.Commands, error) {
			return hastyCommands{c.Events, decide, stamp}, nil
		}
	})
}

// hastyWaiter does not wait.
type hastyWaiter struct{}

func (hastyWaiter) WaitFor(context.Context, es.Checkpoint) error { return nil }

func runtimeCommandMutants() []runtimeMutant {
	return []runtimeMutant{
		{"J8/events_of_a_command_name_it_as_their_cause", "appends them as they are", brokenCommands(false)},
		{"J8/a_command_that_comes_again_changes_nothing", "carries it out again", brokenCommands(true)},
		{"J8/a_command_that_comes_to_two_at_once_is_carried_out_once", "carries it out twice", brokenCommands(true)},
		{
			"J8/a_query_waits_for_what_a_command_has_changed", "does not wait",
			brokenParts(func(p *estest.Parts) { p.Waiter = func(es.ReadModels, string) es.Waiter { return hastyWaiter{} } }),
		},
	}
}

// immortal is a component that nobody sees ending.
type immortal struct{ es.Component }

func (immortal) Done() <-chan struct{} { return nil }

// brokenServe are programs whose web server runs with another configuration.
func brokenServe(change func(ctx context.Context, c *eshttp.Config) error) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.Serve = func(ctx context.Context, c eshttp.Config) error {
			c.Components = slices.Clone(c.Components)
			if err := change(ctx, &c); err != nil {
				return err
			}
			return eshttp.Run(ctx, c)
		}
	})
}

func runtimeServerMutants() []runtimeMutant {
	return []runtimeMutant{
		{
			"H1/components_start_before_and_stop_after_the_server", "starts the last first",
			brokenServe(func(_ context.Context, c *eshttp.Config) error {
				slices.Reverse(c.Components)
				return nil
			}),
		},
		{
			"H1/components_start_before_and_stop_after_the_server", "stops components before requests have ended",
			brokenServe(func(ctx context.Context, c *eshttp.Config) error {
				group := es.NewGroup("components", c.Components...)
				c.Components = nil
				context.AfterFunc(ctx, func() { _ = group.Stop(context.Background()) })
				return group.Start(ctx)
			}),
		},
		{
			"H1/the_first_failure_stops_all", "goes on",
			brokenServe(func(_ context.Context, c *eshttp.Config) error {
				for i := range c.Components {
					c.Components[i] = immortal{c.Components[i]}
				}
				return nil
			}),
		},
		{
			"H2/an_error_of_the_backend_is_a_problem", "tells everything in plain text",
			brokenParts(func(p *estest.Parts) {
				p.Problem = func(w http.ResponseWriter, _ *http.Request, err error) {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				}
			}),
		},
		{
			"H3/ready_when_every_component_runs", "is always ready",
			brokenParts(func(p *estest.Parts) { p.Health = func(...es.Component) http.Handler { return eshttp.Health() } }),
		},
		{
			"H3/not_ready_when_the_outbox_lags", "does not look",
			brokenProcessor(func(c *processor.Config) { c.MaxLag = 0 }),
		},
	}
}
