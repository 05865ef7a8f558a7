package estest_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/estest"
)

// mutant is an implementation that breaks one promise, and the test that has to notice.
type mutant[H any] struct {
	line    string // the name of the line that must fail
	name    string // what the mutant does wrong
	harness H
}

// hunt fails t unless each mutant fails the line it is named for, and unless there is a mutant for each line.
func hunt[H any](t *testing.T, lines []estest.Line[H], mutants []mutant[H]) {
	t.Helper()
	byName := map[string]estest.Line[H]{}
	for _, line := range lines {
		byName[line.Name] = line
		if !strings.HasPrefix(line.Name, line.ID+"/") {
			t.Errorf("line %q does not begin with its number %s", line.Name, line.ID)
		}
	}
	if len(byName) != len(lines) {
		t.Error("two lines have the same name")
	}
	hunted := map[string]bool{}
	for _, m := range mutants {
		line, ok := byName[m.line]
		if !ok {
			t.Errorf("mutant %q is for line %q, which there is not", m.name, m.line)
			continue
		}
		hunted[m.line] = true
		t.Run(m.line+"/"+m.name, func(t *testing.T) {
			t.Parallel()
			verdict := try(t, line, m.harness)
			// A machine that stands still for a moment can hide a fault that is a matter of time, such as a lease that ends early.
			for again := 0; again < 2 && !verdict.failed && !verdict.skipped; again++ {
				verdict = try(t, line, m.harness)
			}
			if verdict.skipped {
				t.Fatalf("line %s was skipped on the mutant that %s", m.line, m.name)
			}
			if !verdict.failed {
				t.Fatalf("line %s passes on a mutant that %s", m.line, m.name)
			}
			t.Logf("caught: %s", verdict.log())
		})
	}
	for _, line := range lines {
		if !hunted[line.Name] {
			t.Errorf("line %s has no mutant: who says that it can fail?", line.Name)
		}
	}
}

// try runs a line on a harness with a stand-in for the test, and returns it when the line has ended.
func try[H any](t *testing.T, line estest.Line[H], h H) *standIn {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &standIn{TB: t, ctx: ctx}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer s.cleanUp()
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				s.Errorf("panic: %v", p)
			}
		}()
		line.Run(s, h)
	}()
	<-ended
	return s
}

// standIn takes the place of a test to see whether a line fails.
type standIn struct {
	testing.TB

	ctx      context.Context
	mu       sync.Mutex
	failed   bool
	skipped  bool
	logs     []string
	cleanups []func()
}

// Patience is short: a mutant that loses something makes its line wait in vain.
func (s *standIn) Patience() time.Duration { return time.Second }

func (s *standIn) Context() context.Context { return s.ctx }
func (s *standIn) Helper()                  {}

func (s *standIn) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *standIn) cleanUp() {
	for {
		s.mu.Lock()
		if len(s.cleanups) == 0 {
			s.mu.Unlock()
			return
		}
		f := s.cleanups[len(s.cleanups)-1]
		s.cleanups = s.cleanups[:len(s.cleanups)-1]
		s.mu.Unlock()
		f()
	}
}

func (s *standIn) note(failed, skipped bool, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = s.failed || failed
	s.skipped = s.skipped || skipped
	if text != "" {
		s.logs = append(s.logs, strings.TrimSpace(text))
	}
}

func (s *standIn) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.logs, "; ")
}

func (s *standIn) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *standIn) Skipped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skipped
}

func (s *standIn) Log(args ...any) { s.note(false, false, fmt.Sprintln(args...)) }
func (s *standIn) Logf(format string, args ...any) {
	s.note(false, false, fmt.Sprintf(format, args...))
}
func (s *standIn) Fail()             { s.note(true, false, "") }
func (s *standIn) Error(args ...any) { s.note(true, false, fmt.Sprintln(args...)) }
func (s *standIn) Errorf(format string, args ...any) {
	s.note(true, false, fmt.Sprintf(format, args...))
}

func (s *standIn) FailNow() {
	s.Fail()
	runtime.Goexit()
}

func (s *standIn) Fatal(args ...any) {
	s.Error(args...)
	runtime.Goexit()
}

func (s *standIn) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	runtime.Goexit()
}

func (s *standIn) SkipNow() {
	s.note(false, true, "")
	runtime.Goexit()
}

func (s *standIn) Skip(args ...any) {
	s.note(false, true, fmt.Sprintln(args...))
	runtime.Goexit()
}

func (s *standIn) Skipf(format string, args ...any) {
	s.note(false, true, fmt.Sprintf(format, args...))
	runtime.Goexit()
}
