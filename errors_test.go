package eventsourcing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestTypedErrorsAreTheirSentinels(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err      error
		sentinel error
		text     string
	}{
		{es.Invalidf("stream", "is empty"), es.ErrInvalid, "invalid stream: it is empty"},
		{&es.ConflictError{Stream: "order-7", Expected: es.Exactly(3), Actual: 5}, es.ErrConflict, `"order-7" is at version 5, expected version 3`},
		{&es.ConflictError{Condition: &es.Condition{After: 9, Seen: 1}, Matches: 2}, es.ErrConflict, "2 events match the condition after position 9"},
		{&es.DuplicateError{ID: es.NewID(), Stream: "order-7", Reason: "with other content"}, es.ErrDuplicate, "order-7"},
		{&es.CheckpointError{Checkpoint: es.Checkpoint{Position: 7}, Last: es.Checkpoint{Position: 5}}, es.ErrCheckpoint, "beyond the store's last position 5"},
		{&es.CheckpointError{Checkpoint: es.Checkpoint{Incarnation: es.NewID()}, Last: es.Checkpoint{Incarnation: es.NewID()}}, es.ErrCheckpoint, "restored or replaced"},
		{&es.LeaseHeldError{Name: "p", Owner: "a", Until: time.Unix(0, 0).UTC()}, es.ErrLeaseHeld, `held by "a"`},
		{&es.RevisionError{Model: "items", Key: "k", Expected: es.NoStream, Actual: 2}, es.ErrConflict, "revision 2"},
		{&es.ProjectionError{Projection: "p"}, es.ErrConflict, `projection "p"`},
		{&es.UnknownTypeError{Name: "X", Schema: 2}, es.ErrUnknownType, `"X" (schema 2)`},
	} {
		wrapped := fmt.Errorf("outer: %w", test.err)
		if !errors.Is(wrapped, test.sentinel) {
			t.Errorf("%v is not %v", wrapped, test.sentinel)
		}
		if errors.Is(wrapped, es.ErrClosed) {
			t.Errorf("%v is ErrClosed too", wrapped)
		}
		if !strings.Contains(wrapped.Error(), test.text) {
			t.Errorf("%q does not say %q", wrapped, test.text)
		}
	}
}

func TestBatchError(t *testing.T) {
	t.Parallel()
	if err := es.BatchErr([]error{nil, nil}); err != nil {
		t.Errorf("nothing failed, and yet: %v", err)
	}
	err := es.BatchErr([]error{nil, es.ErrFull, nil, es.ErrClosed})
	if !errors.Is(err, es.ErrFull) || !errors.Is(err, es.ErrClosed) || errors.Is(err, es.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if es.Of(err, 0) != nil || !errors.Is(es.Of(err, 1), es.ErrFull) || es.Of(err, 99) != nil {
		t.Error("Of does not find each item's error")
	}
	if !errors.Is(es.Of(es.ErrClosed, 5), es.ErrClosed) || es.Of(nil, 0) != nil {
		t.Error("an error of the whole is everybody's")
	}
	if !strings.Contains(err.Error(), "2 of 4") {
		t.Errorf("%q", err)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, test := range []struct {
		err     error
		verdict es.Verdict
		delay   time.Duration
	}{
		{nil, es.VerdictDone, 0},
		{boom, es.VerdictFailed, 0},
		{context.Canceled, es.VerdictFailed, 0},
		{es.Skip(nil), es.VerdictSkip, 0},
		{fmt.Errorf("x: %w", es.Skip(boom)), es.VerdictSkip, 0},
		{es.RetryAfter(time.Minute, boom), es.VerdictRetry, time.Minute},
		{es.RetryAfter(-1, boom), es.VerdictRetry, 0},
		{es.Busy(time.Second, boom), es.VerdictBusy, time.Second},
		{es.DeadLetter(boom), es.VerdictDead, 0},
		{es.DeadLetter(es.RetryAfter(time.Minute, boom)), es.VerdictDead, 0},
		{es.RetryAfter(time.Minute, es.DeadLetter(boom)), es.VerdictRetry, time.Minute},
	} {
		verdict, delay := es.Judge(test.err)
		if verdict != test.verdict || delay != test.delay {
			t.Errorf("Judge(%v) = %v, %v, want %v, %v", test.err, verdict, delay, test.verdict, test.delay)
		}
	}
	if !errors.Is(es.DeadLetter(boom), boom) {
		t.Error("a control error hides its cause")
	}
}

func TestPermanent(t *testing.T) {
	t.Parallel()
	for _, err := range []error{es.Invalidf("x", "y"), &es.DuplicateError{}, es.DeadLetter(errors.New("x")), es.ErrStreamDeleted} {
		if !es.Permanent(err) {
			t.Errorf("%v is not permanent", err)
		}
	}
	for _, err := range []error{nil, errors.New("x"), es.ErrConflict, es.ErrClosed, es.RetryAfter(0, es.ErrInvalid), es.Skip(es.ErrInvalid)} {
		if es.Permanent(err) {
			t.Errorf("%v is permanent", err)
		}
	}
}

func TestExpectation(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		e       es.Expectation
		version int64
		holds   bool
	}{
		{es.Any, 0, true}, {es.Any, 5, true},
		{es.NoStream, 0, true}, {es.NoStream, 1, false},
		{es.StreamExists, 0, false}, {es.StreamExists, 1, true},
		{es.Exactly(0), 0, true}, {es.Exactly(0), 1, false},
		{es.Exactly(3), 3, true}, {es.Exactly(3), 2, false}, {es.Exactly(3), 4, false},
	} {
		if test.e.Holds(test.version) != test.holds {
			t.Errorf("%v at version %d: want %v", test.e, test.version, test.holds)
		}
	}
	if err := es.AppendTo("s", es.Exactly(-1)).Validate(es.Limits{}); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("Exactly(-1): %v", err)
	}
}
