package estest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

func runtimeCommandLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("J8/events_of_a_command_name_it_as_their_cause", runtimeCommand),
		runtimeLine("J8/a_command_that_comes_again_changes_nothing", runtimeCommandAgain),
		runtimeLine("J8/a_command_that_comes_to_two_at_once_is_carried_out_once", runtimeCommandTwice),
		runtimeLine("J8/a_query_waits_for_what_a_command_has_changed", runtimeQuery),
	}
}

const commandTopic = "commands"

// command makes a command for a stream of a topic of its own.
func (t *runtimeTest) command(text string) *es.Message {
	return es.NewMessage(commandTopic+"-"+text[:1], "Bill", fmt.Appendf(nil, "%q", text))
}

// commands makes a handler that answers each command with two events.
func (p *program) commands() Commands {
	p.Helper()
	c, err := p.parts.Commands(es.CommandConfig{Name: "billing", Events: p.backend.Events()},
		func(_ context.Context, command *es.Message) (es.Append, error) {
			text := runtimeText(command)
			first, second := p.output(text+" first"), p.output(text+" second")
			return es.AppendTo(first.Stream, es.Any, first, second), nil
		})
	p.ok(err, "make a handler of commands")
	return c
}

func runtimeCommand(t *runtimeTest) {
	p := t.open()
	p.process()
	r := p.router()
	p.routeTo(r, commandTopic, p.commands(), with(t.retry(3)))
	p.run(r)
	first, second := t.command("a1"), t.command("b1")
	second.CorrelationID = "conversation"
	p.enqueue(first, second)
	for _, event := range p.awaitEvents(es.Query{Category: runtimeOutput}, 4) {
		command, conversation := first, first.ID.String()
		if event.Stream == runtimeOutput+"-b" {
			command, conversation = second, "conversation"
		}
		if event.CausationID != command.ID.String() || event.CorrelationID != conversation {
			t.Errorf("the event %s has the cause %q and the conversation %q, want %s and %q",
				runtimeText(event), event.CausationID, event.CorrelationID, command.ID, conversation)
		}
	}
}

// runtimeCommandAgain delivers commands twice by a route, and gives one to the handler itself once more.
func runtimeCommandAgain(t *runtimeTest) {
	p := t.open()
	p.process()
	commands := p.commands()
	r := p.router()
	p.routeTo(r, commandTopic, commands, with(unacknowledged()))
	p.run(r)
	command := t.command("a1")
	p.enqueue(command, t.command("b1"))
	t.until("both commands have come twice", func() bool { s := r.Stats()[0]; return s.Handled == 2 && s.Failed == 2 })
	result, err := commands.Do(t.ctx, command)
	t.ok(err, "repeat a command")
	events := p.events(es.Query{Category: runtimeOutput})
	if len(events) != 4 || !result.Repeated {
		t.Fatalf("two commands that came again have led to %d events, want 4; the last result is %+v", len(events), result)
	}
}

func runtimeCommandTwice(t *runtimeTest) {
	t.needsHandles()
	handlers := []Commands{t.open().commands(), t.open().commands()}
	p := t.open()
	for round := range 5 {
		command := t.command(fmt.Sprint("a", round))
		var racing sync.WaitGroup
		errs := make([]error, len(handlers))
		for i, h := range handlers {
			racing.Go(func() { _, errs[i] = h.Do(t.ctx, command) })
		}
		racing.Wait()
		t.ok(errors.Join(errs...), "a command at two handlers at once")
	}
	if events := p.events(es.Query{Category: runtimeOutput}); len(events) != 10 {
		t.Fatalf("5 commands that came to two handlers at once have led to %d events, want 10", len(events))
	}
}

// runtimeQuery asks for what a command has led to, before the read model has it.
func runtimeQuery(t *runtimeTest) {
	const projection = "bills"
	p := t.open()
	model := es.NewModel[int](p.backend.ReadModels(), projection)
	query, err := es.NewQueryHandler(es.QueryConfig{
		Waiter: t.parts.Waiter(p.backend.ReadModels(), projection), Patience: patience(t.TB),
	}, es.FromModel(model, func(key string) string { return key }))
	t.ok(err, "make a handler of queries")
	result, err := p.commands().Do(t.ctx, t.command("a1"))
	t.ok(err, "carry out a command")

	asked := make(chan struct{})
	var once sync.Once
	p.link.obey(func(string, bool) error {
		once.Do(func() { close(asked) })
		return nil
	})
	type answer struct {
		value int
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		item, err := query.AskAfter(t.ctx, "a", result.Checkpoint)
		answered <- answer{item.Value, err}
	}()
	t.wait("the query is asked", asked)
	write, err := model.Put("a", len(result.Places), es.NoStream)
	t.ok(err, "encode the document")
	t.ok(p.handle.ReadModels().Commit(t.ctx, es.Commit{
		Writes:   []es.Write{write},
		Progress: es.ProgressUpdate{Projection: projection, To: es.Progress{Generation: 1, Checkpoint: result.Checkpoint}},
	}), "commit what the projection has come to")
	if got := <-answered; got.err != nil || got.value != 2 {
		t.Fatalf("a query after the command is answered by %d, %v; want 2", got.value, got.err)
	}
}
