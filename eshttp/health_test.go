package eshttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// asked is a component whose Health does what a test says.
type asked struct {
	*component

	answer func(ctx context.Context) error
}

func (a asked) Health(ctx context.Context) error { return a.answer(ctx) }

// readiness asks for /readyz and returns the status and the components that are not ready.
func readiness(t *testing.T, h http.Handler) (status int, unready string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	if w.Code == http.StatusOK {
		return w.Code, ""
	}
	return w.Code, fmt.Sprint(problem(t, recorded(w), http.StatusServiceUnavailable)["components"])
}

func TestAComponentThatDoesNotSayHowItIsIsNotReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		loose := make(chan struct{})
		stuck := asked{newComponent("stuck", &journal{}), func(context.Context) error { // it does not care for its context
			calls.Add(1)
			<-loose
			return nil
		}}
		h := eshttp.Health(stuck, newComponent("good", &journal{}))
		const probes = 3
		for range probes {
			begin := time.Now()
			if status, unready := readiness(t, h); status != http.StatusServiceUnavailable || unready != "[stuck]" {
				t.Errorf("/readyz is %d, not ready are %s, want the stuck one alone", status, unready)
			}
			if took := time.Since(begin); took != 5*time.Second {
				t.Errorf("/readyz took %v", took)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d probes asked the stuck component %d times; each is a goroutine that does not end", probes, n)
		}
		close(loose)
		synctest.Wait()
		if status, unready := readiness(t, h); status != http.StatusOK {
			t.Errorf("/readyz is %d, not ready are %s, after nothing is stuck any more", status, unready)
		}
	})
}

func TestAComponentThatPanicsWhenAskedIsNotReady(t *testing.T) {
	t.Parallel()
	panics := asked{newComponent("panics", &journal{}), func(context.Context) error { panic("secret") }}
	if status, unready := readiness(t, eshttp.Health(panics)); status != http.StatusServiceUnavailable || unready != "[panics]" {
		t.Errorf("/readyz is %d, not ready are %s", status, unready)
	}
}

func TestAnImpatientProbeSpoilsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := asked{newComponent("slow", &journal{}), func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		h := eshttp.Health(slow)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
		}()
		<-ctx.Done()
		if status, unready := readiness(t, h); status != http.StatusOK {
			t.Errorf("/readyz is %d, not ready are %s, because another probe went away", status, unready)
		}
		<-gone
	})
}

var _ es.Component = asked{}
