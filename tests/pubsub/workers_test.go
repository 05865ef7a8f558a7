package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestWorkers lets publishers wait for groups whose members come and go, in the middle of a batch too, and turn messages down.
// Each group has to see each message of each key handled once, in order, and never two of a key at the same time.
func TestWorkers(t *testing.T) {
	t.Parallel()
	const publishers, perPublisher, groups, members = 3, 400, 3, 4
	ps, err := memory.NewPubSub(memory.PubSubConfig{Buffer: 32, BacklogLimit: publishers * perPublisher})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var work sync.WaitGroup
	for g := range groups {
		tally := newTally(ctx, t, fmt.Sprintf("g%d", g), publishers*perPublisher)
		defer tally.finish()
		keep, err := ps.Subscribe(ctx, topic, es.SubscribeOptions{Group: tally.group}) // is there before the first message
		if err != nil {
			t.Fatal(err)
		}
		if err := keep.Close(); err != nil {
			t.Fatal(err)
		}
		for m := range members {
			random := rand.New(rand.NewPCG(uint64(g), uint64(m)))
			work.Go(func() { tally.run(ps, random) })
		}
	}
	for p := range publishers {
		work.Go(func() {
			for n := 0; n < perPublisher; n += 4 {
				var pubs []es.Publication
				for i := range 4 { // two keys for each publisher, so that each is published in order
					key := fmt.Sprintf("%d%c", p, 'a'+i%2)
					text := fmt.Appendf(nil, "%d", (n+i)/2)
					pubs = append(pubs, es.ToCategory(es.NewMessage(topic+"-"+key, "Noted", text))...)
				}
				if err := ps.Publish(ctx, pubs...); err != nil {
					t.Errorf("Publish: %v", err)
					return
				}
			}
		})
	}
	work.Wait()
	if err := ps.Close(); err != nil {
		t.Fatal(err)
	}
}

// tally is what a group has seen.
type tally struct {
	t      *testing.T
	group  string
	ctx    context.Context // it ends when all messages are handled
	finish context.CancelFunc

	mu   sync.Mutex
	left int
	next map[string]int  // by key
	busy map[string]bool // by key
}

func newTally(ctx context.Context, t *testing.T, group string, messages int) *tally {
	t.Helper()
	ctx, finish := context.WithCancel(ctx)
	return &tally{t: t, group: group, ctx: ctx, finish: finish, left: messages, next: map[string]int{}, busy: map[string]bool{}}
}

// run is a member that closes its subscription now and then, and opens another, until all messages are handled.
func (w *tally) run(ps *memory.PubSub, random *rand.Rand) {
	for w.ctx.Err() == nil {
		sub, err := ps.Subscribe(w.ctx, topic, es.SubscribeOptions{Group: w.group, Lease: time.Hour})
		if err != nil {
			break
		}
		for range 1 + random.IntN(8) {
			if !w.batch(sub, random) {
				break
			}
		}
		if err := sub.Close(); err != nil {
			w.t.Errorf("Close: %v", err)
		}
	}
	if left := w.remaining(); left > 0 {
		w.t.Errorf("group %s did not come to its end: %d messages left", w.group, left)
	}
}

func (w *tally) remaining() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.left
}

// batch receives once and answers some of it. It returns false when the subscription is to be closed.
func (w *tally) batch(sub es.Subscription, random *rand.Rand) bool {
	dst := make([]es.Delivery, 1+random.IntN(20))
	n, err := sub.Receive(w.ctx, dst)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			w.t.Errorf("Receive: %v", err)
		}
		return false
	}
	byKey := map[string][]es.Delivery{}
	for _, d := range dst[:n] {
		byKey[d.Stream] = append(byKey[d.Stream], d)
	}
	for key := range byKey {
		w.begin(key)
	}
	closing := random.IntN(10) == 0
	for key, ds := range byKey {
		for i := range ds {
			ctx := context.WithoutCancel(w.ctx) // an answer is given also when all is done
			switch what := random.IntN(12); {
			case closing && what < 6: // the rest of the key is left to Close
				w.end(key)
			case what == 0:
				w.end(key)
				w.check(sub.Nack(ctx, ds[i:i+1], time.Duration(random.IntN(2))*time.Millisecond)) // releases the rest
			case what == 1:
				w.end(key)
				w.check(sub.Release(ctx, ds[i:]))
			default:
				last := i == len(ds)-1
				w.handled(key, string(ds[i].Data), last)
				w.check(sub.Ack(ctx, ds[i:i+1]))
				w.acknowledged()
				continue
			}
			break
		}
	}
	return !closing
}

func (w *tally) check(err error) {
	if err != nil {
		w.t.Errorf("answer: %v", err)
	}
}

func (w *tally) begin(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[key] {
		w.t.Errorf("group %s: key %s is with two batches", w.group, key)
	}
	w.busy[key] = true
}

func (w *tally) end(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[key] = false
}

func (w *tally) handled(key, text string, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text != strconv.Itoa(w.next[key]) {
		w.t.Errorf("group %s: of key %s, %s was handled where %d was due", w.group, key, text, w.next[key])
	}
	w.next[key]++
	if last {
		w.busy[key] = false
	}
}

func (w *tally) acknowledged() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left--; w.left == 0 {
		w.finish()
	}
}
