package eventsourcing

import (
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes to w as the configuration says: text or JSON, from a level on.
func NewLogger(w io.Writer, c Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
