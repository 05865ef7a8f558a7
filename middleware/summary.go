package middleware

import (
	"context"
	"log/slog"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// SummaryConfig is how a [Summary] works.
type SummaryConfig struct {
	// Logger is where to log to; slog.Default() by default, as it is when the summary is made.
	Logger *slog.Logger
	// Level is the level of the lines; slog.LevelInfo by default.
	Level slog.Level
	// Interval is how often a summary that was started logs; 1 minute by default.
	Interval time.Duration
}

// Summary is a [Recorder] that logs what was handled since it last did: a line for each topic, group and outcome that occurred, with
// the number of messages and how long they took on average and at the most. It is an [es.Component] that logs at an interval while it
// runs and once more when it is stopped; a program can do without that and call [Summary.Log] itself. It takes no allocation to record.
type Summary struct {
	config SummaryConfig

	counters Counters
	logging  sync.Mutex // one at a time

	mu    sync.Mutex
	state summaryState
	stop  chan struct{} // closed to end the work
	done  chan struct{} // closed when it has ended
}

type summaryState int

const (
	summaryNew summaryState = iota
	summaryRunning
	summaryStopped
)

var (
	_ Recorder     = (*Summary)(nil)
	_ es.Component = (*Summary)(nil)
)

// NewSummary makes a summary. Nothing runs before Start.
func NewSummary(c SummaryConfig) *Summary {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Interval <= 0 {
		c.Interval = time.Minute
	}
	return &Summary{config: c, stop: make(chan struct{}), done: make(chan struct{})}
}

// Handled adds a measurement.
func (s *Summary) Handled(route Labels, outcome es.Verdict, took time.Duration) {
	s.counters.Handled(route, outcome, took)
}

// Log logs what was recorded since the last time, and nothing when that is nothing.
func (s *Summary) Log(ctx context.Context) {
	s.logging.Lock()
	defer s.logging.Unlock()
	for _, c := range s.counters.drain() {
		s.config.Logger.LogAttrs(ctx, s.config.Level, "messages handled",
			slog.String("topic", c.Topic), slog.String("group", c.Group), slog.String("outcome", c.Outcome.String()),
			slog.Int64("messages", c.Messages), slog.Duration("average", c.Total/time.Duration(c.Messages)),
			slog.Duration("longest", c.Longest))
	}
}

// Name is "summary".
func (*Summary) Name() string { return "summary" }

// Start begins to log at the interval. A summary is started once: the second time is [es.ErrInvalid].
func (s *Summary) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != summaryNew {
		return es.Invalidf("summary", "was started or stopped before; it takes a new one")
	}
	s.state = summaryRunning
	go s.run(context.WithoutCancel(ctx))
	return nil
}

func (s *Summary) run(ctx context.Context) {
	defer close(s.done)
	ticker := time.NewTicker(s.config.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.Log(ctx)
		case <-s.stop:
			return
		}
	}
}

// Stop ends the logging and logs what is left. It waits for a line that is being written; loggers are not told of contexts.
func (s *Summary) Stop(ctx context.Context) error {
	s.mu.Lock()
	state := s.state
	s.state = summaryStopped
	switch state {
	case summaryNew:
		close(s.done)
	case summaryRunning:
		close(s.stop)
	case summaryStopped:
	}
	s.mu.Unlock()
	<-s.done
	if state == summaryRunning {
		s.Log(ctx)
	}
	return nil
}

// Done is closed when the logging has ended.
func (s *Summary) Done() <-chan struct{} { return s.done }

// Err is nil: it does not end by itself.
func (*Summary) Err() error { return nil }

// Health is nil: a summary that does not run is no harm.
func (*Summary) Health(context.Context) error { return nil }
