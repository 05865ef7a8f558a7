package eshttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// LiveConfig says how to make a [Live]. Events is required; for everything else the zero value means the default.
type LiveConfig struct {
	// Name is for logs and health reports; "live" by default.
	Name string
	// Events is the store whose changes are followed.
	Events es.EventStore
	// Waiter waits for the projection that keeps the read model which is shown. Leave it nil when what is shown is read from the
	// store itself.
	Waiter es.Waiter
	// Interval is how long it waits after a change before it looks for the next, so that many changes in a short time are one; 100
	// milliseconds by default.
	Interval time.Duration
	// Heartbeat is how often a stream without news sends a sign of life, so that its receiver, and what stands between, do not take
	// it for dead, and that one who has gone is noticed; every 15 seconds by default.
	Heartbeat time.Duration
	// WriteTimeout is how long a receiver may take to receive what is sent to it before its stream ends; 10 seconds by default. The
	// WriteTimeout of the server does not hold for streams.
	WriteTimeout time.Duration
	// Retry is how long a receiver whose stream has ended is told to wait before it comes back, at the least; at the most it is
	// twice that. 2 seconds by default.
	Retry time.Duration
	// MaxStreams is the largest number of streams at a time; 10,000 by default. Beyond it the answer is 503.
	MaxStreams int
	// Logger is told of what fails. The default discards.
	Logger *slog.Logger
}

// Live follows an event store for all who want to be told of changes over HTTP: however many they are, one goroutine waits for the
// store. It is a component, to be started before the server and stopped after it; [LiveState] and [LiveEvents] make its handlers.
//
// Its streams end when their receiver goes away or does not receive, when the server is told to stop (see [Stopping]), and when Live
// is stopped. A receiver that is slow holds nobody up: each is sent what is there when it has received what came before.
type Live struct {
	config LiveConfig

	mu      sync.Mutex
	latest  pulse
	changed chan struct{} // closed when there is another pulse than latest
	streams int
	health  error
	started bool

	ctx  context.Context //nolint:containedctx // of the work, which Stop ends
	stop context.CancelFunc
	done chan struct{}
	err  error // why it ended by itself; set before done is closed
}

// pulse says that there may be something new.
type pulse struct {
	number int           // from 1
	at     es.Checkpoint // what can be shown is at least as far as this
}

// NewLive makes a Live. The error is es.ErrInvalid.
func NewLive(config LiveConfig) (*Live, error) {
	if config.Events == nil {
		return nil, es.Invalidf("live", "has no Events; give it the store whose changes are to be shown")
	}
	for _, d := range []struct {
		name  string
		field *time.Duration
		value time.Duration
	}{
		{"Interval", &config.Interval, 100 * time.Millisecond},
		{"Heartbeat", &config.Heartbeat, 15 * time.Second},
		{"WriteTimeout", &config.WriteTimeout, 10 * time.Second},
		{"Retry", &config.Retry, 2 * time.Second},
	} {
		if *d.field < 0 {
			return nil, es.Invalidf("live", "has the %s %v; it takes a duration above 0", d.name, *d.field)
		}
		*d.field = cmp.Or(*d.field, d.value)
	}
	if config.MaxStreams < 0 {
		return nil, es.Invalidf("live", "has the MaxStreams %d; it takes a number above 0", config.MaxStreams)
	}
	config.MaxStreams = cmp.Or(config.MaxStreams, 10_000)
	config.Name = cmp.Or(config.Name, "live")
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Live{config: config, changed: make(chan struct{}), done: make(chan struct{})}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l, nil
}

// Name implements [es.Component].
func (l *Live) Name() string { return l.config.Name }

// Start implements [es.Component]. It is an error when the store cannot be read.
func (l *Live) Start(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started || l.ctx.Err() != nil {
		return fmt.Errorf("start %s: it was started or stopped before: %w", l.config.Name, es.ErrInvalid)
	}
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	defer context.AfterFunc(l.ctx, giveUp)() //nolint:contextcheck // a Stop ends the start
	head, err := l.config.Events.Head(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", l.config.Name, err)
	}
	l.started = true
	l.latest = pulse{number: 1, at: head} // what there is can be shown at once
	if l.config.Waiter != nil {
		l.latest.at.Position = 0 // how far that is, is not known yet
	}
	go l.follow(head)
	return nil
}

// Stop implements [es.Component]. It ends the streams, and does not wait for them: they are the server's.
func (l *Live) Stop(context.Context) error {
	l.stop()
	l.mu.Lock()
	started := l.started
	if !started {
		l.started = true
		close(l.done)
	}
	l.mu.Unlock()
	<-l.done
	return nil
}

// Done implements [es.Component].
func (l *Live) Done() <-chan struct{} { return l.done }

// Err implements [es.Component].
func (l *Live) Err() error {
	select {
	case <-l.done:
		return l.err
	default:
		return nil
	}
}

// Health implements [es.Component].
func (l *Live) Health(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started || l.ctx.Err() != nil {
		return fmt.Errorf("%s is not running", l.config.Name)
	}
	return l.health
}

// follow gives a pulse for what there is, and another whenever there is more, until Stop or the end of the store.
func (l *Live) follow(at es.Checkpoint) {
	defer close(l.done)
	defer l.stop() // the streams end with it
	for told := l.config.Waiter == nil; l.ctx.Err() == nil; {
		next, err := l.next(at, told)
		switch {
		case err == nil:
			at, told = next, true
			l.tell(at)
			l.pause(l.config.Interval)
		case l.ctx.Err() != nil:
		case errors.Is(err, es.ErrClosed):
			l.err = err
			return
		default:
			l.fail(err)
			if errors.Is(err, es.ErrCheckpoint) {
				at, told = es.Checkpoint{}, true // the store is another one: what it has now is new
			}
			l.pause(time.Second)
		}
	}
}

// next returns the place that can be shown: where the store is now, or, when that has been told, as soon as it is further.
func (l *Live) next(at es.Checkpoint, told bool) (es.Checkpoint, error) {
	if told {
		var err error
		if at, err = l.config.Events.Wait(l.ctx, at); err != nil {
			return at, err
		}
	}
	if l.config.Waiter == nil {
		return at, nil
	}
	return at, l.config.Waiter.WaitFor(l.ctx, at)
}

// tell gives the pulse.
func (l *Live) tell(at es.Checkpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = nil
	l.latest = pulse{number: l.latest.number + 1, at: at}
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Live) fail(err error) {
	l.config.Logger.Warn("live updates are held up", "component", l.config.Name, "error", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = fmt.Errorf("live updates are held up: %w", err)
}

func (l *Live) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.ctx.Done():
	}
}

// now returns the last pulse, and a channel that is closed when there is another.
func (l *Live) now() (pulse, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest, l.changed
}

// enter counts a stream, until the function is called that it returns.
func (l *Live) enter() (leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started || l.ctx.Err() != nil || l.streams >= l.config.MaxStreams {
		return nil, Problemf(http.StatusServiceUnavailable, "no more streams can be opened now; try again later")
	}
	l.streams++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.streams--
	}, nil
}

// source is what a stream sends.
type source interface {
	// open looks up what is there before the stream begins; its error is answered as any other.
	open(ctx context.Context, p pulse) error
	// news returns what is to be sent after a pulse, a part at a time. Each is sent before it goes on.
	news(ctx context.Context, p pulse, send func(text []byte) error) error
	// place is the ID of what its receiver has, or empty when that goes with each event and needs no telling in between.
	place() string
}

// serve sends what a source has until its receiver has gone or the stream is to end.
func (l *Live) serve(w http.ResponseWriter, r *http.Request, from source) {
	if !readOnly(w, r) {
		return
	}
	leave, err := l.enter()
	if err != nil {
		w.Header().Set("Retry-After", strconv.Itoa(int(l.config.Retry/time.Second)+1))
		Error(w, r, err)
		return
	}
	defer leave()
	ctx, end := context.WithCancel(r.Context())
	defer end()
	draining := drainingOf(ctx)
	for _, other := range []context.Context{draining, l.ctx} {
		defer context.AfterFunc(other, end)() //nolint:contextcheck // they are the server's and Live's
	}

	current, changed := l.now()
	if err := from.open(ctx, current); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("open a stream: %w", es.ErrClosed)
		}
		Error(w, r, err)
		return
	}
	stream, err := beginEventStream(w, l.config.WriteTimeout, l.config.Retry, from.place())
	if err != nil || r.Method == http.MethodHead { // whose answer has no end that its sender would see
		return
	}
	defer stream.hurry(draining, l.ctx)() //nolint:contextcheck // it is for the ends of others
	quiet := time.NewTicker(l.config.Heartbeat)
	defer quiet.Stop()
	for {
		sent, lost := false, false
		err := from.news(ctx, current, func(text []byte) error {
			sent = true
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := stream.write(text)
			lost = err != nil
			return err
		})
		if err != nil { // the receiver comes back and goes on where it was
			level := slog.LevelError
			if lost || ctx.Err() != nil || errors.Is(err, es.ErrClosed) {
				level = slog.LevelDebug
			}
			loggerOf(r).Log(ctx, level, "stream ended", "path", r.URL.Path, "error", err)
			return
		}
		if sent {
			quiet.Reset(l.config.Heartbeat)
		}
		select {
		case <-changed:
			current, changed = l.now()
		case <-quiet.C:
			if stream.write(heartbeat(from.place())) != nil {
				return
			}
		case <-ctx.Done(): // the receiver has gone, or the server or Live is stopping
			return
		}
	}
}

// drainingOf returns a context that ends when the server of a request begins to wait for those under way.
func drainingOf(ctx context.Context) context.Context {
	if s, ok := ctx.Value(serverKey{}).(*server); ok {
		return s.draining
	}
	return context.WithoutCancel(ctx)
}
