package eshttp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

func post(body io.Reader) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.Header.Set("Content-Type", "application/json")
	return r
}

// status returns that of the problem that an error is, 200 for none.
func status(t testing.TB, err error) int {
	t.Helper()
	if err == nil {
		return http.StatusOK
	}
	var p *eshttp.Problem
	if !errors.As(err, &p) {
		t.Fatalf("%v is no problem", err)
	}
	return p.Status
}

func TestReadJSON(t *testing.T) {
	t.Parallel()
	limits := eshttp.JSONLimits{Bytes: 100, Depth: 3}
	for name, c := range map[string]struct {
		body   string
		status int
		detail string
	}{
		"object":              {` {"a": [1, {"b": null}]} ` + "\n", 200, ""},
		"scalar":              {`"text"`, 200, ""},
		"number":              {`-1.50e+3`, 200, ""},
		"empty":               {"", 400, "empty"},
		"blank":               {" \n\t\r", 400, "empty"},
		"broken":              {`{"a":1,}`, 400, "byte 8"},
		"cut off":             {`{"a":`, 400, "unexpected end"},
		"two values":          {`{} {}`, 400, "after top-level value"},
		"text behind":         {`{}x`, 400, "byte 3"},
		"byte order mark":     {"\xef\xbb\xbf{}", 400, "byte 1"},
		"invalid UTF-8":       {"\"a\xff\"", 400, "UTF-8 at byte 3"},
		"as deep as allowed":  {`[[[1]]]`, 200, ""},
		"too deep":            {`[[[[1]]]]`, 400, "byte 4"},
		"too deep, mixed":     {`{"a":[{"b":[]}]}`, 400, "at most 3 levels"},
		"brackets in strings": {`["[[[[{{{{", "\"[[[[", "\\"]`, 200, ""},
		"wide, not deep":      {`[[],[],[],[],[[]],{},{}]`, 200, ""},
		"as large as allowed": {`"` + strings.Repeat("x", 98) + `"`, 200, ""},
		"too large":           {`"` + strings.Repeat("x", 99) + `"`, 413, "100 bytes"},
	} {
		for _, sized := range []string{"sized", "chunked"} {
			t.Run(name+", "+sized, func(t *testing.T) {
				t.Parallel()
				r := post(strings.NewReader(c.body))
				if sized == "chunked" {
					r.ContentLength = -1
				}
				data, err := eshttp.ReadJSON(httptest.NewRecorder(), r, limits)
				if got := status(t, err); got != c.status {
					t.Fatalf("status %d (%v), want %d", got, err, c.status)
				}
				if err != nil && !strings.Contains(err.Error(), c.detail) {
					t.Errorf("the error is %q, want %q in it", err, c.detail)
				}
				if err == nil && string(data) != c.body {
					t.Errorf("got %q, want %q", data, c.body)
				}
			})
		}
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]int{
		"application/json":                   200,
		"Application/JSON; charset=utf-8":    200,
		"application/json; charset":          200,
		"application/vnd.api+json":           200,
		"application/cloudevents+json; v=1":  200,
		"":                                   415,
		"text/plain":                         415,
		"application/jsonp":                  415,
		"application/x-www-form-urlencoded":  415,
		"multipart/form-data; boundary=json": 415,
		"json":                               415,
		";":                                  415,
	} {
		r := post(strings.NewReader(`{}`))
		r.Header.Set("Content-Type", given)
		_, err := eshttp.ReadJSON(httptest.NewRecorder(), r, eshttp.JSONLimits{})
		if got := status(t, err); got != want {
			t.Errorf("content type %q: status %d (%v), want %d", given, got, err, want)
		}
	}
	r := post(strings.NewReader(`{}`))
	r.Header.Set("Content-Encoding", "gzip")
	if _, err := eshttp.ReadJSON(httptest.NewRecorder(), r, eshttp.JSONLimits{}); status(t, err) != http.StatusUnsupportedMediaType {
		t.Errorf("compressed: %v", err)
	}
}

func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	read := func(body string) int {
		_, err := eshttp.ReadJSON(httptest.NewRecorder(), post(strings.NewReader(body)), eshttp.JSONLimits{})
		return status(t, err)
	}
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	if got := read(nested(100)); got != http.StatusOK {
		t.Errorf("100 levels: %d", got)
	}
	if got := read(nested(101)); got != http.StatusBadRequest {
		t.Errorf("101 levels: %d", got)
	}
	text := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	if got := read(text(1 << 20)); got != http.StatusOK {
		t.Errorf("1 MiB: %d", got)
	}
	if got := read(text(1<<20 + 1)); got != http.StatusRequestEntityTooLarge {
		t.Errorf("1 MiB and a byte: %d", got)
	}
	if got := read(strings.Repeat("[", 1<<20)); got != http.StatusBadRequest {
		t.Errorf("a million levels: %d", got)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func TestABodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]int{
		fmt.Errorf("read tcp: %w", os.ErrDeadlineExceeded): 408,
		io.ErrUnexpectedEOF:           400,
		&http.MaxBytesError{Limit: 5}: 413,
	} {
		_, got := eshttp.ReadJSON(httptest.NewRecorder(), post(failingReader{err}), eshttp.JSONLimits{})
		if status(t, got) != want {
			t.Errorf("%v: %v, want status %d", err, got, want)
		}
	}
}

// even is a type that takes even numbers only.
type even int

func (e *even) UnmarshalJSON(data []byte) error {
	var n int
	if err := json.Unmarshal(data, &n); err != nil {
		return errors.New("secret")
	}
	if n%2 != 0 {
		return es.Invalidf("number", "is odd")
	}
	*e = even(n)
	return nil
}

func TestDecodeJSON(t *testing.T) {
	t.Parallel()
	type line struct {
		Amount int  `json:"amount"`
		Even   even `json:"even"`
	}
	type order struct {
		Line line `json:"line"`
	}
	decode := func(body string) (order, error) {
		return eshttp.DecodeJSON[order](httptest.NewRecorder(), post(strings.NewReader(body)), eshttp.JSONLimits{})
	}
	if got, err := decode(`{"line":{"amount":3,"even":4}}`); err != nil || got.Line.Amount != 3 || got.Line.Even != 4 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := decode(`{`); status(t, err) != http.StatusBadRequest {
		t.Errorf("broken: %v", err)
	}
	_, err := decode(`{"line":{"amount":"three"}}`)
	var p *eshttp.Problem
	if !errors.As(err, &p) || p.Status != 422 || len(p.Errors) != 1 || p.Errors[0].Pointer != "#/line/amount" ||
		!strings.Contains(p.Errors[0].Detail, "string") {
		t.Errorf("a string for a number: %+v", p)
	}
	if _, err := decode(`{"line":{"even":3}}`); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("invalid by its own rule: %v", err)
	}
	if _, err := decode(`{"line":{"even":"x"}}`); status(t, err) != 422 || strings.Contains(err.Error(), "secret") {
		t.Errorf("refused by its own rule: %v", err)
	}
}

// Address is embedded in what TestPointersNameMembers decodes.
type Address struct {
	City string `json:"city"`
}

// own decodes itself.
type own struct{ amount int }

func (o *own) UnmarshalJSON(data []byte) error {
	var v struct {
		Amount int `json:"amount"`
	}
	if data[0] != '{' {
		return json.Unmarshal(data, &o.amount)
	}
	err := json.Unmarshal(data, &v)
	o.amount = v.Amount
	return err
}

func TestPointersNameMembers(t *testing.T) {
	t.Parallel()
	type order struct {
		Address
		Odd  int `json:"a/b~c.d é"`
		Deep struct {
			Address
		} `json:"deep"`
		Lines []struct {
			Amount int `json:"amount"`
		} `json:"lines"`
		Own own `json:"own"`
	}
	for body, want := range map[string]string{
		`{"city":1}`:                 "#/city",
		`{"deep":{"city":1}}`:        "#/deep/city",
		`{"a/b~c.d é":"x"}`:          "#/a~1b~0c.d%20%C3%A9",
		`{"lines":[{"amount":"x"}]}`: "#/lines/0/amount",
		`[]`:                         "#",
	} {
		_, err := eshttp.DecodeJSON[order](httptest.NewRecorder(), post(strings.NewReader(body)), eshttp.JSONLimits{})
		var p *eshttp.Problem
		if !errors.As(err, &p) || len(p.Errors) != 1 || p.Errors[0].Pointer != want {
			t.Errorf("%s: %+v, want the pointer %s", body, p, want)
		}
	}
}

// FuzzReadJSON holds ReadJSON to what encoding/json takes, and to the limits.
func FuzzReadJSON(f *testing.F) {
	for _, seed := range []string{
		``, ` `, `{}`, `[]`, `{"a":[1,2,{"b":"c"}]}`, `[[[[]]]]`, `"\"[["`, `"\\"[`, `1 2`, "\xff", `nul`, `{"a":1,"a":2}`, "\"\u2028\"", `[1e999]`,
	} {
		f.Add([]byte(seed))
	}
	limits := eshttp.JSONLimits{Bytes: 64, Depth: 3}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := eshttp.ReadJSON(httptest.NewRecorder(), post(bytes.NewReader(body)), limits)
		want := http.StatusOK
		switch {
		case int64(len(body)) > limits.Bytes:
			want = http.StatusRequestEntityTooLarge
		case !utf8.Valid(body), !json.Valid(body), depth(body) > limits.Depth:
			want = http.StatusBadRequest
		}
		if code := status(t, err); code != want {
			t.Fatalf("status %d (%v) for %q, want %d", code, err, body, want)
		}
		if err == nil && !bytes.Equal(got, body) {
			t.Fatalf("%q came back as %q", body, got)
		}
	})
}

// depth is that of valid JSON, by the tokens of encoding/json.
func depth(body []byte) int {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	now, most := 0, 0
	for {
		token, err := decoder.Token()
		if err != nil {
			return most
		}
		switch token {
		case json.Delim('['), json.Delim('{'):
			now++
			most = max(most, now)
		case json.Delim(']'), json.Delim('}'):
			now--
		}
	}
}
