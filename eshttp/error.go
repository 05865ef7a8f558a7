package eshttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Error answers a request with the problem that an error is:
//
//	*Problem                                      as it is
//	es.ErrInvalid                                 422, with the text of each *es.InvalidError
//	es.ErrNotFound                                404
//	es.ErrConflict                                409; 412 when the request has an If-Match, or an If-None-Match and no GET or HEAD
//	es.ErrDuplicate, es.ErrCheckpoint             409
//	es.ErrStreamDeleted                           410
//	*http.MaxBytesError                           413
//	es.ErrUnsupported                             501
//	context.DeadlineExceeded                      504
//	es.ErrClosed, ErrLeaseLost, ErrLeaseHeld,
//	es.ErrFull, the end of the request's context  503
//	es.ErrLagging                                 503, with a Retry-After
//	anything else                                 500
//
// The text of other errors is not told, because it may speak of the inside: statements, paths, addresses. It is logged, as an
// error when the status is 500, with the logger that [Run] or [WithLogger] gave to the request, or else slog.Default().
func Error(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(r, err)
	level := slog.LevelDebug
	switch {
	case r.Context().Err() != nil: // its sender has gone, or the server is stopping
	case p.Status == http.StatusInternalServerError:
		level = slog.LevelError
	case p.Status > http.StatusInternalServerError:
		level = slog.LevelWarn
	}
	loggerOf(r).LogAttrs(r.Context(), level, "request failed", slog.String("method", r.Method),
		slog.String("path", r.URL.Path), slog.Int("status", p.Status), slog.Any("error", err))
	if errors.Is(err, es.ErrLagging) && p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	WriteProblem(w, p)
}

func problemOf(r *http.Request, err error) *Problem {
	var problem *Problem
	if errors.As(err, &problem) && problem != nil {
		filled := problem.withDefaults()
		return &filled
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return tooLargeProblem(tooLarge.Limit)
	case errors.Is(err, es.ErrInvalid):
		return invalidProblem(err)
	case errors.Is(err, es.ErrNotFound):
		return Problemf(http.StatusNotFound, "what was asked for is not there")
	case errors.Is(err, es.ErrConflict) && conditional(r):
		return Problemf(http.StatusPreconditionFailed, "it has changed since; read it again and decide again")
	case errors.Is(err, es.ErrConflict):
		return Problemf(http.StatusConflict, "somebody else was first; read again and decide again")
	case errors.Is(err, es.ErrDuplicate):
		return Problemf(http.StatusConflict, "the ID is taken by something else")
	case errors.Is(err, es.ErrCheckpoint):
		return Problemf(http.StatusConflict, "the position belongs to another state of the service, which was restored or replaced since; "+
			"ask again without a position")
	case errors.Is(err, es.ErrStreamDeleted):
		return Problemf(http.StatusGone, "it was deleted for good")
	case errors.Is(err, es.ErrUnsupported):
		return Problemf(http.StatusNotImplemented, "this service cannot do that")
	case errors.Is(err, es.ErrLagging):
		return Problemf(http.StatusServiceUnavailable, "the answer is not there yet; try again in a moment")
	case errors.Is(err, context.DeadlineExceeded):
		return Problemf(http.StatusGatewayTimeout, "it took too long; try again later")
	case errors.Is(err, es.ErrClosed), errors.Is(err, es.ErrLeaseLost), errors.Is(err, es.ErrLeaseHeld), errors.Is(err, es.ErrFull),
		r.Context().Err() != nil:
		return Problemf(http.StatusServiceUnavailable, "the service cannot do that now; try again later")
	}
	return Problemf(http.StatusInternalServerError, "something went wrong inside the service")
}

// conditional tells whether a request is to change something only if that is as its sender has seen it (RFC 9110, section 13.1).
func conditional(r *http.Request) bool {
	if r.Header.Get("If-Match") != "" {
		return true
	}
	return r.Header.Get("If-None-Match") != "" && r.Method != http.MethodGet && r.Method != http.MethodHead
}

func tooLargeProblem(limit int64) *Problem {
	return Problemf(http.StatusRequestEntityTooLarge, "the body is larger than the %d bytes that are allowed", limit)
}

// invalidProblem tells what each of the *es.InvalidError in err says, and nothing of what stands around them.
func invalidProblem(err error) *Problem {
	var reasons []ProblemError
	collectInvalid(err, func(invalid *es.InvalidError) {
		reasons = append(reasons, ProblemError{Detail: invalid.Error()})
	})
	p := &Problem{Status: http.StatusUnprocessableEntity}
	switch len(reasons) {
	case 0:
		p.Detail = "the input breaks a rule"
	case 1:
		p.Detail = reasons[0].Detail
	default:
		p.Detail = reasons[0].Detail
		p.Errors = reasons
	}
	return p
}

// collectInvalid calls a function for each *es.InvalidError in the tree of an error.
func collectInvalid(err error, found func(*es.InvalidError)) {
	if invalid, ok := err.(*es.InvalidError); ok { //nolint:errorlint // it goes down the tree itself
		found(invalid)
		return
	}
	switch wrapped := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		collectInvalid(wrapped.Unwrap(), found)
	case interface{ Unwrap() []error }:
		for _, each := range wrapped.Unwrap() {
			collectInvalid(each, found)
		}
	}
}

type loggerKey struct{}

// WithLogger gives a logger to the handling of a request: [Error] and [Recover] log with it. [Run] does so by itself.
func WithLogger(ctx context.Context, logger *slog.Logger) context.Context {
	return context.WithValue(ctx, loggerKey{}, logger)
}

func loggerOf(r *http.Request) *slog.Logger {
	if logger, ok := r.Context().Value(loggerKey{}).(*slog.Logger); ok {
		return logger
	}
	return slog.Default()
}
