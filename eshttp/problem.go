package eshttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
)

// ContentTypeProblem is the content type of a [Problem].
const ContentTypeProblem = "application/problem+json"

// Problem says what went wrong with a request, for its sender to read (RFC 9457). It is an error: a function that handles a
// part of a request can return one, and [Error] writes it as it is.
type Problem struct { //nolint:errname // RFC 9457 calls it a problem
	// Type is a URI that names the kind of problem. Empty stands for "about:blank": the status says all there is to say.
	Type string
	// Title is the kind of problem in words; by default those of the status.
	Title string
	// Status is the HTTP status; 500 by default.
	Status int
	// Detail is what went wrong this time, and what would be right.
	Detail string
	// Instance is a URI of this very occurrence.
	Instance string
	// Errors are the parts that are wrong, where several are. They are the member "errors".
	Errors []ProblemError
	// Extensions are further members. One that has the name of a member above is left out.
	Extensions map[string]any
}

// ProblemError is one of several things that are wrong with a request.
type ProblemError struct {
	Detail string `json:"detail"`
	// Pointer says where, as a JSON Pointer in the form of a URI fragment, such as "#/lines/0/amount" (RFC 6901, section 6).
	Pointer string `json:"pointer,omitempty"`
}

// Problemf makes a problem of a status and a detail.
func Problemf(status int, format string, args ...any) *Problem {
	return &Problem{Status: status, Detail: fmt.Sprintf(format, args...)}
}

func (p *Problem) Error() string {
	filled := p.withDefaults()
	text := strconv.Itoa(filled.Status) + " " + filled.Title
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return text
}

func (p *Problem) withDefaults() Problem {
	filled := *p
	if filled.Status == 0 {
		filled.Status = http.StatusInternalServerError
	}
	if filled.Title == "" {
		filled.Title = http.StatusText(filled.Status)
	}
	return filled
}

// MarshalJSON writes the members that are set, and the extensions after them, by name.
func (p *Problem) MarshalJSON() ([]byte, error) {
	filled := p.withDefaults()
	standard := struct {
		Type     string         `json:"type,omitempty"`
		Title    string         `json:"title,omitempty"`
		Status   int            `json:"status"`
		Detail   string         `json:"detail,omitempty"`
		Instance string         `json:"instance,omitempty"`
		Errors   []ProblemError `json:"errors,omitempty"`
	}{filled.Type, filled.Title, filled.Status, filled.Detail, filled.Instance, filled.Errors}
	data, err := encode(standard)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(p.Extensions))
	for _, name := range names {
		switch name {
		case "type", "title", "status", "detail", "instance", "errors":
			continue
		}
		member, err := encode(map[string]any{name: p.Extensions[name]})
		if err != nil {
			return nil, fmt.Errorf("extension %q: %w", name, err)
		}
		data = append(data[:len(data)-1], ',')
		data = append(data, member[1:]...)
	}
	return data, nil
}

// WriteProblem answers a request with a problem. Headers that were set for another answer are removed.
func WriteProblem(w http.ResponseWriter, p *Problem) {
	data, err := encode(p)
	if err != nil { // of an extension
		bare := *p
		bare.Extensions = nil
		data, _ = encode(&bare)
	}
	h := w.Header()
	for _, name := range []string{"Content-Encoding", "Etag", "Last-Modified"} {
		h.Del(name)
	}
	h.Set("Content-Type", ContentTypeProblem)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	filled := p.withDefaults()
	w.WriteHeader(filled.Status)
	_, _ = w.Write(data) //nolint:gosec // it is JSON, and said to be; who does not listen any more need not be told
}

// WriteJSON answers a request with a value as JSON. The error is that of the encoder, and then nothing was written, or that of
// the connection.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	data, err := encode(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return writeJSON(w, status, data)
}

func writeJSON(w http.ResponseWriter, status int, data []byte) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)+1))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, err := w.Write(append(data, '\n')) //nolint:gosec // it is JSON, and said to be
	return err
}

// answer answers a request with a value as JSON. One that cannot be encoded is the fault of the program, whatever the encoder says, and
// answered with status 500.
func answer(w http.ResponseWriter, r *http.Request, status int, v any) {
	data, err := encode(v)
	if err != nil {
		Error(w, r, errors.New("encode the answer: "+err.Error()))
		return
	}
	if err := writeJSON(w, status, data); err != nil && r.Context().Err() == nil {
		loggerOf(r).WarnContext(r.Context(), "answer could not be written", "error", err)
	}
}

// encode is json.Marshal without the escapes that are for JSON inside HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
