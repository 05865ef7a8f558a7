package middleware

import (
	"cmp"
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
	// Levels are at which level each outcome is logged.
	Levels LogLevels
	// Attrs returns what is logged of a message beyond what always is, such as its tenant. It is called only for what is logged.
	Attrs func(ctx context.Context, d *es.Delivery) []slog.Attr
}

// LogLevels are the levels of the outcomes that [Logging] tells apart. A level that is nil is the default one. They are asked for each
// message, so that a [*slog.LevelVar] can change them in a program that runs.
type LogLevels struct {
	// Handled is for messages that were handled; debug by default.
	Handled slog.Leveler
	// Busy is for those that were put back for a while; debug by default.
	Busy slog.Leveler
	// Skipped is for those that were skipped; info by default.
	Skipped slog.Leveler
	// Stopped is for those whose handler was stopped; info by default.
	Stopped slog.Leveler
	// Failed is for those that failed and are tried again; warn by default.
	Failed slog.Leveler
	// Dead is for those that failed for good; error by default.
	Dead slog.Leveler
}

// withDefaults returns the levels with the default for each that is nil.
func (l LogLevels) withDefaults() LogLevels {
	fill := func(level *slog.Leveler, missing slog.Level) {
		if *level == nil {
			*level = missing
		}
	}
	fill(&l.Handled, slog.LevelDebug)
	fill(&l.Busy, slog.LevelDebug)
	fill(&l.Skipped, slog.LevelInfo)
	fill(&l.Stopped, slog.LevelInfo)
	fill(&l.Failed, slog.LevelWarn)
	fill(&l.Dead, slog.LevelError)
	return l
}

// highest returns the highest of the levels.
func (l LogLevels) highest() slog.Level {
	return max(l.Handled.Level(), l.Busy.Level(), l.Skipped.Level(), l.Stopped.Level(), l.Failed.Level(), l.Dead.Level())
}

// Logging logs what became of each message when its handler has returned:
//
//	debug   it was handled, or is busy in somebody else's hands
//	info    it was skipped, or the handler was stopped
//	warn    it failed and is tried again
//	error   it is a dead letter, or failed with an error that is [es.Permanent]
//
// with its id, correlation, name, stream, version and position, the topic, the group, the attempt and how long it took, the error and,
// for a panic, the stack. The correlation is that of the conversation: the message's own ID when it begins one. The levels are
// those of [LogLevels], where they can be changed. A panic that goes through, and runtime.Goexit, are not logged: [Recover] inside
// makes an error of the one. Outside of [Retry] it sees which failure was the last; inside, a failure is a warning. A logger that
// takes none of the levels costs next to nothing, and one that does not take debug costs a reading of the clock.
func Logging(c LoggingConfig) es.Middleware {
	return func(next es.Handler) es.Handler {
		logger := c.Logger
		if logger == nil {
			logger = slog.Default()
		}
		return &logging{next: next, logger: logger, levels: c.Levels.withDefaults(), attrs: c.Attrs}
	}
}

type logging struct {
	next   es.Handler
	logger *slog.Logger
	levels LogLevels
	attrs  func(context.Context, *es.Delivery) []slog.Attr
}

func (h *logging) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	if !h.logger.Enabled(ctx, h.levels.highest()) {
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
		return h.levels.Handled.Level(), "message handled"
	case verdict == es.VerdictSkip:
		return h.levels.Skipped.Level(), "message skipped"
	case ctx.Err() != nil:
		return h.levels.Stopped.Level(), "handler stopped"
	case verdict == es.VerdictBusy:
		return h.levels.Busy.Level(), "message busy"
	case verdict == es.VerdictDead, es.Permanent(err):
		return h.levels.Dead.Level(), "message failed for good"
	}
	return h.levels.Failed.Level(), "message failed"
}

func (h *logging) log(ctx context.Context, level slog.Level, text string, d *es.Delivery, took time.Duration, err error) {
	const most = 16
	attrs := make([]slog.Attr, 0, most)
	id := d.ID.String()
	attrs = append(attrs,
		slog.String("id", id),
		slog.String("correlation", cmp.Or(d.CorrelationID, id)),
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
	if h.attrs != nil {
		attrs = append(attrs, h.attrs(ctx, d)...)
	}
	h.logger.LogAttrs(ctx, level, text, attrs...) //nolint:sloglint // one of those of outcome
}
