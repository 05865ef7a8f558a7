package estest

import (
	"context"
	"strings"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeDeadLetterLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("R5/a_dead_letter_has_all_the_facts", runtimeLetterFacts),
		runtimeLine("R5/a_dead_letter_names_its_original", runtimeLetterIdentity),
		runtimeLine("R5/a_panic_has_its_stack", runtimeLetterStack),
		runtimeLine("R5/what_cannot_be_buried_is_not_lost", runtimeLetterNotSent),
		runtimeLine("R5/one_dead_letter_although_the_answer_was_lost", runtimeOneLetter),
		runtimeLine("R7/a_panic_is_a_failure_like_any_other", runtimePanic),
		runtimeLine("R7/a_panic_without_recover_harms_nobody", runtimeBarePanic),
	}
}

// dying lets one message fail for good in a route, and returns it, its dead letter and the record in that.
func (p *program) dying(cause error) (original, letter *es.Message, record es.DeadLetterRecord) {
	p.Helper()
	p.process()
	p.serve(p.journal().failing("a1", failTimes(1000, cause)), router.Options{
		Name: "shipping", Middleware: []es.Middleware{p.retry(2), p.parts.Recover(middleware.RecoverConfig{})},
	})
	original = p.message("a", "a1")
	original.CorrelationID = "conversation"
	original.Tags, original.Metadata = []string{"of:somebody"}, map[string]string{"tenant": "one"}
	p.publish(original)
	msgs, records := p.awaitLetters(1)
	return original, msgs[0], records[0]
}

func runtimeLetterFacts(t *runtimeTest) {
	before := es.Timestamp(time.Now())
	m, _, r := t.open().dying(errBoom)
	if r.Topic != runtimeTopic || r.Group != "shipping" || r.Handler != "shipping" || r.Attempts != 2 || r.Original.Stream != m.Stream {
		t.Errorf("the dead letter is of topic %q, group %q, handler %q, stream %q after %d attempts; want %q, %q, %q, %q, 2",
			r.Topic, r.Group, r.Handler, r.Original.Stream, r.Attempts, runtimeTopic, "shipping", "shipping", m.Stream)
	}
	if !strings.Contains(r.Error, errBoom.Error()) {
		t.Errorf("the error is %q, want it to say %q", r.Error, errBoom)
	}
	if r.Time.Before(before) || r.Time.After(time.Now()) {
		t.Errorf("it failed at %v, which was between %v and now", r.Time, before)
	}
	got := r.Original.Message()
	if !got.SameContent(m) || got.ID != m.ID || got.CorrelationID != m.CorrelationID || !got.Time.Equal(m.Time) ||
		got.Metadata["tenant"] != "one" || len(got.Tags) != 1 {
		t.Errorf("the original is %+v, want %+v", got, m)
	}
}

func runtimeLetterIdentity(t *runtimeTest) {
	m, letter, r := t.open().dying(errBoom)
	if letter.ID == m.ID {
		t.Error("the dead letter has the ID of its original")
	}
	if letter.CausationID != m.ID.String() || r.Original.ID != m.ID || letter.CorrelationID != m.CorrelationID {
		t.Errorf("the dead letter has the cause %q, the original %s and the conversation %q; want %s, %s, %q",
			letter.CausationID, r.Original.ID, letter.CorrelationID, m.ID, m.ID, m.CorrelationID)
	}
}

func runtimeLetterStack(t *runtimeTest) {
	p := t.open()
	p.process()
	p.serve(t.journal().handler(panickingHandler), with(t.retry(1), t.parts.Recover(middleware.RecoverConfig{})))
	p.publish(t.messages("a1")...)
	_, records := p.awaitLetters(1)
	if r := records[0]; !strings.Contains(r.Error, "a bug") || !strings.Contains(r.Stack, "panickingHandler") {
		t.Fatalf("the dead letter of a panic has the error %q and the stack %q, want what it said and where it was", r.Error, r.Stack)
	}
}

func panickingHandler(context.Context, *es.Delivery, int) ([]*es.Message, error) { panic("a bug") }

// runtimeLetterNotSent has the sending of dead letters fail. The message is not done before its dead letter is sent.
func runtimeLetterNotSent(t *runtimeTest) {
	p := t.open()
	p.process()
	const failures = 2
	p.failEnqueues(failures)
	saw := t.journal()
	r := p.serve(saw.failing("a1", func(int) error { return es.DeadLetter(errBoom) }), router.Options{})
	p.publish(t.messages("a1", "a2")...)
	saw.want("a1", "a1", "a1", "a2")
	p.wantLetters("a1")
	t.until("the failures are counted", func() bool { s := r.Stats()[0]; return s.Dead == 1 && s.Failed == failures })
}

// runtimeOneLetter loses the answer of the outbox to a dead letter, so that it is sent again when it is stored already.
func runtimeOneLetter(t *runtimeTest) {
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
	again := newGate()
	p.serve(saw.handler(func(ctx context.Context, d *es.Delivery, n int) ([]*es.Message, error) {
		switch {
		case runtimeText(d.Message) != "a1":
			return nil, nil
		case n == 2:
			if err := again.pass(ctx); err != nil {
				return nil, err
			}
		}
		return nil, es.DeadLetter(errBoom)
	}), router.Options{})
	p.publish(t.messages("a1", "a2")...)
	t.wait("the message comes again", again.reached)
	if saw.seen()[0].First.IsZero() {
		t.Skip("the broker does not know when a message was first delivered, by which its dead letter is known again")
	}
	p.wantLetters("a1")
	p.awaitEmptyOutbox()
	again.open()
	saw.want("a1", "a1", "a2")
	p.awaitEmptyOutbox()
	p.wantLetters("a1")
}

func runtimePanic(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	var told []error
	telling := around(func(ctx context.Context, d *es.Delivery, next es.Handler) ([]*es.Message, error) {
		outputs, err := next.Handle(ctx, d)
		if err != nil {
			told = append(told, err)
		}
		return outputs, err
	})
	p.serve(saw.failing("a1", panicOnce), with(telling, t.retry(5), t.parts.Recover(middleware.RecoverConfig{})))
	p.publish(t.messages("a1", "a2", "b1")...)
	saw.await(4)
	saw.wantKey("a", "a1", "a1", "a2")
	saw.wantKey("b", "b1")
	if len(told) != 1 {
		t.Fatalf("around retry and recover a panic looks like %v, want one failure", told)
	}
	if verdict, _ := es.Judge(told[0]); verdict != es.VerdictRetry {
		t.Fatalf("around retry and recover a panic looks like %v, want one that is retried", told[0])
	}
}

func panicOnce(n int) error {
	if n == 1 {
		panic("a bug")
	}
	return nil
}

func runtimeBarePanic(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	r := p.serve(saw.failing("a1", panicOnce), router.Options{})
	p.publish(t.messages("a1", "a2", "b1")...)
	saw.await(4)
	saw.wantKey("a", "a1", "a1", "a2")
	saw.wantKey("b", "b1")
	t.ok(r.Health(t.ctx), "health of the router after a panic")
}
