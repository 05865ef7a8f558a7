package eventsourcing_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// part is a component that tells what is done to it.
type part struct {
	name     string
	log      *journal
	startErr error
	stopErr  error
	health   error
	done     chan struct{}
	err      error
}

type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func newPart(name string, log *journal) *part {
	return &part{name: name, log: log, done: make(chan struct{})}
}

func (p *part) Name() string { return p.name }

func (p *part) Start(context.Context) error {
	p.log.add("start " + p.name)
	return p.startErr
}

func (p *part) Stop(context.Context) error {
	p.log.add("stop " + p.name)
	return p.stopErr
}

func (p *part) Done() <-chan struct{}        { return p.done }
func (p *part) Err() error                   { return p.err }
func (p *part) Health(context.Context) error { return p.health }

func TestGroupStartsInOrderAndStopsInReverse(t *testing.T) {
	t.Parallel()
	var log journal
	boom := errors.New("boom")
	a, b, c := newPart("a", &log), newPart("b", &log), newPart("c", &log)
	b.stopErr = boom
	g := es.NewGroup("all", a, b, c)
	if err := g.Health(t.Context()); err == nil {
		t.Error("a group that was not started is healthy")
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Health(t.Context()); err != nil {
		t.Error(err)
	}
	c.health = boom
	if err := g.Health(t.Context()); !errors.Is(err, boom) || !strings.Contains(err.Error(), "c:") {
		t.Errorf("health: %v", err)
	}
	if err := g.Start(t.Context()); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("second start: %v", err)
	}
	if err := g.Stop(t.Context()); !errors.Is(err, boom) || !strings.Contains(err.Error(), "stop b") {
		t.Errorf("stop: %v", err)
	}
	<-g.Done()
	if err := g.Err(); err != nil {
		t.Errorf("a group that was stopped ended by %v", err)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Errorf("second stop: %v", err)
	}
	want := []string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}
	if !slices.Equal(log.lines, want) {
		t.Errorf("%v, want %v", log.lines, want)
	}
}

func TestGroupUndoesAStartThatFails(t *testing.T) {
	t.Parallel()
	var log journal
	boom := errors.New("boom")
	a, b, c := newPart("a", &log), newPart("b", &log), newPart("c", &log)
	b.startErr = boom
	g := es.NewGroup("all", a, b, c)
	if err := g.Start(t.Context()); !errors.Is(err, boom) || !strings.Contains(err.Error(), "start b") {
		t.Errorf("start: %v", err)
	}
	<-g.Done()
	if want := []string{"start a", "start b", "stop a"}; !slices.Equal(log.lines, want) {
		t.Errorf("%v, want %v", log.lines, want)
	}
}

func TestGroupEndsWithTheFirstOfItsParts(t *testing.T) {
	t.Parallel()
	var log journal
	boom := errors.New("boom")
	a, b := newPart("a", &log), newPart("b", &log)
	g := es.NewGroup("all", a, b)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.err = boom
	close(a.done)
	<-g.Done()
	if err := g.Err(); !errors.Is(err, boom) || !strings.Contains(err.Error(), "a:") {
		t.Errorf("ended by %v", err)
	}
	if err := g.Health(t.Context()); !errors.Is(err, boom) {
		t.Errorf("health: %v", err)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if want := []string{"start a", "start b", "stop b", "stop a"}; !slices.Equal(log.lines, want) {
		t.Errorf("%v, want %v", log.lines, want)
	}
}

func TestGroupThatWasNeverStartedIsStopped(t *testing.T) {
	t.Parallel()
	g := es.NewGroup("all")
	if err := g.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	<-g.Done()
	if err := g.Start(t.Context()); err == nil {
		t.Error("a group that was stopped starts")
	}
}

// slowPart is a component whose Stop takes until it is let go or its context ends.
type slowPart struct {
	*part

	stopping chan struct{}
	finish   chan struct{}
}

func (p *slowPart) Stop(ctx context.Context) error {
	close(p.stopping)
	select {
	case <-p.finish:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestGroupThatIsBeingStoppedIsNotStopped(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]struct {
		end  func(p *slowPart, cancel context.CancelFunc) // ends what the second Stop waits for
		want error
	}{
		"it finishes":                  {func(p *slowPart, _ context.CancelFunc) { close(p.finish) }, nil},
		"the second has less patience": {func(_ *slowPart, cancel context.CancelFunc) { cancel() }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log journal
				p := &slowPart{part: newPart("a", &log), stopping: make(chan struct{}), finish: make(chan struct{})}
				g := es.NewGroup("all", p)
				if err := g.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				stopped := make(chan error, 2)
				go func() { stopped <- g.Stop(context.Background()) }()
				<-p.stopping
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				go func() { stopped <- g.Stop(ctx) }()
				synctest.Wait()
				if len(stopped) != 0 {
					t.Error("the second Stop returned while the first was under way")
				}
				second.end(p, cancel)
				for range 2 {
					if err := <-stopped; !errors.Is(err, second.want) {
						t.Errorf("stop: %v, want %v", err, second.want)
					}
				}
			})
		})
	}
}

// slowStart is a component whose Start takes until it is let go or its context ends.
type slowStart struct {
	*part

	starting chan struct{}
	finish   chan struct{}
}

func newSlowStart(name string, log *journal) *slowStart {
	return &slowStart{part: newPart(name, log), starting: make(chan struct{}), finish: make(chan struct{})}
}

func (p *slowStart) Start(ctx context.Context) error {
	close(p.starting)
	select {
	case <-p.finish:
		return p.part.Start(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestGroupThatIsBeingStartedAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log journal
		p := newSlowStart("b", &log)
		g := es.NewGroup("all", newPart("a", &log), p)
		started := make(chan error, 1)
		go func() { started <- g.Start(t.Context()) }()
		<-p.starting
		if err := g.Health(t.Context()); err == nil {
			t.Error("a group that is being started is healthy")
		}
		if err := g.Err(); err != nil {
			t.Errorf("a group that is being started has ended by %v", err)
		}
		if err := g.Start(t.Context()); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("a second start: %v", err)
		}
		close(p.finish)
		if err := <-started; err != nil {
			t.Error(err)
		}
		if err := g.Health(t.Context()); err != nil {
			t.Error(err)
		}
		if err := g.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestGroupThatIsStoppedWhileItStarts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hears bool // the component that is starting gives up when it is told to
		want  []string
	}{
		"the start is broken off":   {true, []string{"start a", "stop a"}},
		"the start goes to its end": {false, []string{"start a", "start b", "stop b", "stop a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log journal
				p := newSlowStart("b", &log)
				var last es.Component = p
				if !c.hears {
					last = deaf{p}
				}
				g := es.NewGroup("all", newPart("a", &log), last)
				started := make(chan error, 1)
				go func() { started <- g.Start(t.Context()) }()
				<-p.starting
				if err := g.Stop(t.Context()); err != nil {
					t.Errorf("stop: %v", err)
				}
				if err := <-started; !errors.Is(err, es.ErrClosed) {
					t.Errorf("start: %v", err)
				}
				<-g.Done()
				if !slices.Equal(log.lines, c.want) {
					t.Errorf("%v, want %v", log.lines, c.want)
				}
				if err := g.Health(t.Context()); err == nil {
					t.Error("a group that was stopped is healthy")
				}
			})
		})
	}
}

// deaf is a component that goes on starting when it is told to give up, and comes to the end of it then.
type deaf struct{ *slowStart }

func (d deaf) Start(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { close(d.finish) })()
	return d.slowStart.Start(context.WithoutCancel(ctx))
}

func TestGroupWhoseStartIsUndoneIsBrokenOffByAStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log journal
		slow := &slowPart{part: newPart("a", &log), stopping: make(chan struct{}), finish: make(chan struct{})}
		bad := newPart("b", &log)
		bad.startErr = errors.New("boom")
		g := es.NewGroup("all", slow, bad)
		started := make(chan error, 1)
		begin := time.Now()
		go func() { started <- g.Start(t.Context()) }()
		<-slow.stopping
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Stop(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("stop: %v", err)
		}
		if err := <-started; !errors.Is(err, bad.startErr) || !errors.Is(err, context.Canceled) {
			t.Errorf("start: %v", err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestTheFirstOfSeveralThatEndIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log journal
		a, b := newPart("a", &log), newPart("b", &log)
		g := es.NewGroup("group", a, b)
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		close(a.done)
		synctest.Wait()
		close(b.done)
		synctest.Wait()
		if err := g.Err(); err == nil || !strings.HasPrefix(err.Error(), "a: ") {
			t.Errorf("it ended with %v", err)
		}
		if err := g.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// panicking is a component that panics where it is told to.
type panicking struct {
	*part

	starts, stops bool
}

func (p panicking) Start(ctx context.Context) error {
	if p.starts {
		panic("no start")
	}
	return p.part.Start(ctx)
}

func (p panicking) Stop(ctx context.Context) error {
	if p.stops {
		panic("no stop")
	}
	return p.part.Stop(ctx)
}

// TestAGroupIsStoppedByAPanic has components that panic: it goes on as a panic, and the others are stopped before.
func TestAGroupIsStoppedByAPanic(t *testing.T) {
	t.Parallel()
	panicOf := func(call func(context.Context) error) (value any) {
		defer func() { value = recover() }()
		_ = call(t.Context())
		return nil
	}
	for name, bad := range map[string]panicking{"no start": {starts: true}, "no stop": {stops: true}} {
		var log journal
		bad.part = newPart("bad", &log)
		g := es.NewGroup("group", newPart("a", &log), newPart("b", &log), bad, newPart("c", &log))
		want := []string{"start a", "start b", "stop b", "stop a"}
		got := panicOf(g.Start)
		if bad.stops {
			want = []string{"start a", "start b", "start bad", "start c", "stop c", "stop b", "stop a"}
			got = panicOf(g.Stop)
		}
		if got != name {
			t.Errorf("the panic is %v, want %s", got, name)
		}
		if !slices.Equal(log.lines, want) {
			t.Errorf("%s: what happened is %q, want %q", name, log.lines, want)
		}
		<-g.Done()
		if err := g.Stop(t.Context()); err != nil { // and it does not wait for ever
			t.Error(err)
		}
	}
}

// TestGroupTellsOfAComponentThatEndedRightBeforeItsStop: it need not have been noticed by then.
func TestGroupTellsOfAComponentThatEndedRightBeforeItsStop(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for range 200 {
		c := newPart("a", &journal{})
		g := es.NewGroup("all", c)
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.err = broken
		close(c.done)
		if err := g.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.Err(); !errors.Is(err, broken) {
			t.Fatalf("the group tells %v", err)
		}
	}
}
