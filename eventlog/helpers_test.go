package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// fixture is a storage, and a backend to look at it with.
type fixture struct {
	*testing.T
	storage *memory.Storage
	backend *memory.Backend
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, storage: memory.NewStorage()}
	f.backend = f.open()
	return f
}

// open opens another backend on the storage, as another process does.
func (f *fixture) open() *memory.Backend {
	f.Helper()
	b, err := memory.Open(memory.Config{Storage: f.storage})
	f.ok(err)
	f.Cleanup(func() { _ = b.Close() })
	return b
}

// log opens a log on a backend of its own.
func (f *fixture) log(c eventlog.Config) *eventlog.Log {
	f.Helper()
	return f.logOn(f.open(), c)
}

func (f *fixture) logOn(b es.Backend, c eventlog.Config) *eventlog.Log {
	f.Helper()
	log, err := eventlog.New(b, c)
	f.ok(err)
	f.Cleanup(func() { _ = log.Close() })
	return log
}

func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) wantError(err, target error) {
	f.Helper()
	if !errors.Is(err, target) {
		f.Fatalf("the error is %v, want %v", err, target)
	}
}

func (f *fixture) subscribe(s es.Subscriber, opts es.SubscribeOptions) es.Subscription {
	f.Helper()
	sub, err := s.Subscribe(f.Context(), "orders", opts)
	f.ok(err)
	return sub
}

// publish appends a message for each text, in the stream that its first letter names, and returns the position of the last.
func (f *fixture) publish(texts ...string) int64 {
	f.Helper()
	var last int64
	for _, text := range texts {
		m := es.NewMessage("orders-"+text[:1], "Noted", []byte(text))
		m.Tags = []string{"key:" + text[:1]}
		done, err := f.backend.Events().Append(f.Context(), es.AppendTo(m.Stream, es.Any, m))
		f.ok(err)
		last = done.Position
	}
	return last
}

// receive receives until it has n deliveries.
func (f *fixture) receive(sub es.Subscription, n int) []es.Delivery {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 10*time.Minute)
	defer cancel()
	var all []es.Delivery
	for len(all) < n {
		dst := make([]es.Delivery, n-len(all))
		got, err := sub.Receive(ctx, dst)
		if err != nil {
			f.Fatalf("after %v of %d: %v", texts(all), n, err)
		}
		all = append(all, dst[:got]...)
	}
	return all
}

// consume receives n messages, and acknowledges them one by one.
func (f *fixture) consume(sub es.Subscription, n int) []string {
	f.Helper()
	var all []string
	for range n {
		ds := f.receive(sub, 1)
		f.ok(sub.Ack(f.Context(), ds))
		all = append(all, texts(ds)...)
	}
	return all
}

// wantNothing fails when something comes. It is for fake time.
func (f *fixture) wantNothing(sub es.Subscription, within time.Duration) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), within)
	defer cancel()
	dst := make([]es.Delivery, 8)
	n, err := sub.Receive(ctx, dst)
	if !errors.Is(err, context.DeadlineExceeded) {
		f.Fatalf("%v came, %v", texts(dst[:n]), err)
	}
}

func (f *fixture) want(got []string, want ...string) {
	f.Helper()
	if !slices.Equal(got, want) {
		f.Fatalf("received %v, want %v", got, want)
	}
}

func texts(ds []es.Delivery) []string {
	var all []string
	for _, d := range ds {
		all = append(all, string(d.Data))
	}
	return all
}

// numbered are n texts that begin with a letter.
func numbered(letter string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%d", letter, i+1)
	}
	return all
}
