package eshttp

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// CommandConfig says how requests become commands of type C. Stream is required, and one of Handler and Outbox.
type CommandConfig[C any] struct {
	// Handler carries the commands out.
	Handler *es.CommandHandler
	// Outbox takes the commands instead: they are carried out later, by a handler on a route behind it. The answer is 202, and
	// If-Match and If-None-Match are refused, because nobody knows yet.
	Outbox es.Outbox
	// Types has the name of C on the wire. Without it the command is JSON with the Name below.
	Types *es.Types
	Name  string
	// Stream returns the stream that a command is for. It may complete the command before, with what is in the path or what is
	// known of the sender; what it sets must be the same when the request comes again. Its error is answered as [Error] does.
	Stream func(r *http.Request, c *C) (string, error)
	// Key returns the idempotency key of a request, which is empty when it has none: by default what [IdempotencyKey] finds. A field
	// of the command can be one, too.
	Key func(r *http.Request, c *C) (string, error)
	// Scope returns whose key it is, a tenant or a user for example: the same key in two scopes is two commands. Without scopes a
	// sender who guesses the key of another gets the answer to it.
	Scope func(r *http.Request) string
	// RequireKey refuses requests without a key, with status 400. Otherwise each is a command of its own.
	RequireKey bool
	// Limits are those of the body.
	Limits JSONLimits
	// Status is that of the answer; 200 by default, with an Outbox 202.
	Status int
	// Answer returns what is answered, as JSON; a [CommandAnswer] by default. It must be the same for a command that came again.
	Answer func(r *http.Request, c C, result es.CommandResult) any
}

// CommandAnswer is what a request is told about its command.
type CommandAnswer struct {
	// Command is its ID.
	Command uuid.UUID `json:"command"`
	// Stream is what it was for, and Version that of its last event there; 0 when there is none, or not yet.
	Stream  string `json:"stream"`
	Version int64  `json:"version,omitempty"`
	// Position is what is handed to a query that is to see what has come of it; see [PositionName]. Empty when there are no events.
	Position string `json:"position,omitempty"`
}

type commandEndpoint[C any] struct{ config CommandConfig[C] }

// Command returns a handler that makes a command of a request, and carries it out once, however often the request comes with the same
// idempotency key. The body is a C in JSON, read as [DecodeJSON] does.
//
//   - Idempotency-Key has the ID of the command: a UUID is that, any other text of up to 255 characters is made one, with the Scope. A
//     repetition is answered as the first request was, with the header Idempotency-Replayed: true. The key of another command is 422.
//   - If-Match with the ETag of an earlier answer: nothing is done if the stream is at another version, and the answer is 412.
//     If-Match: * is for a stream that exists, If-None-Match: * for one that does not.
//   - The answer has the version of the stream as ETag and the position to wait for as [PositionName].
//
// Errors are told as [Error] does. The error of Command itself is es.ErrInvalid.
func Command[C any](config CommandConfig[C]) (http.Handler, error) {
	switch {
	case (config.Handler == nil) == (config.Outbox == nil):
		return nil, es.Invalidf("command endpoint", "takes a Handler or an Outbox, and not both")
	case config.Stream == nil:
		return nil, es.Invalidf("command endpoint", "has no Stream; give it the function that says which stream a command is for")
	case (config.Types == nil) == (config.Name == ""):
		return nil, es.Invalidf("command endpoint", "takes Types or a Name, and not both")
	case config.Status != 0 && (config.Status < 200 || config.Status > 299):
		return nil, es.Invalidf("command endpoint", "has the status %d for success; it takes one from 200 to 299", config.Status)
	}
	if config.Types != nil {
		var c C
		if _, err := config.Types.Encode("example", c); errors.Is(err, es.ErrUnknownType) {
			return nil, es.Invalidf("command endpoint", "has Types that do not know the command; register it")
		}
	}
	if config.Key == nil {
		config.Key = func(r *http.Request, _ *C) (string, error) { return IdempotencyKey(r.Header) }
	}
	if config.Scope == nil {
		config.Scope = func(*http.Request) string { return "" }
	}
	if config.Status == 0 {
		config.Status = http.StatusOK
		if config.Outbox != nil {
			config.Status = http.StatusAccepted
		}
	}
	return &commandEndpoint[C]{config}, nil
}

func (e *commandEndpoint[C]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	expect, err := expectation(r.Header)
	if err != nil {
		Error(w, r, err)
		return
	}
	c, m, err := e.read(w, r)
	if err != nil {
		Error(w, r, err)
		return
	}
	if e.config.Outbox != nil {
		e.enqueue(w, r, c, m, expect)
		return
	}
	result, err := e.config.Handler.DoIf(r.Context(), m, expect)
	if err != nil {
		Error(w, r, reused(m.ID, err))
		return
	}
	h := w.Header()
	if result.Version > 0 {
		h.Set("ETag", versionTag(result.Version))
	}
	if result.Repeated {
		h.Set("Idempotency-Replayed", "true")
	}
	e.answer(w, r, c, m, result)
}

// enqueue gives the command to the outbox.
func (e *commandEndpoint[C]) enqueue(w http.ResponseWriter, r *http.Request, c C, m *es.Message, expect es.Expectation) {
	if expect != es.Any {
		Error(w, r, Problemf(http.StatusBadRequest, "the command is carried out later, so that it cannot have a condition; "+
			"send it without If-Match and If-None-Match"))
		return
	}
	es.Caused(r.Context(), m)
	if err := e.config.Outbox.Enqueue(r.Context(), m); err != nil {
		Error(w, r, reused(m.ID, err))
		return
	}
	e.answer(w, r, c, m, es.CommandResult{})
}

// read makes a command of a request.
func (e *commandEndpoint[C]) read(w http.ResponseWriter, r *http.Request) (C, *es.Message, error) {
	c, err := DecodeJSON[C](w, r, e.config.Limits)
	if err != nil {
		return c, nil, err
	}
	stream, err := e.config.Stream(r, &c)
	if err != nil {
		return c, nil, err
	}
	key, err := e.config.Key(r, &c)
	if err != nil {
		return c, nil, err
	}
	if key == "" && e.config.RequireKey {
		return c, nil, Problemf(http.StatusBadRequest, "the idempotency key is missing; send a new UUID as Idempotency-Key, and the same one "+
			"when you send this again")
	}
	var m *es.Message
	if e.config.Types != nil {
		m, err = e.config.Types.Encode(stream, c)
	} else {
		var data []byte
		data, err = encode(c)
		m = es.NewMessage(stream, e.config.Name, data)
	}
	if err != nil {
		return c, nil, err
	}
	if key != "" {
		m.ID = commandID(e.config.Scope(r), key)
	}
	return c, m, nil
}

func (e *commandEndpoint[C]) answer(w http.ResponseWriter, r *http.Request, c C, m *es.Message, result es.CommandResult) {
	told := CommandAnswer{Command: m.ID, Stream: m.Stream, Version: result.Version}
	if result.Checkpoint.Position > 0 {
		told.Position = FormatPosition(result.Checkpoint)
		w.Header().Set(PositionName, told.Position)
	}
	var body any = told
	if e.config.Answer != nil {
		body = e.config.Answer(r, c, result)
	}
	answer(w, r, e.config.Status, body)
}

// IdempotencyKey returns the key in the header Idempotency-Key, empty when there is none. It is a string in quotes, as
// draft-ietf-httpapi-idempotency-key-header has it, or the text alone, as many send it. The error is a [*Problem] of status 400 for
// one that is empty, given twice, longer than 255 characters or not of printable ASCII.
func IdempotencyKey(h http.Header) (string, error) {
	given := h.Values("Idempotency-Key")
	if len(given) == 0 {
		return "", nil
	}
	key := strings.TrimSpace(given[0])
	if inner, ok := strings.CutPrefix(key, `"`); ok && strings.HasSuffix(inner, `"`) {
		key = inner[:len(inner)-1]
	}
	if len(given) > 1 || !plain(key, 255) || strings.ContainsAny(key, `"\`) {
		return "", Problemf(http.StatusBadRequest, "the Idempotency-Key cannot be used; send one, of 1 to 255 characters of printable ASCII "+
			"without quotes and backslashes")
	}
	return key, nil
}

// commandID is the ID of the command with a key: the key itself when it is a UUID and there are no scopes, and else a UUIDv5.
func commandID(scope, key string) uuid.UUID {
	id, err := uuid.Parse(key)
	if err == nil && len(key) == 36 && id != uuid.Nil && scope == "" {
		return id
	}
	if err == nil && len(key) == 36 {
		key = id.String() // however it is written
	}
	const idempotencyKeys = "3f2b6e0a-86c5-5d58-9d0f-2a4c0c6e7b11" // any that nobody else uses
	return uuid.NewSHA1(uuid.MustParse(idempotencyKeys), []byte(scope+"\x00"+key))
}

// reused makes a problem of the error that a key is that of another command.
func reused(id uuid.UUID, err error) error {
	if duplicate, ok := errors.AsType[*es.DuplicateError](err); ok && duplicate.ID == id {
		return Problemf(http.StatusUnprocessableEntity, "the idempotency key was used for another command; send a new one")
	}
	return err
}

// versionTag is the entity tag of a stream at a version.
func versionTag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// parseVersionTag reads what versionTag has written. A weak tag is none: it must not be used to change something (RFC 9110, section
// 13.1.1).
func parseVersionTag(tag string) (int64, bool) {
	version, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
	return version, err == nil && version > 0 && tag == versionTag(version)
}

// expectation reads what a request expects of the stream of its command.
func expectation(h http.Header) (es.Expectation, error) {
	match, none := strings.Join(h.Values("If-Match"), ","), strings.Join(h.Values("If-None-Match"), ",")
	switch {
	case match == "" && h["If-Match"] != nil, none == "" && h["If-None-Match"] != nil: // whoever sent it wanted a condition
		return es.Any, Problemf(http.StatusBadRequest, "the If-Match or If-None-Match is empty; send a tag or *, or leave it out")
	case match != "" && none != "":
		return es.Any, Problemf(http.StatusBadRequest, "there are both If-Match and If-None-Match; send one of them")
	case none == "*":
		return es.NoStream, nil
	case none != "":
		return es.Any, Problemf(http.StatusBadRequest, "the If-None-Match of a command can only be *")
	case match == "":
		return es.Any, nil
	case match == "*":
		return es.StreamExists, nil
	case strings.Contains(match, ","):
		return es.Any, Problemf(http.StatusBadRequest, "there are several tags in If-Match; send the one of the version that you have seen")
	}
	version, ok := parseVersionTag(match)
	if !ok { // nothing here ever had it
		return es.Any, Problemf(http.StatusPreconditionFailed, "the If-Match %q is not the tag of a version; send it as it was given, "+
			"such as \"7\"", shorten(match))
	}
	return es.Exactly(version), nil
}
