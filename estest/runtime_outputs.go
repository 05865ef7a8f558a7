package estest

import (
	"context"
	"slices"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeOutputLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("R3/the_whole_way", runtimeWholeWay),
		runtimeLine("R3/outputs_name_their_cause_and_conversation", runtimeCausation),
		runtimeLine("R3/outputs_keep_their_order", runtimeOutputOrder),
		runtimeLine("R3/ids_of_outputs_are_derived", runtimeDerivedIDs),
		runtimeLine("R3/a_redelivered_input_does_not_double_its_outputs", runtimeNotDoubled),
		runtimeLine("R3/what_cannot_be_sent_has_failed", runtimeFailedEmit),
		runtimeLine("R3/outputs_beside_an_error_are_not_sent", runtimeNotSent),
	}
}

// runtimeWholeWay follows messages from the outbox to the store, the broker, a route, and by what that returns once more.
func runtimeWholeWay(t *runtimeTest) {
	p := t.open()
	p.process()
	orders, invoices := t.journal(), t.journal()
	r := p.router()
	p.route(r, orders.invoicing(), router.Options{})
	p.routeTo(r, runtimeOutput, invoices.succeeding(), router.Options{})
	p.run(r)
	p.enqueue(t.messages("a1", "b1", "a2")...)
	invoices.await(3)
	orders.wantInAnyOrder("a1", "a2", "b1")
	invoices.wantKey("a", "a1", "a2")
	invoices.wantKey("b", "b1")
	for _, d := range invoices.seen() {
		if d.Version == 0 || d.Position == 0 || d.Recorded.IsZero() {
			t.Errorf("an output came with version %d, position %d, recorded %v; want it as it is stored", d.Version, d.Position, d.Recorded)
		}
	}
	p.awaitEmptyOutbox()
}

func runtimeCausation(t *runtimeTest) {
	p := t.open()
	p.process()
	p.serve(t.journal().invoicing(), router.Options{})
	first, second := t.message("a", "a1"), t.message("b", "b1")
	second.CorrelationID = "conversation"
	p.publish(first, second)
	for _, out := range p.awaitEvents(es.Query{Category: runtimeOutput}, 2) {
		in, conversation := first, first.ID.String()
		if runtimeText(out) == "b1" {
			in, conversation = second, "conversation"
		}
		if out.CausationID != in.ID.String() || out.CorrelationID != conversation {
			t.Errorf("the output of %s has the cause %q and the conversation %q, want %q and %q",
				runtimeText(in), out.CausationID, out.CorrelationID, in.ID, conversation)
		}
	}
}

// severalOutputs is a handler that returns three messages of one stream and one of another.
func (j *journal) severalOutputs() es.Handler {
	return j.handler(func(_ context.Context, d *es.Delivery, _ int) ([]*es.Message, error) {
		text := runtimeText(d.Message)
		return []*es.Message{j.output(text + "x"), j.output(text + "y"), j.output("other"), j.output(text + "z")}, nil
	})
}

func runtimeOutputOrder(t *runtimeTest) {
	p := t.open()
	p.process()
	p.serve(t.journal().severalOutputs(), router.Options{})
	p.publish(t.messages("a1", "a2")...)
	var texts []string
	for _, m := range p.awaitEvents(es.Query{Stream: runtimeOutput + "-a"}, 6) {
		texts = append(texts, runtimeText(m))
	}
	if want := []string{"a1x", "a1y", "a1z", "a2x", "a2y", "a2z"}; !slices.Equal(texts, want) {
		t.Fatalf("the outputs are stored as %v, want %v", texts, want)
	}
}

func runtimeDerivedIDs(t *runtimeTest) {
	p := t.open()
	p.process()
	p.serve(t.journal().severalOutputs(), router.Options{Name: "billing"})
	in := t.message("a", "a1")
	p.publish(in)
	for _, m := range p.awaitEvents(es.Query{Category: runtimeOutput}, 4) {
		index := slices.Index([]string{"a1x", "a1y", "other", "a1z"}, runtimeText(m))
		if want := es.DeriveID(in.ID, "billing", index); m.ID != want {
			t.Errorf("output %d has the ID %s, want %s, derived from the input, the group and the index", index, m.ID, want)
		}
	}
}

// runtimeNotDoubled loses the answer of the outbox to the outputs, so that the handler counts as failed and is called again.
func runtimeNotDoubled(t *runtimeTest) {
	p := t.open()
	p.process()
	lost := false
	p.link.obey(func(call string, done bool) error {
		if call == "Outbox.Enqueue" && done && !lost {
			lost = true
			return errLost
		}
		return nil
	})
	saw := t.journal()
	p.serve(saw.invoicing(), router.Options{})
	p.publish(t.messages("a1", "a2")...)
	saw.awaitCall("a1", 2)
	saw.awaitCall("a2", 1)
	p.awaitEvents(es.Query{Stream: runtimeOutput + "-a"}, 2)
	p.awaitEmptyOutbox()
	var texts []string
	for _, m := range p.events(es.Query{Stream: runtimeOutput + "-a"}) {
		texts = append(texts, runtimeText(m))
	}
	if !slices.Equal(texts, []string{"a1", "a2"}) {
		t.Fatalf("an input was delivered twice, and the outputs are %v, want each once", texts)
	}
}

// runtimeFailedEmit has the sending of outputs fail: the handler has failed, and its message comes again as another attempt.
func runtimeFailedEmit(t *runtimeTest) {
	p := t.open()
	p.process()
	const failures = 2
	p.failEnqueues(failures)
	saw := t.journal()
	r := p.serve(saw.invoicing(), router.Options{})
	p.publish(t.messages("a1")...)
	if d := saw.awaitCall("a1", failures+1); d.Attempt != failures+1 {
		t.Fatalf("after %d failures to send its outputs the message came as attempt %d", failures, d.Attempt)
	}
	p.awaitEvents(es.Query{Stream: runtimeOutput + "-a"}, 1)
	t.until("the message counts as handled", func() bool { return r.Stats()[0].Handled == 1 })
	if s := r.Stats()[0]; s.Failed != failures {
		t.Fatalf("the figures of the route are %+v, want %d failures", s, failures)
	}
}

func runtimeNotSent(t *runtimeTest) {
	p := t.open()
	p.process()
	var failures atomic.Int64
	saw := t.journal()
	p.serve(saw.handler(func(_ context.Context, d *es.Delivery, n int) ([]*es.Message, error) {
		if n <= 2 {
			failures.Add(1)
			return []*es.Message{t.output("a of a failure")}, errBoom
		}
		return []*es.Message{t.output(runtimeText(d.Message))}, nil
	}), router.Options{})
	p.publish(t.messages("a1")...)
	outputs := p.awaitEvents(es.Query{Stream: runtimeOutput + "-a"}, 1)
	if len(outputs) != 1 || runtimeText(outputs[0]) != "a1" || failures.Load() != 2 {
		t.Fatalf("after %d failures there are %d outputs, the first of them %q; want that of the success alone",
			failures.Load(), len(outputs), runtimeText(outputs[0]))
	}
}
