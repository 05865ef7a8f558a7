package eventsourcing

import (
	"errors"
	"time"
)

// Skip tells the router that a message is done although it was not handled: it is acknowledged, and err (which may be nil)
// is logged. For messages that a handler cannot use and that nobody needs to look at.
func Skip(err error) error { return &controlError{verdict: VerdictSkip, err: err} }

// RetryAfter tells the router to deliver a message again after a delay. Later messages of the same key wait for it, other
// keys do not.
func RetryAfter(delay time.Duration, err error) error {
	return &controlError{verdict: VerdictRetry, delay: max(delay, 0), err: err}
}

// Busy tells the router that a message is in somebody else's hands at this moment: it is delivered again after a delay, and
// this was not an attempt.
func Busy(delay time.Duration, err error) error {
	return &controlError{verdict: VerdictBusy, delay: max(delay, 0), err: err}
}

// DeadLetter tells the router that a message can never be handled: it goes to the dead stream and is not tried again.
func DeadLetter(err error) error { return &controlError{verdict: VerdictDead, err: err} }

// Verdict is what is to become of a message after its handler has returned.
type Verdict int

// The verdicts.
const (
	// VerdictDone: handled; acknowledge it.
	VerdictDone Verdict = iota
	// VerdictSkip: not handled and done all the same; see [Skip].
	VerdictSkip
	// VerdictFailed: a plain error; retried by the policy in force.
	VerdictFailed
	// VerdictRetry: retried after a given delay; see [RetryAfter].
	VerdictRetry
	// VerdictBusy: given back for a while, not an attempt; see [Busy].
	VerdictBusy
	// VerdictDead: never retried; see [DeadLetter].
	VerdictDead
)

func (v Verdict) String() string {
	switch v {
	case VerdictDone:
		return "done"
	case VerdictSkip:
		return "skipped"
	case VerdictFailed:
		return "failed"
	case VerdictRetry:
		return "retry"
	case VerdictBusy:
		return "busy"
	case VerdictDead:
		return "dead"
	}
	return "unknown"
}

// Judge reads a handler's error. The outermost control error in the chain decides; its delay comes with it. Without one, an
// error is [VerdictFailed], also when it is [Permanent]: whether that ends the attempts is for the policy in force.
func Judge(err error) (Verdict, time.Duration) {
	if err == nil {
		return VerdictDone, 0
	}
	if control, ok := errors.AsType[*controlError](err); ok {
		return control.verdict, control.delay
	}
	return VerdictFailed, 0
}

// Permanent tells whether trying the same again can never help: the error is [ErrInvalid], [ErrDuplicate],
// [ErrStreamDeleted] or [ErrUnsupported], or was marked by [DeadLetter].
func Permanent(err error) bool {
	if err == nil {
		return false
	}
	if verdict, _ := Judge(err); verdict != VerdictFailed {
		return verdict == VerdictDead
	}
	return errors.Is(err, ErrInvalid) || errors.Is(err, ErrDuplicate) || errors.Is(err, ErrStreamDeleted) ||
		errors.Is(err, ErrUnsupported)
}

type controlError struct {
	verdict Verdict
	delay   time.Duration
	err     error
}

func (e *controlError) Error() string {
	text := e.verdict.String()
	if e.verdict == VerdictRetry || e.verdict == VerdictBusy {
		text += " after " + e.delay.String()
	}
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	return text
}

func (e *controlError) Unwrap() error { return e.err }
