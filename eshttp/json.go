package eshttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	es "github.com/eventsourcing-go/eventsourcing"
)

// JSONLimits bound a JSON body. The zero value means the defaults.
type JSONLimits struct {
	// Bytes is the largest size; 1 MiB by default. What [Config].MaxBodyBytes says holds beside it.
	Bytes int64
	// Depth is how deep arrays and objects may be nested; 100 by default. A value that is neither has the depth 0.
	Depth int
}

func (l JSONLimits) withDefaults() JSONLimits {
	if l.Bytes <= 0 {
		l.Bytes = 1 << 20
	}
	if l.Depth <= 0 {
		l.Depth = 100
	}
	return l
}

// ReadJSON reads the body of a request: one JSON value, which is returned as it came. The error is a [*Problem] for [Error] to
// write:
//
//	415  the content type is neither application/json nor one that ends with +json, or the body is compressed
//	413  it is larger than the limit
//	400  it is empty, no valid UTF-8, no valid JSON, nested too deeply, or something stands behind the value
//	408  it did not come in time
//
// The text of the error says what is wrong, where it is, and what would be right.
func ReadJSON(w http.ResponseWriter, r *http.Request, limits JSONLimits) (json.RawMessage, error) {
	limits = limits.withDefaults()
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	data, err := readBody(w, r, limits.Bytes)
	if err != nil {
		return nil, err
	}
	if err := checkJSON(data, limits.Depth); err != nil {
		return nil, err
	}
	return data, nil
}

// DecodeJSON reads the body of a request, as [ReadJSON] does, into a Go value. Valid JSON that does not fit into a T is a
// [*Problem] of status 422 that points at what does not fit; an [es.ErrInvalid] of an UnmarshalJSON is returned as it is.
func DecodeJSON[T any](w http.ResponseWriter, r *http.Request, limits JSONLimits) (T, error) {
	var v, zero T
	data, err := ReadJSON(w, r, limits)
	if err != nil {
		return zero, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return zero, misfit(data, err)
	}
	return v, nil
}

// misfit says what does not fit, without the names of Go types.
func misfit(data []byte, err error) error {
	if errors.Is(err, es.ErrInvalid) {
		return err
	}
	p := Problemf(http.StatusUnprocessableEntity, "the body does not have the form that is asked for")
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return p
	}
	kind, _, _ := strings.Cut(wrong.Value, " ") // "number 1.5"
	pointer, member := pointerAt(data, wrong.Offset)
	if !names(wrong.Field, member) {
		pointer = "" // an UnmarshalJSON counts from where its own value begins
	}
	p.Errors = []ProblemError{{Detail: "a JSON " + kind + " does not fit here", Pointer: pointer}}
	return p
}

// names tells whether the path of a field, with dots between its parts, ends with the name of a member.
func names(field, member string) bool {
	last := field[strings.LastIndexByte(field, '.')+1:] // or the end of it: names may have dots too
	return (last == "") == (member == "") && strings.HasSuffix(strings.ToLower(member), strings.ToLower(last))
}

func checkContentType(h http.Header) error {
	const want = "send JSON with the content type application/json"
	given := h.Get("Content-Type")
	if given == "" {
		return Problemf(http.StatusUnsupportedMediaType, "the content type is missing; %s", want)
	}
	media, _, err := mime.ParseMediaType(given)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return Problemf(http.StatusUnsupportedMediaType, "the content type %q cannot be read; %s", shorten(given), want)
	}
	if media != "application/json" && !strings.HasSuffix(media, "+json") {
		return Problemf(http.StatusUnsupportedMediaType, "the content type is %q; %s", shorten(media), want)
	}
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return Problemf(http.StatusUnsupportedMediaType, "the content encoding is %q; send the body without one", shorten(coding))
	}
	return nil
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLargeProblem(limit)
	}
	var b bytes.Buffer
	if r.ContentLength > 0 {
		// So that it is read without growing again, unless it is large: many who announce a body and do not send it must not
		// take more memory than they send.
		const most = 64 << 10
		b.Grow(int(min(r.ContentLength, most)) + bytes.MinRead)
	}
	_, err := io.Copy(&b, http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return b.Bytes(), nil
	case errors.As(err, &tooLarge):
		return nil, tooLargeProblem(tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, Problemf(http.StatusRequestTimeout, "the body did not come in time")
	}
	return nil, Problemf(http.StatusBadRequest, "the body could not be read to its end")
}

// checkJSON tells whether data is one JSON value in UTF-8 that is not nested too deeply.
func checkJSON(data []byte, depth int) error {
	if len(bytes.TrimLeft(data, " \t\r\n")) == 0 {
		return Problemf(http.StatusBadRequest, "the body is empty; send a JSON value")
	}
	if !utf8.Valid(data) {
		return Problemf(http.StatusBadRequest, "the body is not valid UTF-8 at byte %d", invalidUTF8(data))
	}
	if at := tooDeep(data, depth); at >= 0 {
		return Problemf(http.StatusBadRequest, "the body is nested too deeply at byte %d; at most %d levels are allowed", at+1, depth)
	}
	if json.Valid(data) {
		return nil
	}
	var value json.RawMessage
	err := json.Unmarshal(data, &value)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return Problemf(http.StatusBadRequest, "the body is not valid JSON at byte %d: %v", syntax.Offset, syntax)
	}
	return Problemf(http.StatusBadRequest, "the body is not valid JSON")
}

// invalidUTF8 returns where the first byte stands that is not UTF-8, counted from 1.
func invalidUTF8(data []byte) int {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size <= 1 {
			return at + 1
		}
		at += size
	}
	return len(data)
}

// tooDeep returns where arrays and objects are nested deeper than most, or -1. It says nothing about the syntax otherwise.
func tooDeep(data []byte, most int) int {
	depth := 0
	quoted := false
	for at := 0; at < len(data); at++ {
		switch c := data[at]; {
		case quoted && c == '\\':
			at++ // whatever it is, it does not end the string
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > most {
				return at
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return -1
}

// shorten keeps a text that is quoted in an answer readable.
func shorten(text string) string {
	const most = 100
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
