package middleware

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

var errBoom = errors.New("boom")

func delivery(attempt int) *es.Delivery {
	m := es.NewMessage("order-1", "Ordered", []byte(`{}`))
	return &es.Delivery{Message: m, Topic: "order", Group: "shipping", Attempt: attempt}
}

// returning is a handler that returns an error.
func returning(err error) es.HandlerFunc {
	return func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, err }
}

// output is a handler that returns a message.
func output(m *es.Message) es.HandlerFunc {
	return func(context.Context, *es.Delivery) ([]*es.Message, error) { return []*es.Message{m}, nil }
}

// TestOutputsPass: no middleware keeps what a handler returns.
func TestOutputsPass(t *testing.T) {
	t.Parallel()
	m := es.NewMessage("x", "Y", nil)
	for _, c := range cases(t) {
		outputs, err := c.wrap(output(m)).Handle(t.Context(), delivery(1))
		if err != nil || len(outputs) != 1 || outputs[0] != m {
			t.Errorf("%s returned %v, %v", c.name, outputs, err)
		}
	}
}

// TestOutcomesPass: a skip, a panic and runtime.Goexit go through all that do not say otherwise, and the next message is handled.
func TestOutcomesPass(t *testing.T) {
	t.Parallel()
	skip := es.Skip(errBoom)
	for _, c := range cases(t) {
		var outcome func() error
		h := c.wrap(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, outcome() }))
		outcome = func() error { return skip }
		if _, err := h.Handle(t.Context(), delivery(1)); err != skip { //nolint:errorlint // the very one
			t.Errorf("%s made %v of a skip", c.name, err)
		}
		outcome = func() error { panic(errBoom) }
		if err := panicked(t, h); !errors.Is(err, errBoom) {
			t.Errorf("%s made %v of a panic", c.name, err)
		}
		var gone sync.WaitGroup
		gone.Go(func() {
			outcome = func() error { runtime.Goexit(); return nil }
			_, err := h.Handle(t.Context(), delivery(1))
			t.Errorf("%s stopped runtime.Goexit: %v", c.name, err)
		})
		gone.Wait()
		outcome = func() error { return nil }
		if _, err := h.Handle(t.Context(), delivery(1)); err != nil {
			t.Errorf("%s: the next message: %v", c.name, err)
		}
	}
}

// panicked returns what a handler panics with, as an error, or the error that it returns.
func panicked(t *testing.T, h es.Handler) (err error) {
	t.Helper()
	defer func() {
		if value := recover(); value != nil {
			err, _ = value.(error)
		}
	}()
	_, err = h.Handle(t.Context(), delivery(1))
	return err
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		b       Backoff
		attempt int
		ceiling time.Duration
	}{
		{Backoff{}, -5, 100 * time.Millisecond},
		{Backoff{}, 0, 100 * time.Millisecond},
		{Backoff{}, 1, 100 * time.Millisecond},
		{Backoff{}, 2, 200 * time.Millisecond},
		{Backoff{}, 10, 51200 * time.Millisecond},
		{Backoff{}, 11, time.Minute},
		{Backoff{}, math.MaxInt, time.Minute},
		{Backoff{Base: time.Hour}, 1, time.Hour},
		{Backoff{Base: time.Hour}, 2, time.Hour},
		{Backoff{Base: 1, Max: math.MaxInt64}, 62, 1 << 61},
		{Backoff{Base: 1, Max: math.MaxInt64}, 63, 1 << 62},
		{Backoff{Base: 1, Max: math.MaxInt64}, 64, math.MaxInt64},
		{Backoff{Base: 1, Max: math.MaxInt64}, 1 << 40, math.MaxInt64},
		{Backoff{Base: math.MaxInt64, Max: math.MaxInt64}, 3, math.MaxInt64},
		{Backoff{Base: -1, Max: -1}, 2, 200 * time.Millisecond},
	} {
		if got := test.b.Ceiling(test.attempt); got != test.ceiling {
			t.Errorf("%+v: the ceiling after attempt %d is %v, not %v", test.b, test.attempt, got, test.ceiling)
		}
		for _, random := range []float64{0, math.Copysign(0, -1), 0.25, 0.5, math.Nextafter(1, 0), 1, 7, -7} {
			b := test.b
			b.Random = func() float64 { return random }
			want := time.Duration(min(max(random, 0), 1) * float64(test.ceiling))
			if got := b.Delay(test.attempt); got != want && got != test.ceiling || got < 0 || got > test.ceiling {
				t.Errorf("%+v: the delay after attempt %d is %v for %v, not %v", test.b, test.attempt, got, random, want)
			}
		}
		for range 100 {
			if got := test.b.Delay(test.attempt); got < 0 || got > test.ceiling {
				t.Errorf("%+v: the delay after attempt %d is %v, the ceiling is %v", test.b, test.attempt, got, test.ceiling)
			}
		}
	}
}

func TestRetryDecides(t *testing.T) {
	t.Parallel()
	random := func() float64 { return 0.5 }
	for name, test := range map[string]struct {
		config  RetryConfig
		attempt int
		age     time.Duration // since the first attempt; negative: not known
		err     error
		verdict es.Verdict
		delay   time.Duration
		is      []error
		uncalled,
		unchanged bool
	}{
		"success":                   {attempt: 1, verdict: es.VerdictDone, unchanged: true},
		"plain, first":              {attempt: 1, err: errBoom, verdict: es.VerdictRetry, delay: 50 * time.Millisecond, is: []error{errBoom}},
		"plain, third":              {attempt: 3, err: errBoom, verdict: es.VerdictRetry, delay: 200 * time.Millisecond, is: []error{errBoom}},
		"plain, last":               {attempt: 5, err: errBoom, verdict: es.VerdictDead, is: []error{errBoom, es.ErrAttemptsExhausted}},
		"beyond":                    {attempt: 6, err: errBoom, verdict: es.VerdictDead, is: []error{es.ErrAttemptsExhausted}, uncalled: true},
		"other bound":               {config: RetryConfig{Attempts: 1}, attempt: 1, err: errBoom, verdict: es.VerdictDead, is: []error{errBoom}},
		"no bound":                  {config: RetryConfig{Attempts: -1}, attempt: 1e9, err: errBoom, verdict: es.VerdictRetry, delay: 30 * time.Second},
		"permanent":                 {attempt: 1, err: es.Invalidf("item", "is wrong"), verdict: es.VerdictDead, is: []error{es.ErrInvalid}},
		"skip":                      {attempt: 5, err: es.Skip(errBoom), verdict: es.VerdictSkip, unchanged: true},
		"dead":                      {attempt: 1, err: es.DeadLetter(errBoom), verdict: es.VerdictDead, unchanged: true},
		"busy":                      {attempt: 5, err: es.Busy(time.Hour, errBoom), verdict: es.VerdictBusy, delay: time.Hour, unchanged: true},
		"retry after":               {attempt: 4, err: es.RetryAfter(time.Hour, errBoom), verdict: es.VerdictRetry, delay: time.Hour, unchanged: true},
		"retry after, last":         {attempt: 5, err: es.RetryAfter(time.Hour, errBoom), verdict: es.VerdictDead, is: []error{errBoom, es.ErrAttemptsExhausted}},
		"panic":                     {attempt: 1, err: &es.PanicError{Value: errBoom}, verdict: es.VerdictRetry, delay: 50 * time.Millisecond, is: []error{errBoom}},
		"within the time":           {config: RetryConfig{Elapsed: time.Hour}, attempt: 2, age: time.Minute, err: errBoom, verdict: es.VerdictRetry, delay: 100 * time.Millisecond},
		"time is up":                {config: RetryConfig{Elapsed: time.Hour}, attempt: 2, age: time.Hour, err: errBoom, verdict: es.VerdictDead, is: []error{errBoom, es.ErrAttemptsExhausted}},
		"time would be up":          {config: RetryConfig{Elapsed: time.Hour}, attempt: 2, age: time.Hour - 50*time.Millisecond, err: errBoom, verdict: es.VerdictDead},
		"time is up on retry after": {config: RetryConfig{Elapsed: time.Hour}, attempt: 2, err: es.RetryAfter(2*time.Hour, errBoom), verdict: es.VerdictDead},
		"time is up and it is done": {config: RetryConfig{Elapsed: time.Hour}, attempt: 2, age: 2 * time.Hour, verdict: es.VerdictDone},
		"time is not known":         {config: RetryConfig{Elapsed: 1}, attempt: 2, age: -1, err: errBoom, verdict: es.VerdictRetry, delay: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				test.config.Backoff.Random = random
				called := false
				h := Retry(test.config)(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
					called = true
					return nil, test.err
				}))
				d := delivery(test.attempt)
				if test.age >= 0 {
					d.First = time.Now().Add(-test.age)
				}
				start := time.Now()
				_, err := h.Handle(t.Context(), d)
				if took := time.Since(start); took != 0 {
					t.Errorf("it slept for %v", took)
				}
				if called == test.uncalled {
					t.Errorf("called: %v", called)
				}
				verdict, delay := es.Judge(err)
				if verdict != test.verdict || delay != test.delay {
					t.Errorf("%v: %v after %v, not %v after %v", err, verdict, delay, test.verdict, test.delay)
				}
				for _, target := range test.is {
					if !errors.Is(err, target) {
						t.Errorf("%v is not %v", err, target)
					}
				}
				if test.unchanged && !errors.Is(err, test.err) {
					t.Errorf("%v was made of %v", err, test.err)
				}
			})
		})
	}
}

// TestRetryLetsGoWhenStopped: being stopped is no fault of the message, not even at its last attempt.
func TestRetryLetsGoWhenStopped(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{context.Canceled, errBoom, es.ErrInvalid} {
		ctx, cancel := context.WithCancel(t.Context())
		h := Retry(RetryConfig{})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			cancel()
			return nil, fault
		}))
		_, err := h.Handle(ctx, delivery(DefaultAttempts))
		if verdict, _ := es.Judge(err); verdict != es.VerdictFailed || !errors.Is(err, fault) {
			t.Errorf("%v became %v", fault, err)
		}
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	_, err := Recover(RecoverConfig{})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		panic(errBoom)
	})).Handle(t.Context(), delivery(1))
	var panicked *es.PanicError
	if !errors.As(err, &panicked) || !errors.Is(err, errBoom) || !strings.Contains(string(panicked.Stack), "TestRecover") {
		t.Errorf("the panic became %v", err)
	}
	_, err = Recover(RecoverConfig{StackBytes: 10})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		panic("text")
	})).Handle(t.Context(), delivery(1))
	if !errors.As(err, &panicked) || len(panicked.Stack) != 10 || err.Error() != "panic: text" {
		t.Errorf("the panic became %v", err)
	}
	if _, err := Recover(RecoverConfig{})(returning(errBoom)).Handle(t.Context(), delivery(1)); err != errBoom { //nolint:errorlint // the very one
		t.Errorf("the error became %v", err)
	}
	var gone sync.WaitGroup
	gone.Go(func() {
		_, err := Recover(RecoverConfig{})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			runtime.Goexit()
			return nil, nil
		})).Handle(t.Context(), delivery(1))
		t.Errorf("runtime.Goexit was stopped: %v", err)
	})
	gone.Wait()
}

func TestLogging(t *testing.T) {
	t.Parallel()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx   context.Context
		err   error
		level string
		says  []string
	}{
		"done":      {t.Context(), nil, "DEBUG", []string{`msg="message handled"`}},
		"skip":      {t.Context(), es.Skip(errBoom), "INFO", []string{`msg="message skipped"`, "boom"}},
		"busy":      {t.Context(), es.Busy(time.Second, errBoom), "DEBUG", []string{`msg="message busy"`, "delay=1s"}},
		"retry":     {t.Context(), es.RetryAfter(time.Second, errBoom), "WARN", []string{`msg="message failed"`, "delay=1s", "boom"}},
		"failed":    {t.Context(), errBoom, "WARN", []string{`msg="message failed"`, "error=boom"}},
		"permanent": {t.Context(), es.Invalidf("item", "is wrong"), "ERROR", []string{`msg="message failed for good"`}},
		"dead":      {t.Context(), es.DeadLetter(errBoom), "ERROR", []string{`msg="message failed for good"`, "boom"}},
		"panic":     {t.Context(), es.DeadLetter(&es.PanicError{Value: "x", Stack: []byte("here")}), "ERROR", []string{"stack=here"}},
		"stopped":   {stopped, errBoom, "INFO", []string{`msg="handler stopped"`}},
		"in time":   {stopped, nil, "DEBUG", []string{`msg="message handled"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var text bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
			d := delivery(3)
			d.Version, d.Position = 7, 70
			_, err := Logging(LoggingConfig{Logger: logger})(returning(test.err)).Handle(test.ctx, d)
			if err != test.err { //nolint:errorlint // the very one
				t.Errorf("the error became %v", err)
			}
			for _, want := range append(test.says, "level="+test.level, "id="+d.ID.String(), "correlation="+d.ID.String(), "name=Ordered", "stream=order-1",
				"version=7", "position=70", "topic=order", "group=shipping", "attempt=3", "duration=") {
				if !strings.Contains(text.String(), want) {
					t.Errorf("the line has no %s: %s", want, text.String())
				}
			}
		})
	}
	var text bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&text, nil)) // from info on
	if _, err := Logging(LoggingConfig{Logger: logger})(returning(nil)).Handle(t.Context(), delivery(1)); err != nil || text.Len() > 0 {
		t.Errorf("%v was logged below the level: %s", err, &text)
	}
}

// TestLoggingAsConfigured: levels of one's own, also while the program runs, more attributes, and the conversation's correlation.
func TestLoggingAsConfigured(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	var handled slog.LevelVar
	logger := slog.New(slog.NewTextHandler(&text, nil)) // from info on
	wrap := Logging(LoggingConfig{
		Logger: logger,
		Levels: LogLevels{
			Handled: &handled, Busy: slog.LevelWarn, Skipped: slog.LevelDebug, Stopped: slog.LevelError,
			Failed: slog.LevelInfo, Dead: slog.LevelError + 4,
		},
		Attrs: func(_ context.Context, d *es.Delivery) []slog.Attr {
			return []slog.Attr{slog.String("tenant", d.Metadata["tenant"])}
		},
	})
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, step := range []struct {
		ctx  context.Context
		err  error
		says string
	}{
		{t.Context(), nil, "level=INFO"},
		{t.Context(), es.Busy(0, errBoom), "level=WARN"},
		{t.Context(), es.Skip(errBoom), ""},
		{stopped, errBoom, "level=ERROR"},
		{t.Context(), errBoom, "level=INFO"},
		{t.Context(), es.DeadLetter(errBoom), "level=ERROR+4"},
	} {
		text.Reset()
		d := delivery(1)
		d.Metadata, d.CorrelationID = map[string]string{"tenant": "acme"}, "conversation"
		_, _ = wrap(returning(step.err)).Handle(step.ctx, d)
		if step.says == "" && text.Len() > 0 || !strings.Contains(text.String(), step.says) {
			t.Errorf("%v: the log is %s", step.err, &text)
		}
		if text.Len() > 0 && (!strings.Contains(text.String(), "tenant=acme") || !strings.Contains(text.String(), "correlation=conversation")) {
			t.Errorf("%v: the log is %s", step.err, &text)
		}
	}
	text.Reset()
	handled.Set(slog.LevelDebug)
	if _, _ = wrap(returning(nil)).Handle(t.Context(), delivery(1)); text.Len() > 0 {
		t.Errorf("the level was changed, and the log is %s", &text)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counters := &Counters{}
		took := time.Second
		var err error
		h := Metrics(MetricsConfig{Recorder: counters})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			time.Sleep(took)
			return nil, err
		}))
		for _, step := range []struct {
			took time.Duration
			err  error
		}{{time.Second, nil}, {3 * time.Second, nil}, {2 * time.Second, nil}, {time.Minute, es.DeadLetter(errBoom)}} {
			took, err = step.took, step.err
			if _, got := h.Handle(t.Context(), delivery(1)); got != err { //nolint:errorlint // the very one
				t.Errorf("the error became %v", got)
			}
		}
		panics := Metrics(MetricsConfig{Recorder: counters})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			panic("boom")
		}))
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was stopped")
				}
			}()
			d := delivery(1)
			d.Topic = "a"
			_, _ = panics.Handle(t.Context(), d)
		}()
		var text bytes.Buffer
		n, err := counters.WriteTo(&text)
		want := "topic=\"a\" group=\"shipping\" outcome=failed messages=1 total=0s longest=0s\n" +
			"topic=\"order\" group=\"shipping\" outcome=done messages=3 total=6s longest=3s\n" +
			"topic=\"order\" group=\"shipping\" outcome=dead messages=1 total=1m0s longest=1m0s\n"
		if text.String() != want || err != nil || n != int64(len(want)) {
			t.Errorf("the counters are\n%s%d, %v", &text, n, err)
		}
	})
}

func TestCountersAddUpUnderConcurrency(t *testing.T) {
	t.Parallel()
	counters := &Counters{}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 1000 {
				counters.Handled(Labels{Topic: strconv.Itoa(i % 3)}, es.VerdictDone, time.Duration(worker*1000+i))
			}
		})
	}
	all.Wait()
	var messages int64
	var longest time.Duration
	for _, c := range counters.Counts() {
		messages += c.Messages
		longest = max(longest, c.Longest)
	}
	if messages != 8000 || longest != 7999 {
		t.Errorf("counted %d, longest %v", messages, longest)
	}
}
