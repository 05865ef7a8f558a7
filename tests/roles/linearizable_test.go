package roles_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

const (
	clients       = 6
	callsOfClient = 500
	checkPatience = time.Minute
)

// clock tells which call came before which.
type clock struct{ ticks atomic.Int64 }

// history has clients make calls at once, each on a handle of its own, and returns what they saw.
func history(
	t *testing.T, storage *memory.Storage, client func(id int, b *memory.Backend, call func(input any, do func() any)),
) []porcupine.Operation {
	t.Helper()
	var c clock
	var mu sync.Mutex
	var ops []porcupine.Operation
	var running sync.WaitGroup
	start := make(chan struct{})
	for id := range clients {
		b, err := memory.Open(memory.Config{Storage: storage})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			defer func() { _ = b.Close() }() // it never fails
			<-start
			client(id, b, func(input any, do func() any) {
				runtime.Gosched() // so that the calls mix
				called := c.ticks.Add(1)
				output := do()
				op := porcupine.Operation{ClientId: id, Input: input, Call: called, Output: output, Return: c.ticks.Add(1)}
				mu.Lock()
				defer mu.Unlock()
				ops = append(ops, op)
			})
		})
	}
	close(start)
	running.Wait()
	return ops
}

func linearizable(t *testing.T, model porcupine.Model, ops []porcupine.Operation) {
	t.Helper()
	if got := porcupine.CheckOperationsTimeout(model, ops, checkPatience); got != porcupine.Ok {
		t.Errorf("%d operations: the check says %s, want %s", len(ops), got, porcupine.Ok)
	}
}

// Calls on leases, and what came of them.
type (
	acquireLease struct{ owner string }
	renewLease   struct{ lease es.Lease }
	releaseLease struct{ lease es.Lease }
	checkLease   struct{ lease es.Lease }
	leaseAnswer  struct {
		token int64
		err   error // one of the sentinels
	}
)

// oneLease is the model of a lease that does not end by itself: who holds it, and the last token.
type oneLease struct {
	holder string // empty when it is free
	token  int64
}

func (s oneLease) held(l es.Lease) bool { return s.holder == l.Owner && s.token == l.Token }

func (s oneLease) step(input any, out leaseAnswer) (bool, oneLease) {
	lost := errors.Is(out.err, es.ErrLeaseLost)
	switch in := input.(type) {
	case acquireLease:
		switch {
		case s.holder == in.owner:
			return out.err == nil && out.token == s.token, s
		case s.holder != "":
			return errors.Is(out.err, es.ErrLeaseHeld), s
		}
		return out.err == nil && out.token > s.token, oneLease{in.owner, out.token}
	case renewLease:
		return s.held(in.lease) == (out.err == nil) && (out.err == nil || lost), s
	case checkLease:
		return s.held(in.lease) == (out.err == nil) && (out.err == nil || lost), s
	case releaseLease:
		if s.held(in.lease) {
			s.holder = ""
		}
		return out.err == nil, s
	}
	return false, s
}

// TestLeasesAreLinearizable has owners race for one lease, with late and doubled calls.
func TestLeasesAreLinearizable(t *testing.T) {
	t.Parallel()
	ops := history(t, memory.NewStorage(), func(id int, b *memory.Backend, call func(any, func() any)) {
		ctx, leases := context.Background(), b.Leases()
		owner := fmt.Sprint("owner ", id%3) // two clients for each: an owner may come twice
		last := es.Lease{Name: "n", Owner: owner, Token: 1}
		for range callsOfClient {
			switch rand.IntN(5) {
			case 0, 1:
				call(acquireLease{owner}, func() any {
					l, err := leases.Acquire(ctx, "n", owner, time.Hour)
					if err == nil {
						last = l
					}
					return leaseAnswer{l.Token, err}
				})
			case 2:
				call(renewLease{last}, func() any {
					l, err := leases.Renew(ctx, last, time.Hour)
					return leaseAnswer{l.Token, err}
				})
			case 3:
				call(checkLease{last}, func() any { return leaseAnswer{err: leases.Check(ctx, last)} })
			case 4:
				call(releaseLease{last}, func() any { return leaseAnswer{err: leases.Release(ctx, last)} })
			}
		}
	})
	linearizable(t, porcupine.Model{
		Init: func() any { return oneLease{} },
		Step: func(state, input, output any) (bool, any) {
			s, _ := state.(oneLease)
			out, _ := output.(leaseAnswer)
			return s.step(input, out)
		},
	}, ops)
}

// Calls on a document. Each write has data of its own, and a revision belongs to one write, so that a write that expects the
// revision it has loaded is one that expects the data it has seen.
type (
	loadDocument  struct{}
	writeDocument struct {
		seen   string // empty: no document
		expect bool   // that it is as seen; otherwise whatever there is
		data   string // empty: delete
	}
)

func stepDocument(state string, input, output any) (bool, string) {
	switch in := input.(type) {
	case loadDocument:
		return output == state, state
	case writeDocument:
		if in.expect && in.seen != state {
			return output == "conflict", state
		}
		return output == "done", in.data
	}
	return false, state
}

// TestDocumentsAreLinearizable has writers race for the revision of one document.
func TestDocumentsAreLinearizable(t *testing.T) {
	t.Parallel()
	var writes atomic.Int64
	ops := history(t, memory.NewStorage(), func(_ int, b *memory.Backend, call func(any, func() any)) {
		ctx, models := context.Background(), b.ReadModels()
		var seen es.Document
		for range callsOfClient {
			w := writeDocument{seen: string(seen.Data), expect: rand.IntN(4) > 0}
			if rand.IntN(4) > 0 {
				w.data = fmt.Sprint("write ", writes.Add(1))
			}
			call(loadDocument{}, func() any {
				docs, err := models.Load(ctx, "m", "k")
				if err != nil {
					return err
				}
				seen = docs[0]
				return string(seen.Data)
			})
			w.seen = string(seen.Data)
			write := es.Write{Model: "m", Key: "k", Data: []byte(w.data), Delete: w.data == ""}
			if w.expect {
				write.Expect = es.Exactly(seen.Revision)
			}
			call(w, func() any {
				switch err := models.Commit(ctx, es.Commit{Writes: []es.Write{write}}); {
				case err == nil:
					return "done"
				case errors.Is(err, es.ErrConflict):
					return "conflict"
				default:
					return err
				}
			})
		}
	})
	linearizable(t, porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			s, _ := state.(string)
			return stepDocument(s, input, output)
		},
	}, ops)
}

// Calls on the checkpoint of a projection.
type (
	readProgress struct{}
	moveProgress struct{ from, to es.Progress }
)

func stepProgress(state es.Progress, input, output any) (bool, es.Progress) {
	switch in := input.(type) {
	case readProgress:
		return output == state, state
	case moveProgress:
		if in.from != state {
			return output == "conflict", state
		}
		return output == "done", in.to
	}
	return false, state
}

// TestProgressIsLinearizable has copies of a projection race for its checkpoint, each with an effect in the same commit, and
// counts the effects.
func TestProgressIsLinearizable(t *testing.T) {
	t.Parallel()
	storage := memory.NewStorage()
	var moved atomic.Int64
	ops := history(t, storage, func(id int, b *memory.Backend, call func(any, func() any)) {
		ctx, models := context.Background(), b.ReadModels()
		var seen es.Progress
		for range callsOfClient {
			call(readProgress{}, func() any {
				p, err := models.Progress(ctx, "p")
				if err != nil {
					return err
				}
				seen = p
				return p
			})
			move := moveProgress{from: seen, to: seen}
			move.to.Position++
			move.to.Epoch = int64(id)
			call(move, func() any {
				err := models.Commit(ctx, es.Commit{
					Writes:   []es.Write{{Model: "p", Key: fmt.Sprintf("effect %06d", move.to.Position), Expect: es.NoStream}},
					Progress: es.ProgressUpdate{Projection: "p", From: move.from, To: move.to},
				})
				switch {
				case err == nil:
					moved.Add(1)
					return "done"
				case errors.As(err, new(*es.ProjectionError)):
					return "conflict"
				default:
					return err
				}
			})
		}
	})
	linearizable(t, porcupine.Model{
		Init: func() any { return es.Progress{} },
		Step: func(state, input, output any) (bool, any) {
			s, _ := state.(es.Progress)
			return stepProgress(s, input, output)
		},
	}, ops)

	b, err := memory.Open(memory.Config{Storage: storage})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }() // it never fails
	effects, err := b.ReadModels().List(t.Context(), es.ListQuery{Model: "p", Limit: clients * callsOfClient})
	if err != nil || int64(len(effects)) != moved.Load() {
		t.Errorf("%d effects, %v; the checkpoint was moved %d times", len(effects), err, moved.Load())
	}
	last, err := b.ReadModels().Progress(t.Context(), "p")
	if err != nil || last.Position != moved.Load() {
		t.Errorf("the checkpoint is at %d, %v; it was moved %d times", last.Position, err, moved.Load())
	}
}
