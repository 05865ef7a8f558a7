package estest

import (
	"context"
	"slices"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// shelf is a publisher that keeps what it is given, in order.
type shelf struct {
	*runtimeTest

	// before is asked about each call, and may wait, or say that it fails as a whole; nil for no.
	before func(ctx context.Context, msgs []*es.Message) error

	mu      sync.Mutex
	calls   [][]*es.Message // that were taken, whole
	taken   []*es.Message
	tried   map[string]int // text → how often
	refused string
	reason  error
	changed chan struct{} // closed, and made anew, when something was taken or turned down
}

func newShelf(t *runtimeTest) *shelf {
	return &shelf{runtimeTest: t, tried: map[string]int{}, changed: make(chan struct{})}
}

// publishTo lets a processor publish to the shelf, and to nobody else.
func (s *shelf) publishTo(c *processor.Config) { c.Publisher = s }

// refuse has the shelf turn messages of a text down for a reason; "" ends that.
func (s *shelf) refuse(text string, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused, s.reason = text, reason
}

// Publish implements [es.Publisher]: what is behind one of its stream that is turned down is held back.
func (s *shelf) Publish(ctx context.Context, pubs ...es.Publication) error {
	msgs := make([]*es.Message, len(pubs))
	for i, p := range pubs {
		msgs[i] = p.Message
	}
	if s.before != nil {
		if err := s.before(ctx, msgs); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(pubs))
	failed := map[string]bool{}
	var taken []*es.Message
	for i, m := range msgs {
		switch text := runtimeText(m); {
		case failed[m.Stream]:
			errs[i] = es.ErrHeldBack
			continue
		case text == s.refused:
			errs[i], failed[m.Stream] = s.reason, true
			s.tried[text]++
			continue
		default:
			s.tried[text]++
			taken = append(taken, m)
		}
	}
	if len(taken) > 0 {
		s.calls = append(s.calls, taken)
		s.taken = append(s.taken, taken...)
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return es.BatchErr(errs)
}

// await waits until something holds of what was taken, and returns that.
func (s *shelf) await(what string, holds func(taken []*es.Message) bool) []*es.Message {
	s.Helper()
	for {
		s.mu.Lock()
		taken, changed := slices.Clone(s.taken), s.changed
		s.mu.Unlock()
		if holds(taken) {
			return taken
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			s.Fatalf("waited in vain until %s; published were %v", what, messageTexts(taken))
		}
	}
}

// awaitCount waits until so many messages were taken.
func (s *shelf) awaitCount(n int) []*es.Message {
	s.Helper()
	return s.await("enough was published", func(taken []*es.Message) bool { return len(taken) >= n })
}

// awaitTexts waits until as many messages were taken as there are texts, and fails unless they are these, in this order.
func (s *shelf) awaitTexts(texts ...string) []*es.Message {
	s.Helper()
	taken := s.awaitCount(len(texts))
	if got := messageTexts(taken); !slices.Equal(got, texts) {
		s.Fatalf("published were %v, want %v", got, texts)
	}
	return taken
}

// awaitTries waits until a message was tried so often.
func (s *shelf) awaitTries(text string, n int) {
	s.Helper()
	s.await(text+" was tried often enough", func([]*es.Message) bool { return s.tries(text) >= n })
}

func (s *shelf) tries(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tried[text]
}

// batches returns the texts of each call.
func (s *shelf) batches() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batches [][]string
	for _, call := range s.calls {
		batches = append(batches, messageTexts(call))
	}
	return batches
}

// wantKey fails unless what was taken of a key is that of the texts, in that order.
func (s *shelf) wantKey(key string, texts ...string) {
	s.Helper()
	s.mu.Lock()
	got := slices.DeleteFunc(messageTexts(s.taken), func(text string) bool { return text[:1] != key })
	s.mu.Unlock()
	if !slices.Equal(got, texts) {
		s.Fatalf("published of key %s were %v, want %v", key, got, texts)
	}
}

func messageTexts(msgs []*es.Message) []string {
	texts := make([]string, len(msgs))
	for i, m := range msgs {
		texts[i] = runtimeText(m)
	}
	return texts
}
