package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// outcome is what is to become of a delivery. The zero value is that of one that was handled.
type outcome struct {
	answer answer
	delay  time.Duration
	reason reason
}

// reason is why; it is what the counters tell apart.
type reason uint8

const (
	handled reason = iota
	skipped
	failed
	busy
	dead
	stopped
)

// count adds an outcome to the figures.
func (l *lane) count(out outcome) {
	switch out.reason {
	case handled:
		l.stats.Handled++
	case skipped:
		l.stats.Skipped++
	case failed:
		l.stats.Failed++
	case busy:
		l.stats.Busy++
	case dead:
		l.stats.Dead++
	case stopped:
		l.stats.Released++
		l.brokenOff++
	}
}

// handle runs a delivery through the chain, unless it is not fit for that.
func (l *lane) handle(ctx context.Context, d *es.Delivery) outcome {
	switch {
	case d.Err != nil:
		return l.bury(ctx, d, fmt.Errorf("the message could not be decoded: %w", d.Err))
	case l.opts.MaxAttempts > 0 && d.Attempt > l.opts.MaxAttempts && l.canBury():
		return l.bury(ctx, d, fmt.Errorf("%w: this is attempt %d, and there are %d; an earlier one did not end",
			es.ErrAttemptsExhausted, d.Attempt, l.opts.MaxAttempts))
	}
	if err := l.call(ctx, d); err != nil {
		return l.judge(ctx, d, err)
	}
	return outcome{}
}

// call runs the chain, and makes a panic an error.
func (l *lane) call(ctx context.Context, d *es.Delivery) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &es.PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	stray, err := l.chain.Handle(ctx, d)
	if err == nil && len(stray) > 0 { // those of the handler have been sent
		return fmt.Errorf("route %q of topic %q: middleware returned %d messages of its own, which nothing sends; only a handler can",
			l.name, l.topic, len(stray))
	}
	return err
}

// judge decides about a delivery whose handler returned an error.
func (l *lane) judge(ctx context.Context, d *es.Delivery, err error) outcome {
	verdict, delay := es.Judge(err)
	if verdict == es.VerdictSkip {
		if reason := errors.Unwrap(err); reason != nil {
			l.tell(ctx, slog.LevelDebug, "message skipped", d, reason)
		}
		return outcome{answer: ack, reason: skipped}
	}
	if l.handlers.Err() != nil {
		return outcome{answer: release, reason: stopped}
	}
	switch verdict {
	case es.VerdictBusy:
		return outcome{answer: park, delay: delay, reason: busy}
	case es.VerdictDead:
		return l.bury(ctx, d, err)
	case es.VerdictFailed:
		delay = l.config.Backoff.Delay(d.Attempt)
	case es.VerdictDone, es.VerdictSkip, es.VerdictRetry: // the delay is the handler's
	}
	if l.opts.MaxAttempts > 0 && d.Attempt >= l.opts.MaxAttempts && l.canBury() {
		return l.bury(ctx, d, fmt.Errorf("%w: all %d have failed: %w", es.ErrAttemptsExhausted, d.Attempt, err))
	}
	l.tell(ctx, slog.LevelDebug, "message failed and is tried again", d, err)
	return outcome{answer: nack, delay: delay, reason: failed}
}

// judgeExit decides about a delivery whose handler ended its goroutine. It may have been what sends dead letters that did so, so none is
// sent here: when the attempts are used up that happens before the next.
func (l *lane) judgeExit(ctx context.Context, d *es.Delivery) outcome {
	if l.handlers.Err() != nil {
		return outcome{answer: release, reason: stopped}
	}
	l.tell(ctx, slog.LevelWarn, "message failed and is tried again", d, errGoexit)
	return outcome{answer: nack, delay: l.config.Backoff.Delay(d.Attempt), reason: failed}
}

// canBury tells whether there is a place for dead letters.
func (s *spec) canBury() bool { return !s.toDead && s.config.DeadLetter != nil }

// bury sends a delivery to the dead stream. When that cannot be, it comes again after a while.
func (l *lane) bury(ctx context.Context, d *es.Delivery, cause error) outcome {
	err := l.sendDeadLetter(ctx, d, cause)
	delay := time.Duration(0)
	if err != nil {
		delay = l.config.Backoff.Delay(d.Attempt)
	}
	l.mu.Lock()
	l.deadErr = newTrouble(err, delay)
	l.mu.Unlock()
	if err == nil {
		l.tell(ctx, slog.LevelWarn, "message went to the dead stream", d, cause)
		return outcome{answer: ack, reason: dead}
	}
	if l.handlers.Err() != nil {
		return outcome{answer: release, reason: stopped}
	}
	l.tell(ctx, slog.LevelError, "message failed for good and its dead letter could not be sent; trying again",
		d, errors.Join(cause, err))
	return outcome{answer: nack, delay: delay, reason: failed}
}

var (
	errDeadLetterRoute = errors.New("this is the route of the dead stream, which makes no dead letters of its own")
	errNoDeadLetters   = errors.New("the router has nowhere to send dead letters; set Config.Emit or Config.DeadLetter")
)

func (l *lane) sendDeadLetter(ctx context.Context, d *es.Delivery, cause error) (err error) {
	switch {
	case l.toDead:
		return errDeadLetterRoute
	case l.config.DeadLetter == nil:
		return errNoDeadLetters
	}
	letter, err := es.NewDeadLetter(l.config.DeadStream, l.name, d, cause)
	if err != nil {
		return err
	}
	defer func() {
		if value := recover(); value != nil {
			err = &es.PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	if err := l.config.DeadLetter(ctx, []*es.Message{letter}); err != nil && !errors.Is(err, es.ErrDuplicate) {
		return fmt.Errorf("send dead letter: %w", err)
	}
	return nil // a duplicate was sent before, and its delivery was not acknowledged
}

// tell logs what became of a delivery.
func (l *lane) tell(ctx context.Context, level slog.Level, text string, d *es.Delivery, err error) {
	if !l.log.Enabled(ctx, level) {
		return
	}
	l.log.LogAttrs(ctx, level, text, //nolint:sloglint // the callers have constant texts
		slog.String("id", d.ID.String()), slog.String("name", d.Name), slog.String("stream", d.Stream), slog.Int64("position", d.Position),
		slog.Int("attempt", d.Attempt), slog.Any("error", err))
}
