package eventsourcing

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/google/uuid"
)

// MetadataCommand is the metadata key under which the events of a [CommandHandler] carry a digest of the command that led to them,
// by which another command under the same ID is found out.
const MetadataCommand = "es.command"

// CommandTag is the tag that the events of a command carry: by it they can be read, and a repetition of the command finds them.
func CommandTag(command uuid.UUID) string { return "command:" + command.String() }

// Decide decides what a command leads to: the events to append, and the expectations and conditions under which they may be. For one
// stream [AppendTo] and [Types.AppendTo] make it; a zero Append means that nothing is to be done. An error turns the command down.
//
// It reads what it needs, and does nothing else that can be seen from outside: it is called again when somebody else was first. The
// IDs, the correlation and the causation of the events are set by the handler, whatever they hold. The command is shared and
// read-only.
type Decide func(ctx context.Context, command *Message) (Append, error)

// CommandConfig says how to make a [CommandHandler].
type CommandConfig struct {
	// Name is that of the handler. The IDs of its events are derived from it: it must stay the same for as long as a command may
	// come again. It is required, and follows the rules of [ValidateName].
	Name string
	// Events is the store that the decisions are appended to. It is required.
	Events EventStore
	// Attempts is how often it decides, at the most, when others are first; 3 by default.
	Attempts int
}

// CommandHandler carries out commands, each once: what it decides is appended with the correlation ID of the command and with the
// command as its cause. A command is a message with a name, an ID, data, and the stream that it is for.
//
// It is idempotent by the ID of the command. A command that comes again changes nothing and has the result of the first time: also
// when it comes to two processes at once, after a restart, and when deciding again would now lead to something else or be turned
// down. For that its events carry a [CommandTag], and are appended under the condition that no others do. What counts is what stands
// in the store: a command that was turned down, or led to no event, has left nothing and is decided anew when it comes again, and so
// is one whose events are all hidden (see [StreamEditor]). The ID under which another command was carried out, or one by another
// handler, is a [*DuplicateError].
type CommandHandler struct {
	config CommandConfig
	decide Decide
}

// CommandResult is what became of a command.
type CommandResult struct {
	// Appended has the places of its events.
	Appended
	// Version is that of the last of its events in the stream that the command is for; 0 when there is none.
	Version int64
	// Checkpoint is behind the last of its events. Who waits for it, see [Waiter], reads what the command has led to. Its Position
	// is 0 when there is no event.
	Checkpoint Checkpoint
	// Repeated: the command had been carried out before, or is being carried out elsewhere at the same time.
	Repeated bool
}

// NewCommandHandler makes a handler of the commands that a function decides about. [DecideAs] makes the function of one that takes a
// Go value. The error is [ErrInvalid].
func NewCommandHandler(config CommandConfig, decide Decide) (*CommandHandler, error) {
	if config.Attempts == 0 {
		config.Attempts = 3
	}
	switch {
	case config.Events == nil:
		return nil, Invalidf("command handler", "has no Events; give it the store that its events go to")
	case decide == nil:
		return nil, Invalidf("command handler", "has no function that decides")
	case config.Attempts < 0:
		return nil, Invalidf("command handler", "has %d Attempts; it takes 1 or more, and 0 for the default", config.Attempts)
	}
	if err := ValidateName("command handler", config.Name); err != nil {
		return nil, err
	}
	return &CommandHandler{config: config, decide: decide}, nil
}

// Do carries a command out. When somebody else is first ([ErrConflict] of the append) it decides again, as often as
// [CommandConfig].Attempts says.
//
// Errors: that of the deciding function, as it is; [ErrInvalid] for a command that breaks the rules of messages; a [*DuplicateError]
// with the ID of the command when that is taken by another one; those of [EventStore].Append. After one of the last kind that leaves
// the outcome open, the same command is given to Do again.
func (h *CommandHandler) Do(ctx context.Context, command *Message) (CommandResult, error) {
	return h.DoIf(ctx, command, Any)
}

// DoIf is [CommandHandler.Do] for a caller who has seen the stream of the command, and wants nothing to be done if it is not as
// expected. It does not decide again on a conflict: that, a [*ConflictError], is for the caller to see. A command that was carried out
// before has its result, whatever is expected now.
func (h *CommandHandler) DoIf(ctx context.Context, command *Message, expect Expectation) (CommandResult, error) {
	if err := command.Validate(Limits{}); err != nil {
		return CommandResult{}, err
	}
	if err := expect.validate(); err != nil {
		return CommandResult{}, err
	}
	o := order{Message: command, handler: h.config.Name, tag: CommandTag(command.ID), digest: commandDigest(h.config.Name, command)}
	o.origin = Origin{CorrelationID: command.CorrelationID, CausationID: command.ID.String()}
	if outer, ok := OriginFrom(ctx); ok {
		o.origin.CorrelationID = cmp.Or(o.origin.CorrelationID, outer.CorrelationID)
		o.origin.Metadata = outer.Metadata
	}
	o.origin.CorrelationID = cmp.Or(o.origin.CorrelationID, o.origin.CausationID)
	return h.carryOut(ctx, o, expect)
}

// Handle carries out the command that is delivered, so that a route can have h as its handler. That is how commands go through an
// [Outbox]: they are what is enqueued, and they are decided about behind it. It returns no messages: they are in the store.
func (h *CommandHandler) Handle(ctx context.Context, d *Delivery) ([]*Message, error) {
	if d.Err != nil {
		return nil, d.Err
	}
	_, err := h.Do(ctx, d.Message)
	return nil, err
}

// order is a command on its way through a handler.
type order struct {
	*Message

	handler, tag, digest string
	origin               Origin // of its events
}

func (h *CommandHandler) carryOut(ctx context.Context, o order, expect Expectation) (CommandResult, error) {
	var failed error // the last attempt
	again := true
	for attempt := 1; ; attempt++ {
		// Before it is decided: it may have been done before. And after it could not be done: what it failed at may be what the
		// same command has done elsewhere meanwhile.
		earlier, head, err := h.earlier(ctx, o)
		switch {
		case failed != nil && ctx.Err() != nil:
			return CommandResult{}, failed
		case err != nil:
			return CommandResult{}, err
		case len(earlier) > 0:
			return o.found(earlier, head), nil
		case !again || attempt > h.config.Attempts:
			return CommandResult{}, failed
		}

		decision, err := h.decide(ctx, o.Message)
		if err == nil {
			decision, err = decision.expecting(o.Stream, expect)
		}
		again = false
		if err == nil && len(decision.Streams)+len(decision.Unless) > 0 {
			decision = o.stamp(decision)
			decision.Unless = append(slices.Clip(decision.Unless), Condition{Match: []Criterion{{Tags: []string{o.tag}}}, After: head.Position})
			var appended Appended
			if appended, err = h.config.Events.Append(ctx, decision); err == nil && len(appended.Places) > 0 {
				return o.result(decision, appended, head), nil
			}
			again = expect == Any && errors.Is(err, ErrConflict)
		}
		failed = err // nil when there was nothing to append: the same command may just have had something
	}
}

// earlier returns the events of the command that are there, and the settled head before that was looked at.
func (h *CommandHandler) earlier(ctx context.Context, o order) ([]*Message, Checkpoint, error) {
	head, err := h.config.Events.Head(ctx)
	if err != nil {
		return nil, head, err
	}
	var events []*Message
	for m, err := range h.config.Events.Read(ctx, Query{Tags: []string{o.tag}, Unsettled: true}) {
		if err != nil {
			return nil, head, err
		}
		if m.CausationID != o.origin.CausationID {
			continue // it has the tag of an event that it was made from
		}
		if left := m.Metadata[MetadataCommand]; left != "" && left != o.digest { // it has none after an erasure
			const reason = "as that of a command with other content, or of another handler"
			return nil, head, &DuplicateError{ID: o.ID, Stream: m.Stream, Reason: reason}
		}
		events = append(events, m)
	}
	return events, head, nil
}

// eventID is the ID of one of the events that a command leads to. Their number is part of it: should the same command be decided
// about twice at the same time, once with fewer events that are among the others, then the IDs of both have nothing in common. With
// some in common the store would take the second for the rest of the first, and add it.
func (o order) eventID(index, number int) uuid.UUID {
	return DeriveID(o.ID, o.handler+"/"+strconv.Itoa(number), index)
}

// stamp returns a decision whose events have what the command gives them. The messages of the decision stay as they are.
func (o order) stamp(decision Append) Append {
	number := 0
	for _, s := range decision.Streams {
		number += len(s.Events)
	}
	stamped := Append{Streams: slices.Clone(decision.Streams), Unless: decision.Unless}
	index := 0
	for i, s := range stamped.Streams {
		events := make([]*Message, len(s.Events))
		for j, m := range s.Events {
			if m == nil {
				continue // the store says what it thinks of it
			}
			event := *m
			event.ID = o.eventID(index, number)
			if !slices.Contains(m.Tags, o.tag) {
				event.Tags = append(slices.Clip(m.Tags), o.tag)
			}
			o.origin.Stamp(&event)
			event.Metadata = maps.Clone(event.Metadata)
			if event.Metadata == nil {
				event.Metadata = make(map[string]string, 1)
			}
			event.Metadata[MetadataCommand] = o.digest
			events[j] = &event
			index++
		}
		stamped.Streams[i].Events = events
	}
	return stamped
}

// result is that of a decision that was appended.
func (o order) result(decision Append, appended Appended, head Checkpoint) CommandResult {
	r := CommandResult{Appended: appended, Repeated: appended.Existing > 0}
	r.Checkpoint = Checkpoint{Incarnation: head.Incarnation, Position: appended.Position}
	index := 0
	for _, s := range decision.Streams {
		for range s.Events {
			if s.Stream == o.Stream {
				r.Version = appended.Places[index].Version
			}
			index++
		}
	}
	return r
}

// found is the result of a command that was carried out before.
func (o order) found(events []*Message, head Checkpoint) CommandResult {
	byID := make(map[uuid.UUID]int, len(events))
	for i := range events {
		byID[o.eventID(i, len(events))] = i
	}
	slices.SortStableFunc(events, func(a, b *Message) int { return byID[a.ID] - byID[b.ID] }) // as they were decided
	r := CommandResult{Repeated: true}
	r.Existing = len(events)
	r.Places = make([]Place, len(events))
	for i, m := range events {
		r.Places[i] = Place{Version: m.Version, Position: m.Position}
		r.Position = max(r.Position, m.Position)
		if m.Stream == o.Stream {
			r.Version = max(r.Version, m.Version)
		}
	}
	r.Checkpoint = Checkpoint{Incarnation: head.Incarnation, Position: r.Position}
	return r
}

// expecting returns a with what its caller expects of a stream, which is a conflict when a expects something else.
func (a Append) expecting(stream string, expect Expectation) (Append, error) {
	if expect == Any {
		return a, nil
	}
	at := slices.IndexFunc(a.Streams, func(s StreamAppend) bool { return s.Stream == stream })
	a.Streams = slices.Clone(a.Streams)
	if at < 0 {
		a.Streams = append(a.Streams, StreamAppend{Stream: stream, Expect: expect})
		return a, nil
	}
	s := &a.Streams[at]
	decided, exact := s.Expect.Version()
	switch {
	case s.Expect == Any, s.Expect == StreamExists && expect != NoStream:
		s.Expect = expect
	case s.Expect == StreamExists:
		return a, &ConflictError{Stream: stream, Expected: s.Expect}
	case !expect.Holds(max(decided, 0)): // decided is that of NoStream otherwise
		if !exact {
			decided = 0
		}
		return a, &ConflictError{Stream: stream, Expected: expect, Actual: decided}
	}
	return a, nil
}

// commandDigest is a digest of what makes a command the same one, as [Message.SameContent] has it, and of its handler.
func commandDigest(handler string, m *Message) string {
	hash := sha256.New()
	var size [8]byte
	add := func(part []byte) {
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		_, _ = hash.Write(size[:]) // it never fails
		_, _ = hash.Write(part)
	}
	for _, part := range [...]string{handler, m.Stream, m.Name, strconv.Itoa(m.Schema), m.ContentType} {
		add([]byte(part))
	}
	for _, tag := range m.Tags {
		add([]byte(tag))
	}
	add(m.Data)
	var sum [sha256.Size]byte
	return hex.EncodeToString(hash.Sum(sum[:0])[:12])
}

// DecideAs makes a [Decide] of a function that takes the Go value in the command: by the types, or as JSON when they are nil. A command
// that cannot be decoded is [ErrInvalid].
func DecideAs[C any](types *Types, decide func(ctx context.Context, c C, command *Message) (Append, error)) Decide {
	return func(ctx context.Context, command *Message) (Append, error) {
		c, err := decodeAs[C](types, command)
		if err != nil {
			return Append{}, err
		}
		return decide(ctx, c, command)
	}
}

// decodeAs returns the Go value in a message.
func decodeAs[T any](types *Types, m *Message) (T, error) {
	var v T
	var err error
	if types != nil {
		v, err = Decode[T](types, m)
	} else {
		err = JSON{}.Unmarshal(m.Data, &v)
	}
	if err != nil {
		invalid := &InvalidError{What: m.Name, Reason: "cannot be decoded"}
		if json.Valid(m.Data) {
			invalid.Reason = "does not have the form that is asked for"
		}
		return v, fmt.Errorf("%w: %w", invalid, err)
	}
	return v, nil
}

// AppendTo is an append of values of registered types to one stream; see [AppendTo] and [Types.Encode].
func (t *Types) AppendTo(stream string, expect Expectation, values ...any) (Append, error) {
	events := make([]*Message, len(values))
	for i, v := range values {
		m, err := t.Encode(stream, v)
		if err != nil {
			return Append{}, err
		}
		events[i] = m
	}
	return AppendTo(stream, expect, events...), nil
}
