package middleware

import (
	"context"
	"errors"
	"log/slog"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// LoggingConfig is how [Logging] works.
type LoggingConfig struct {
	// Logger is where to log to; slog.Default() by default, as it is when the route starts.
	Logger *slog.Logger
}

// Logging logs what became of each message when its handler has returned:
//
//	debug   it was handled, or is busy in somebody else's hands
//	info    it was skipped, or the handler was stopped
//	warn    it failed and is tried again
//	error   it is a dead letter, or failed with an error that is [es.Permanent]
//
// with its id, name, stream, version and position, the topic, the group, the attempt and how long it took, the error and, for a
// panic, the stack. Outside of [Retry] it sees which failure was the last; inside, a failure is a warning. A logger that takes
// none of the levels costs next to nothing, and one that does not take debug costs a reading of the clock.
func Logging(c LoggingConfig) es.Middleware {
	return func(next es.Handler) es.Handler {
		logger := c.Logger
		if logger == nil {
			logger = slog.Default()
		}
		return &logging{next: next, logger: logger}
	}
}

type logging struct {
	next   es.Handler
	logger *slog.Logger
}

func (h *logging) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	if !h.logger.Enabled(ctx, slog.LevelError) {
		return h.next.Handle(ctx, d)
	}
	start := time.Now()
	outputs, err := h.next.Handle(ctx, d)
	level, text := h.outcome(ctx, err)
	if h.logger.Enabled(ctx, level) {
		h.log(ctx, level, text, d, time.Since(start), err)
	}
	return outputs, err
}

func (h *logging) outcome(ctx context.Context, err error) (slog.Level, string) {
	verdict, _ := es.Judge(err)
	switch {
	case verdict == es.VerdictDone:
		return slog.LevelDebug, "message handled"
	case verdict == es.VerdictSkip:
		return slog.LevelInfo, "message skipped"
	case ctx.Err() != nil:
		return slog.LevelInfo, "handler stopped"
	case verdict == es.VerdictBusy:
		return slog.LevelDebug, "message busy"
	case verdict == es.VerdictDead, es.Permanent(err):
		return slog.LevelError, "message failed for good"
	}
	return slog.LevelWarn, "message failed"
}

func (h *logging) log(ctx context.Context, level slog.Level, text string, d *es.Delivery, took time.Duration, err error) {
	const most = 12
	attrs := make([]slog.Attr, 0, most)
	attrs = append(attrs,
		slog.String("id", d.ID.String()),
		slog.String("name", d.Name),
		slog.String("stream", d.Stream),
		slog.Int64("version", d.Version),
		slog.Int64("position", d.Position),
		slog.String("topic", d.Topic),
		slog.String("group", d.Group),
		slog.Int("attempt", d.Attempt),
		slog.Duration("duration", took),
	)
	if verdict, delay := es.Judge(err); verdict == es.VerdictRetry || verdict == es.VerdictBusy {
		attrs = append(attrs, slog.Duration("delay", delay))
	}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	if panicked, ok := errors.AsType[*es.PanicError](err); ok {
		attrs = append(attrs, slog.String("stack", string(panicked.Stack)))
	}
	h.logger.LogAttrs(ctx, level, text, attrs...) //nolint:sloglint // one of those of outcome
}
