package eshttp_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// TestAComponentThatFailsWhileRequestsAreFinished is told by Run, although it was stopping already.
func TestAComponentThatFailsWhileRequestsAreFinished(t *testing.T) {
	t.Parallel()
	j := &journal{}
	failing := newComponent("failing", j)
	broken := errors.New("no disk")
	arrived := make(chan struct{})
	p := run(t, eshttp.Config{
		Components: []es.Component{failing},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-eshttp.Stopping(r.Context())
			failing.err = broken
			close(failing.done)
			_ = eshttp.WriteJSON(w, http.StatusOK, "finished")
		}),
	})
	answers := make(chan answer)
	go func() { answers <- p.get("/") }()
	<-arrived
	p.cancel()
	if a := <-answers; a.status != http.StatusOK {
		t.Errorf("the request under way is answered with %d %s", a.status, a.body)
	}
	if err := p.ended(); !errors.Is(err, broken) {
		t.Errorf("Run returned %v", err)
	}
}

func TestAServiceThatIsStoppingIsNotReady(t *testing.T) {
	t.Parallel()
	part := newComponent("a", &journal{})
	p := run(t, eshttp.Config{
		Announce: time.Hour, Handler: eshttp.Health(newComponent("good", &journal{})), Components: []es.Component{part},
	})
	if a := p.get("/readyz"); a.status != http.StatusOK {
		t.Errorf("before the stop it is %d %s", a.status, a.body)
	}
	p.cancel()
	p.untilUnready()
	if a := p.get("/livez"); a.status != http.StatusOK {
		t.Errorf("while it announces its stop /livez is %d %s", a.status, a.body)
	}
	select {
	case err := <-p.result:
		t.Fatalf("it ended before its announcement did: %v", err)
	default:
	}
	part.err = errors.New("no disk")
	close(part.done) // there is nothing left to announce
	if err := p.ended(); !errors.Is(err, part.err) {
		t.Errorf("Run returned %v", err)
	}
}

// untilUnready asks until the service says that it is stopping.
func (p *program) untilUnready() {
	p.Helper()
	for {
		if a := p.get("/readyz"); a.status != http.StatusOK {
			problem(p.T, a, http.StatusServiceUnavailable)
			return
		}
	}
}

func TestASecondSignalEndsTheAnnouncement(t *testing.T) { // not parallel: signals are for the whole process
	p := run(t, eshttp.Config{Announce: time.Hour, Handler: eshttp.Health(), Signals: []os.Signal{syscall.SIGUSR1}})
	kill(t)
	p.untilUnready() // a second one that comes at once may be taken for the first
	kill(t)
	if err := p.ended(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

// TestASecondSignalBreaksOffAStartThatIsUndone lets the stop of what was started hang, until the second signal.
func TestASecondSignalBreaksOffAStartThatIsUndone(t *testing.T) { // not parallel: signals are for the whole process
	j := &journal{}
	hanging := newComponent("hanging", j)
	hanging.stop = func(ctx context.Context) error {
		kill(t)
		<-ctx.Done()
		return ctx.Err()
	}
	bad := starting{newComponent("bad", j), func(ctx context.Context) error {
		kill(t)
		<-ctx.Done()
		return ctx.Err()
	}}
	begin := time.Now()
	err := eshttp.Run(t.Context(), eshttp.Config{
		Addr: "127.0.0.1:0", Handler: http.NotFoundHandler(), Components: []es.Component{hanging, bad},
		Signals:  []os.Signal{syscall.SIGUSR1},
		OnListen: func(net.Addr) { t.Error("it listens") },
	})
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	j.want(t, "start hanging", "start bad", "stop hanging")
}

func TestAPanicWhileItStopsIsAnswered(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	p := run(t, eshttp.Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-eshttp.Stopping(r.Context())
		panic("secret")
	})})
	answers := make(chan answer)
	go func() { answers <- p.get("/") }()
	<-arrived
	p.cancel()
	problem(t, <-answers, http.StatusInternalServerError)
	if err := p.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}
