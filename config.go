package eventsourcing

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// Config is what the parts of a program have in common. The zero value means the defaults; [Config.WithDefaults] fills them in.
type Config struct {
	// Namespace keeps programs apart that share a backend: two namespaces see nothing of each other. The default is "default".
	// Environment: ES_NAMESPACE.
	Namespace string
	// DeadStream is the stream for what fails for good. The default is "dead". Environment: ES_DEAD_STREAM.
	DeadStream string
	// PollInterval is how long a processor goes without looking when nothing wakes it. It is a fallback: work is woken for. The
	// default is 1 second; the shortest is 1 millisecond. Environment: ES_POLL_INTERVAL, such as "500ms".
	PollInterval time.Duration
	// NoMetrics switches the metrics off. Environment: ES_METRICS, true or false; true by default.
	NoMetrics bool
	// LogJSON makes the log JSON instead of text. Environment: ES_LOG_JSON, true or false.
	LogJSON bool
	// LogLevel is the lowest level that is logged; slog.LevelInfo by default. Environment: ES_LOG_LEVEL: debug, info, warn, error.
	LogLevel slog.Level
}

// WithDefaults returns c with the default in each field that is zero.
func (c Config) WithDefaults() Config {
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	if c.DeadStream == "" {
		c.DeadStream = "dead"
	}
	if c.PollInterval == 0 {
		c.PollInterval = time.Second
	}
	return c
}

// Validate checks c; the error joins an [*InvalidError] for each field that is wrong.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	if err := ValidateName("namespace", c.Namespace); err != nil {
		errs = append(errs, err)
	}
	if err := ValidateName("dead stream", c.DeadStream); err != nil {
		errs = append(errs, err)
	}
	if c.PollInterval < time.Millisecond {
		errs = append(errs, Invalidf("poll interval", "is %v; it takes 1ms or more", c.PollInterval))
	}
	return errors.Join(errs...)
}

// ConfigFromEnv reads the configuration from environment variables; what is unset or empty has its default. Pass os.LookupEnv.
// The error joins an [*InvalidError] for each variable that is wrong.
func ConfigFromEnv(lookup func(key string) (string, bool)) (Config, error) {
	var c Config
	var errs []error
	read := func(key string, set func(value string) error) {
		value, ok := lookup(key)
		if !ok || value == "" {
			return
		}
		if err := set(value); err != nil {
			errs = append(errs, Invalidf(key, "is %q; %v", value, err))
		}
	}
	boolean := func(set func(bool)) func(string) error {
		return func(value string) error {
			on, err := strconv.ParseBool(value)
			if err != nil {
				return errors.New("it takes true or false")
			}
			set(on)
			return nil
		}
	}
	read("ES_NAMESPACE", func(v string) error { c.Namespace = v; return ValidateName("namespace", v) })
	read("ES_DEAD_STREAM", func(v string) error { c.DeadStream = v; return ValidateName("dead stream", v) })
	read("ES_POLL_INTERVAL", func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < time.Millisecond {
			return errors.New("it takes a duration of 1ms or more, such as 500ms or 2s")
		}
		c.PollInterval = d
		return nil
	})
	read("ES_METRICS", boolean(func(on bool) { c.NoMetrics = !on }))
	read("ES_LOG_JSON", boolean(func(on bool) { c.LogJSON = on }))
	read("ES_LOG_LEVEL", func(v string) error {
		if err := c.LogLevel.UnmarshalText([]byte(v)); err != nil {
			return errors.New("it takes debug, info, warn or error")
		}
		return nil
	})
	if len(errs) > 0 {
		return Config{}, fmt.Errorf("environment: %w", errors.Join(errs...))
	}
	return c.WithDefaults(), nil
}
