package eshttp

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
)

// Problems returns a handler that serves what mux does, and tells as a problem what it has no route for: 404, and 405 with the
// methods that there are. [Run] does that for a Handler that is an *http.ServeMux.
func Problems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		answer := statusOnly{header: w.Header()}
		h.ServeHTTP(&answer, r)
		switch answer.status {
		case http.StatusNotFound:
			WriteProblem(w, Problemf(http.StatusNotFound, "there is nothing under this path"))
		case http.StatusMethodNotAllowed:
			WriteProblem(w, Problemf(http.StatusMethodNotAllowed, "the method %s is not allowed here; this path takes %s",
				shorten(r.Method), w.Header().Get("Allow")))
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// statusOnly takes the headers and the status of an answer, and no body.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header { return s.header }
func (s *statusOnly) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
}

func (s *statusOnly) Write(b []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	return len(b), nil
}

// Recover returns a handler that lives through the panics of another: they are logged with their stack, and answered with
// status 500, or by breaking off an answer that has begun. The panic with [http.ErrAbortHandler] goes through. [Run] has it
// around its handler.
func Recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		watched := &watchedWriter{ResponseWriter: w}
		defer func() { //nolint:contextcheck // it logs with the context of the request
			value := recover()
			if value == nil {
				return
			}
			if value == http.ErrAbortHandler { //nolint:errorlint // it is a value of panic, compared as net/http does
				panic(value)
			}
			loggerOf(r).LogAttrs(r.Context(), slog.LevelError, "handler panicked", slog.String("method", r.Method),
				slog.String("path", r.URL.Path), slog.Any("panic", value), slog.String("stack", string(debug.Stack())))
			if watched.begun {
				panic(http.ErrAbortHandler) // so that half an answer does not look like a whole one
			}
			WriteProblem(w, Problemf(http.StatusInternalServerError, "something went wrong inside the service"))
		}()
		next.ServeHTTP(watched, r)
	})
}

// watchedWriter notes whether the answer has begun. It can do what the writer can that it wraps.
type watchedWriter struct {
	http.ResponseWriter

	begun bool
}

func (w *watchedWriter) WriteHeader(status int) {
	w.begun = w.begun || status >= http.StatusOK || status == http.StatusSwitchingProtocols
	w.ResponseWriter.WriteHeader(status)
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

// ReadFrom lets files be sent as the server can do best.
func (w *watchedWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begun = true
	return io.Copy(w.ResponseWriter, r)
}

// Flush is for handlers that ask for an http.Flusher instead of using an http.ResponseController.
func (w *watchedWriter) Flush() { _ = w.FlushError() }

// FlushError is for http.ResponseController.
func (w *watchedWriter) FlushError() error {
	w.begun = true
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack is for handlers that take the connection over.
func (w *watchedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.begun = true
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap is for http.ResponseController.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
