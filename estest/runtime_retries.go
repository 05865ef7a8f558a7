package estest

import (
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeRetryLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("R4/what_fails_comes_again_as_a_further_attempt", runtimeRetried),
		runtimeLine("R4/attempts_are_bounded", runtimeAttempts),
		runtimeLine("R4/elapsed_time_is_bounded", runtimeElapsed),
		runtimeLine("R4/a_retry_blocks_no_other_key", runtimeRetryBlocksNobody),
		runtimeLine("R4/later_messages_of_the_key_wait_for_the_retry", runtimeRetryKeepsOrder),
		runtimeLine("R4/delays_grow_exponentially", runtimeBackoff),
		runtimeLine("R4/retry_after_waits_as_long_as_it_says", runtimeRetryAfter),
		runtimeLine("R4/skip_is_done", runtimeSkip),
		runtimeLine("R4/dead_letter_is_not_tried_again", runtimeDeadAtOnce(func() error { return es.DeadLetter(errBoom) })),
		runtimeLine("R4/permanent_error_is_not_tried_again", runtimeDeadAtOnce(func() error { return fmt.Errorf("boom: %w", es.ErrInvalid) })),
	}
}

// with makes options of a route with middleware.
func with(m ...es.Middleware) router.Options { return router.Options{Middleware: m} }

func runtimeRetried(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	p.serve(saw.failing("a1", failTimes(3, errBoom)), with(t.retry(10)))
	p.publish(t.messages("a1", "a2")...)
	saw.want("a1", "a1", "a1", "a1", "a2")
	for i, d := range saw.seen()[:4] {
		if d.Attempt != i+1 {
			t.Errorf("call %d is attempt %d", i+1, d.Attempt)
		}
	}
}

func runtimeAttempts(t *runtimeTest) {
	p := t.open()
	p.process()
	saw := t.journal()
	p.serve(saw.failing("a1", failTimes(1000, errBoom)), with(t.retry(3)))
	p.publish(t.messages("a1", "a2")...)
	saw.want("a1", "a1", "a1", "a2")
	p.wantLetters("a1")
}

func runtimeElapsed(t *runtimeTest) {
	p := t.open()
	p.process()
	saw := t.journal()
	retry := t.parts.Retry(middleware.RetryConfig{Attempts: -1, Elapsed: time.Nanosecond, Backoff: quickBackoff()})
	p.serve(saw.failing("a1", failTimes(1000, errBoom)), with(retry))
	p.publish(t.messages("a1", "a2")...)
	if saw.await(1)[0].First.IsZero() {
		t.Skip("the broker does not know when a message was first delivered")
	}
	saw.want("a1", "a2")
	p.wantLetters("a1")
}

// runtimeRetryBlocksNobody has one worker and a message whose retry is an hour away. Others come all the same.
func runtimeRetryBlocksNobody(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	anHour := middleware.Backoff{Base: time.Hour, Max: time.Hour, Random: func() float64 { return 1 }}
	p.serve(saw.failing("a1", failTimes(1000, errBoom)), with(t.parts.Retry(middleware.RetryConfig{Backoff: anHour})))
	p.publish(t.messages("a1")...)
	saw.await(1)
	p.publish(t.messages("a2", "b1", "c1", "b2")...)
	saw.await(4)
	saw.wantKey("a", "a1")
	saw.wantKey("b", "b1", "b2")
	saw.wantKey("c", "c1")
}

// runtimeRetryKeepsOrder has several workers, and a message that fails several times, as a plain failure and by a delay of its own.
func runtimeRetryKeepsOrder(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	o := with(t.retry(10))
	o.Concurrency = 4
	p.serve(saw.failing("a2", func(n int) error {
		switch n {
		case 1, 3:
			return es.RetryAfter(15*time.Millisecond, errBoom)
		case 2, 4:
			return errBoom
		}
		return nil
	}), o)
	p.publish(t.messages("a1", "a2", "a3", "b1", "a4", "b2")...)
	saw.await(10)
	saw.wantKey("a", "a1", "a2", "a2", "a2", "a2", "a2", "a3", "a4")
	saw.wantKey("b", "b1", "b2")
}

// runtimeBackoff draws the longest delays, and looks at how long they were.
func runtimeBackoff(t *runtimeTest) {
	p := t.open()
	const base, attempts = 10 * time.Millisecond, 4
	longest := middleware.Backoff{Base: base, Max: time.Second, Random: func() float64 { return 1 }}
	saw := t.journal()
	var returned, called []time.Time
	p.serve(saw.failing("a1", func(n int) error {
		called = append(called, time.Now())
		if n == attempts {
			return nil
		}
		returned = append(returned, time.Now())
		return errBoom
	}), with(t.parts.Retry(middleware.RetryConfig{Backoff: longest})))
	p.publish(t.messages("a1", "a2")...)
	saw.awaitCall("a2", 1)
	for i, want := 0, base; i < attempts-1; i, want = i+1, 2*want {
		if waited := called[i+1].Sub(returned[i]); waited < want-clockSlack/4 {
			t.Errorf("attempt %d came %v after the one before, want %v at least", i+2, waited, want)
		}
	}
}

func runtimeRetryAfter(t *runtimeTest) {
	p := t.open()
	const delay = 100 * time.Millisecond
	saw := t.journal()
	var returned, called time.Time
	p.serve(saw.failing("a1", func(n int) error {
		if n > 1 {
			called = time.Now()
			return nil
		}
		returned = time.Now()
		return es.RetryAfter(delay, errBoom)
	}), with(t.retry(3)))
	p.publish(t.messages("a1", "a2")...)
	saw.want("a1", "a1", "a2")
	if waited := called.Sub(returned); waited < delay-clockSlack {
		t.Fatalf("a message that was to come again after %v came after %v", delay, waited)
	}
}

func runtimeSkip(t *runtimeTest) {
	p := t.open()
	p.process()
	saw := t.journal()
	r := p.serve(saw.failing("a1", failTimes(1000, es.Skip(errBoom))), with(t.retry(3)))
	p.publish(t.messages("a1", "a2")...)
	saw.want("a1", "a2")
	t.until("both messages are done", func() bool { s := r.Stats()[0]; return s.Skipped == 1 && s.Handled == 1 })
	p.enqueue(es.NewMessage("marker", "Marker", nil)) // a dead letter would be before it
	p.awaitEvents(es.Query{Stream: "marker"}, 1)
	p.wantLetters()
}

func runtimeDeadAtOnce(failure func() error) func(t *runtimeTest) {
	return func(t *runtimeTest) {
		p := t.open()
		p.process()
		saw := t.journal()
		p.serve(saw.failing("a1", func(int) error { return failure() }), with(t.retry(5)))
		p.publish(t.messages("a1", "a2")...)
		saw.want("a1", "a2")
		_, records := p.awaitLetters(1)
		if records[0].Attempts != 1 {
			t.Fatalf("the dead letter tells of %d attempts, want 1", records[0].Attempts)
		}
	}
}
