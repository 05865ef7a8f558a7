package estest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The times that the suites of the roles with leases use. A lease is short only where the line wants it to end: a stall of
// the machine must never make a line fail.
const (
	longLease  = 10 * time.Minute
	shortLease = 40 * time.Millisecond
	// clockSlack is how far a line lets the clock of a backend, and its precision, differ from its own.
	clockSlack = 20 * time.Millisecond
)

// bench is a role under test, with what its lines need: a handle, and a context that ends with the patience of the test.
type bench[R any] struct {
	testing.TB

	h       Harness[R]
	storage Storage[R]
	role    R
	ctx     context.Context
}

func newBench[R any](t testing.TB, h Harness[R]) *bench[R] {
	t.Helper()
	storage := h.New(t)
	return &bench[R]{TB: t, h: h, storage: storage, role: storage.Open(t, Namespace), ctx: patient(t)}
}

// benchLine makes a line out of its name and what it does on a bench.
func benchLine[R any](name string, test func(b *bench[R])) Line[Harness[R]] {
	id, _, _ := strings.Cut(name, "/")
	return Line[Harness[R]]{ID: id, Name: name, Run: func(t testing.TB, h Harness[R]) {
		t.Helper()
		test(newBench(t, h))
	}}
}

// ok ends the test unless err is nil. What was done is for the report.
func (b *bench[R]) ok(err error, what string, args ...any) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// is ends the test unless err is the target.
func (b *bench[R]) is(err, target error, what string, args ...any) {
	b.Helper()
	if !errors.Is(err, target) {
		b.Fatalf("%s: the error is %v, want %v", fmt.Sprintf(what, args...), err, target)
	}
}

// another opens a second handle to the same things.
func (b *bench[R]) another() R {
	b.Helper()
	if !b.h.Handles() {
		b.Skip("needs Handles")
	}
	return b.storage.Open(b, Namespace)
}

// keeps skips the test where nothing outlives a handle.
func (b *bench[R]) keeps() {
	b.Helper()
	if !b.h.Durable() && !b.h.Handles() {
		b.Skip("needs Durable or Handles")
	}
}

// reopened closes the handle and opens another. Where nothing would outlive the handle, a second one is open meanwhile.
func (b *bench[R]) reopened() R {
	b.Helper()
	b.keeps()
	if !b.h.Durable() {
		b.storage.Open(b, Namespace)
	}
	b.ok(b.storage.Close(b, b.role), "close")
	b.role = b.storage.Open(b, Namespace)
	return b.role
}

// crashed drops the handle as kill -9 does, and opens another.
func (b *bench[R]) crashed() R {
	b.Helper()
	if !b.h.Durable() {
		b.Skip("needs Durable")
	}
	b.storage.Crash(b, b.role)
	b.role = b.storage.Open(b, Namespace)
	return b.role
}

// elsewhere opens another namespace of the same storage.
func (b *bench[R]) elsewhere(namespace string) R {
	b.Helper()
	if !b.h.Namespaces() {
		b.Skip("needs Namespaces")
	}
	return b.storage.Open(b, namespace)
}

// passed waits until a time that the backend has stated is over, by its clock too.
func (b *bench[R]) passed(end time.Time) {
	b.Helper()
	b.paused(time.Until(end) + clockSlack)
}

// paused waits for a time that the line wants to go by, such as a lease.
func (b *bench[R]) paused(d time.Duration) {
	b.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.ctx.Done():
		b.Fatalf("wait for %v: %v", d, b.ctx.Err())
	}
}

// about ends the test unless a time that the backend has stated lies between two of the test's own.
func (b *bench[R]) about(got, from, to time.Time, what string) {
	b.Helper()
	if got.Before(from.Add(-clockSlack)) || got.After(to.Add(clockSlack)) {
		b.Fatalf("%s is %v, want a time from %v to %v", what, got, from, to)
	}
}

// atOnce runs n goroutines that begin together, and returns when all of them have ended. What they find wrong they return.
func (b *bench[R]) atOnce(n int, each func(i int) error) {
	b.Helper()
	start, errs := make(chan struct{}), make(chan error, n)
	for i := range n {
		go func() {
			<-start
			errs <- each(i)
		}()
	}
	close(start)
	var failed []error
	for range n {
		failed = append(failed, <-errs)
	}
	b.ok(errors.Join(failed...), "%d at once", n)
}

// begun runs a function in a goroutine and returns its outcome by a channel. The context it gets ends with the test, which
// waits for the function to return.
func (b *bench[R]) begun(work func(ctx context.Context) error) <-chan error {
	ctx, cancel := context.WithCancel(b.ctx)
	result, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		result <- work(ctx)
	}()
	b.Cleanup(func() {
		cancel()
		<-ended
	})
	return result
}

// ended waits for what was begun.
func (b *bench[R]) ended(result <-chan error, what string) error {
	b.Helper()
	select {
	case err := <-result:
		return err
	case <-b.ctx.Done():
		b.Fatalf("%s: it did not end: %v", what, b.ctx.Err())
		return nil
	}
}

// closed holds calls to what is promised of a closed handle: each is ErrClosed, and closing twice is fine.
func (b *bench[R]) closed(calls map[string]func() error, errClosed error) {
	b.Helper()
	b.ok(b.storage.Close(b, b.role), "close")
	for name, call := range calls {
		if err := call(); !errors.Is(err, errClosed) {
			b.Errorf("%s after close: the error is %v, want %v", name, err, errClosed)
		}
	}
	b.ok(b.storage.Close(b, b.role), "close twice")
}
