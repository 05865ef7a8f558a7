package eventsourcing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func lookup(env map[string]string) func(string) (string, bool) {
	return func(key string) (string, bool) {
		value, ok := env[key]
		return value, ok
	}
}

func TestConfigFromEnv(t *testing.T) {
	t.Parallel()
	c, err := es.ConfigFromEnv(lookup(nil))
	if err != nil || c != (es.Config{Namespace: "default", DeadStream: "dead", PollInterval: time.Second}) {
		t.Errorf("defaults: %+v, %v", c, err)
	}
	c, err = es.ConfigFromEnv(lookup(map[string]string{
		"ES_NAMESPACE": "shop", "ES_DEAD_STREAM": "graveyard", "ES_POLL_INTERVAL": "250ms", "ES_METRICS": "false",
		"ES_LOG_JSON": "true", "ES_LOG_LEVEL": "debug",
	}))
	want := es.Config{
		Namespace: "shop", DeadStream: "graveyard", PollInterval: 250 * time.Millisecond, NoMetrics: true, LogJSON: true,
		LogLevel: slog.LevelDebug,
	}
	if err != nil || c != want {
		t.Errorf("all set: %+v, %v", c, err)
	}
	if c, err = es.ConfigFromEnv(lookup(map[string]string{"ES_NAMESPACE": ""})); err != nil || c.Namespace != "default" {
		t.Errorf("set to nothing: %+v, %v", c, err)
	}
}

func TestConfigFromEnvNamesEveryMistake(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"ES_NAMESPACE": "a\nb", "ES_DEAD_STREAM": strings.Repeat("x", 300), "ES_POLL_INTERVAL": "5", "ES_METRICS": "maybe",
		"ES_LOG_JSON": "2", "ES_LOG_LEVEL": "loud",
	}
	_, err := es.ConfigFromEnv(lookup(env))
	if !errors.Is(err, es.ErrInvalid) {
		t.Fatal(err)
	}
	for key := range env {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not named in %q", key, err)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if err := (es.Config{}).Validate(); err != nil {
		t.Errorf("the zero configuration: %v", err)
	}
	err := es.Config{Namespace: "\x00", DeadStream: "\x01", PollInterval: -1}.Validate()
	for _, what := range []string{"namespace", "dead stream", "poll interval"} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v does not name the %s", err, what)
		}
	}
}

func TestNewLogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logger := es.NewLogger(&out, es.Config{LogJSON: true, LogLevel: slog.LevelWarn})
	logger.Info("not this")
	logger.Warn("this", "n", 1)
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["msg"] != "this" || line["n"] != 1.0 {
		t.Errorf("%s: %v", out.String(), err)
	}
	out.Reset()
	es.NewLogger(&out, es.Config{}).Info("text")
	if !strings.Contains(out.String(), "msg=text") {
		t.Errorf("%q", out.String())
	}
}
