package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

const orders = "orders"

// note makes a message of the stream "orders-<first letter of text>".
func note(text string) *es.Message {
	return es.NewMessage(orders+"-"+text[:1], "Noted", []byte(text))
}

func publish(t *testing.T, ps *memory.PubSub, texts ...string) {
	t.Helper()
	if err := ps.Publish(t.Context(), notes(orders, texts...)...); err != nil {
		t.Fatalf("Publish %v: %v", texts, err)
	}
}

func notes(topic string, texts ...string) []es.Publication {
	pubs := make([]es.Publication, len(texts))
	for i, text := range texts {
		pubs[i] = es.Publication{Topic: topic, Message: note(text)}
	}
	return pubs
}

func subscribe(t *testing.T, ps *memory.PubSub, opts es.SubscribeOptions) es.Subscription {
	t.Helper()
	sub, err := ps.Subscribe(t.Context(), orders, opts)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	t.Cleanup(func() { _ = sub.Close() })
	return sub
}

// receive receives once, and fails unless the texts are those that come.
func receive(t *testing.T, sub es.Subscription, most int, want ...string) []es.Delivery {
	t.Helper()
	dst := make([]es.Delivery, most)
	n, err := sub.Receive(t.Context(), dst)
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	got := make([]string, n)
	for i, d := range dst[:n] {
		got[i] = string(d.Data)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("received %v, want %v", got, want)
	}
	return dst[:n]
}

// wantNothing fails when something can be received now. It is for fake time, in which a nanosecond is enough.
func wantNothing(t *testing.T, sub es.Subscription) {
	t.Helper()
	dst := make([]es.Delivery, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if n, err := sub.Receive(ctx, dst); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("received %v (%d, %v), want nothing", dst[:n], n, err)
	}
}

func wantOK(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("the error is %v, want %v", err, target)
	}
}

func TestPubSubConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]memory.PubSubConfig{
		"namespace": {Namespace: "line\nbreak"},
		"buffer":    {Buffer: -1},
		"overflow":  {Overflow: 9},
		"lease":     {Lease: -time.Second},
	} {
		_, err := memory.NewPubSub(c)
		if !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("a wrong %s gives %v", name, err)
		}
	}
	ps := newPubSub(t, memory.PubSubConfig{Limits: es.Limits{EventBytes: 3}, Lease: time.Minute})
	wantErr(t, ps.Publish(t.Context(), notes(orders, "long")...), es.ErrInvalid)
	sub := subscribe(t, ps, es.SubscribeOptions{})
	publish(t, ps, "a1")
	if d := receive(t, sub, 1, "a1")[0]; time.Until(d.Deadline) > time.Minute {
		t.Errorf("with a default lease of a minute, the deadline is %v away", time.Until(d.Deadline))
	}
	_, err := sub.Receive(t.Context(), nil)
	wantErr(t, err, es.ErrInvalid)
}

func TestPubSubLeaseEndsOnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ps := newPubSub(t, memory.PubSubConfig{})
		sub := subscribe(t, ps, es.SubscribeOptions{Lease: time.Minute})
		publish(t, ps, "a1", "b1")
		began := time.Now()
		ds := receive(t, sub, 2, "a1", "b1")
		if !ds[0].Deadline.Equal(began.Add(time.Minute)) || !ds[0].First.Equal(began) {
			t.Errorf("received at %v, it came first at %v and has until %v", began, ds[0].First, ds[0].Deadline)
		}
		time.Sleep(40 * time.Second)
		wantOK(t, sub.Extend(t.Context(), ds[1:])) // b1 has until 100 s, a1 until 60 s
		again := receive(t, sub, 2, "a1")
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("it came again after %v, with a lease of a minute", waited)
		}
		if d := again[0]; d.Attempt != 2 || !d.First.Equal(began) || !d.Deadline.Equal(began.Add(2*time.Minute)) {
			t.Errorf("attempt %d, first %v, deadline %v", d.Attempt, d.First, d.Deadline)
		}
		receive(t, sub, 2, "b1")
		if waited := time.Since(began); waited != 100*time.Second {
			t.Errorf("extended after 40 s, it came again after %v", waited)
		}
		wantErr(t, sub.Ack(t.Context(), ds), es.ErrLeaseLost)
		time.Sleep(19 * time.Second)
		wantOK(t, sub.Ack(t.Context(), again))
	})
}

// TestPubSubWatchIsHandedOver has the one who watches the time leave, with his context, while others wait on.
func TestPubSubWatchIsHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ps := newPubSub(t, memory.PubSubConfig{})
		sub := subscribe(t, ps, es.SubscribeOptions{Lease: time.Minute})
		publish(t, ps, "a1")
		receive(t, sub, 1, "a1")
		began := time.Now()
		const waiting = 3
		results := make(chan error, waiting)
		ctx, cancel := context.WithCancel(t.Context())
		for i := range waiting {
			ctx := ctx
			if i == waiting-1 {
				ctx = t.Context()
			}
			go func() {
				_, err := sub.Receive(ctx, make([]es.Delivery, 1))
				results <- err
			}()
			synctest.Wait() // so that the first of them is who watches
		}
		time.Sleep(time.Second)
		cancel()
		wantErr(t, <-results, context.Canceled)
		wantErr(t, <-results, context.Canceled)
		wantOK(t, <-results)
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("when the watch had left, the lease of a minute ended after %v", waited)
		}
	})
}

// TestPubSubEarlierTimeWakes has a shorter delay come up while a Receive waits for a longer one.
func TestPubSubEarlierTimeWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ps := newPubSub(t, memory.PubSubConfig{})
		sub := subscribe(t, ps, es.SubscribeOptions{Lease: time.Hour})
		publish(t, ps, "a1", "b1")
		ds := receive(t, sub, 2, "a1", "b1")
		wantOK(t, sub.Nack(t.Context(), ds[:1], time.Minute))
		began := time.Now()
		received := make(chan string)
		go func() {
			dst := make([]es.Delivery, 1)
			if _, err := sub.Receive(t.Context(), dst); err != nil {
				t.Error(err)
			}
			received <- string(dst[0].Data)
		}()
		synctest.Wait()
		wantOK(t, sub.Nack(t.Context(), ds[1:], time.Second))
		if text, waited := <-received, time.Since(began); text != "b1" || waited != time.Second {
			t.Errorf("%s came after %v, want b1 after its second", text, waited)
		}
	})
}

func TestPubSubSuspectComesAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ps := newPubSub(t, memory.PubSubConfig{})
		sub := subscribe(t, ps, es.SubscribeOptions{Lease: time.Minute})
		publish(t, ps, "a1", "a2", "b1")
		receive(t, sub, 3, "a1", "a2", "b1")
		time.Sleep(time.Minute)
		publish(t, ps, "c1")
		seen := map[string]int{}
		for range 4 {
			dst := make([]es.Delivery, 9)
			n, err := sub.Receive(t.Context(), dst)
			wantOK(t, err)
			if n != 1 {
				t.Fatalf("%d came in a batch that has one whose lease had ended", n)
			}
			seen[string(dst[0].Data)] = dst[0].Attempt
			wantOK(t, sub.Ack(t.Context(), dst[:n]))
		}
		if want := map[string]int{"a1": 2, "a2": 2, "b1": 2, "c1": 1}; fmt.Sprint(seen) != fmt.Sprint(want) {
			t.Errorf("the attempts were %v, want %v", seen, want)
		}
	})
}

// TestPubSubFirstStaysTheSame: the ID of a dead letter is made of First, and one that has changed by a microsecond would make two of
// one failure.
func TestPubSubFirstStaysTheSame(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{})
	sub := subscribe(t, ps, es.SubscribeOptions{})
	ds := make([]es.Delivery, 1)
	changed := 0
	for range 100 {
		publish(t, ps, "a1")
		var first time.Time
		for attempt := 1; attempt <= 100; attempt++ {
			_, err := sub.Receive(t.Context(), ds)
			wantOK(t, err)
			if attempt == 1 {
				first = ds[0].First
			} else if ds[0].First.UnixNano() != first.UnixNano() {
				changed++
			}
			wantOK(t, sub.Nack(t.Context(), ds, 0))
		}
		_, err := sub.Receive(t.Context(), ds)
		wantOK(t, err)
		wantOK(t, sub.Ack(t.Context(), ds))
	}
	if changed > 0 {
		t.Errorf("First has changed %d times in 10,000 deliveries", changed)
	}
}

func TestPubSubBoundsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ps := newPubSub(t, memory.PubSubConfig{Buffer: 2})
		sub := subscribe(t, ps, es.SubscribeOptions{})
		publish(t, ps, "a1", "b1")
		ds := receive(t, sub, 9, "a1", "b1")
		publish(t, ps, "c1", "d1")
		wantNothing(t, sub)
		wantOK(t, sub.Ack(t.Context(), ds[1:]))
		receive(t, sub, 9, "c1")
		if stats := ps.Stats(); stats[0].Groups[0].InFlight != 2 || stats[0].Groups[0].Depth != 1 {
			t.Errorf("stats: %+v", stats)
		}
	})
}

// TestPubSubFailingMessageStarvesNobody nacks one message at once, whenever it comes.
func TestPubSubFailingMessageStarvesNobody(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{})
	sub := subscribe(t, ps, es.SubscribeOptions{})
	publish(t, ps, "x1", "a1", "b1", "c1", "d1", "e1")
	handled := 0
	dst := make([]es.Delivery, 1)
	for range 20 {
		_, err := sub.Receive(t.Context(), dst)
		wantOK(t, err)
		if string(dst[0].Data) == "x1" {
			wantOK(t, sub.Nack(t.Context(), dst, 0))
			continue
		}
		wantOK(t, sub.Ack(t.Context(), dst))
		handled++
	}
	if handled != 5 {
		t.Errorf("while one message failed, %d of 5 others came", handled)
	}
}

// TestPubSubSharesAmongKeys has one key with a pile that was held back, and others with one message each.
func TestPubSubSharesAmongKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ps := newPubSub(t, memory.PubSubConfig{})
		sub := subscribe(t, ps, es.SubscribeOptions{})
		publish(t, ps, "x1", "y1", "z1", "x2", "x3", "x4", "x5", "y2", "z2")
		first := receive(t, sub, 3, "x1", "y1", "z1")
		wantNothing(t, sub) // the others are held back now
		wantOK(t, sub.Ack(t.Context(), first))
		second := receive(t, sub, 3, "x2", "y2", "z2")
		wantOK(t, sub.Ack(t.Context(), second))
		receive(t, sub, 3, "x3", "x4", "x5")
	})
}

func TestPubSubDropGroup(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{})
	wantErr(t, ps.DropGroup(orders, "g"), es.ErrNotFound)
	sub := subscribe(t, ps, es.SubscribeOptions{Group: "g"})
	wantErr(t, ps.DropGroup(orders, "g"), es.ErrInvalid)
	wantErr(t, ps.DropGroup(orders, "other"), es.ErrNotFound)
	wantOK(t, sub.Close())
	publish(t, ps, "a1")
	wantOK(t, ps.DropGroup(orders, "g"))
	if stats := ps.Stats(); len(stats) != 0 {
		t.Errorf("a topic without anything is left: %+v", stats)
	}
	publish(t, ps, "a2") // nobody is subscribed: it is the backlog
	receive(t, subscribe(t, ps, es.SubscribeOptions{Group: "g"}), 9, "a2")
	wantOK(t, ps.Close())
	wantErr(t, ps.DropGroup(orders, "g"), es.ErrClosed)
}

func TestPubSubStats(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{Buffer: 3, BacklogLimit: 2, Overflow: memory.OverflowEvictOldest})
	wantOK(t, ps.Publish(t.Context(), notes("unread", "a1", "a2", "a3")...))
	publish(t, ps, "a1", "a2", "a3")
	one, two := subscribe(t, ps, es.SubscribeOptions{Group: "one"}), subscribe(t, ps, es.SubscribeOptions{Group: "two"})
	publish(t, ps, "b1", "c1")
	receive(t, one, 2, "a3", "b1") // a1 went from the backlog, a2 from group one
	wantOK(t, two.Close())
	want := []memory.TopicStats{
		{Topic: orders, Evicted: 2, Groups: []memory.GroupStats{
			{Group: "one", Members: 1, Depth: 1, InFlight: 2, Evicted: 1},
			{Group: "two", Members: 0, Depth: 2},
		}},
		{Topic: "unread", Backlog: 2, Evicted: 1},
	}
	if got := ps.Stats(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stats are\n%+v, want\n%+v", got, want)
	}
}

func TestPubSubLogsWhatItDrops(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	ps := newPubSub(t, memory.PubSubConfig{BacklogLimit: -1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 9 { // at 1, 2, 4 and 8
		publish(t, ps, "a1")
	}
	if lines := strings.Count(log.String(), "dropped="); lines != 4 || !strings.Contains(log.String(), "topic=orders") {
		t.Errorf("of 9 messages that were dropped, the log says:\n%s", log.String())
	}
}

func TestPubSubViews(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{Namespace: "a"})
	one, err := ps.Namespace("b")
	wantOK(t, err)
	two, err := ps.Namespace("b")
	wantOK(t, err)
	_, err = ps.Namespace("")
	wantErr(t, err, es.ErrInvalid)

	sub := subscribe(t, one, es.SubscribeOptions{Group: "g"})
	publish(t, two, "a1", "b1")
	receive(t, sub, 1, "a1")
	wantOK(t, one.Close())
	_, err = sub.Receive(t.Context(), make([]es.Delivery, 1))
	wantErr(t, err, es.ErrClosed)
	// It came back when the view was closed, and the group is there still.
	ds := receive(t, subscribe(t, two, es.SubscribeOptions{Group: "g"}), 2, "a1", "b1")
	if ds[0].Attempt != 1 {
		t.Errorf("given back by a close, it came as attempt %d", ds[0].Attempt)
	}
	if len(ps.Stats()) != 0 {
		t.Errorf("namespace a sees %+v", ps.Stats())
	}
	wantOK(t, ps.Close())
	wantErr(t, two.Publish(t.Context(), notes(orders, "c1")...), es.ErrClosed)
	_, err = ps.Namespace("c")
	wantErr(t, err, es.ErrClosed)
	wantOK(t, two.Close())
}

func TestPubSubFailsPerTopic(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{Buffer: 2, Overflow: memory.OverflowFail})
	sub := subscribe(t, ps, es.SubscribeOptions{})
	pubs := slices.Concat(notes(orders, "a1", "a2", "a3"), notes("other", "a4"), notes(orders, "b1"), notes("other", "a5"))
	err := ps.Publish(t.Context(), pubs...)
	for i, full := range []bool{false, false, true, false, true, false} {
		if errors.Is(es.Of(err, i), es.ErrFull) != full {
			t.Errorf("publication %d: %v", i, es.Of(err, i))
		}
	}
	receive(t, sub, 9, "a1", "a2")
}

func TestPubSubServesPublishersInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ps := newPubSub(t, memory.PubSubConfig{Buffer: 1})
		sub := subscribe(t, ps, es.SubscribeOptions{})
		publish(t, ps, "a0")
		ctx, cancel := context.WithCancel(t.Context())
		canceled := make(chan error, 1)
		for n := 1; n <= 3; n++ {
			go func() {
				if n == 2 {
					canceled <- ps.Publish(ctx, notes(orders, "a2")...)
					return
				}
				if err := ps.Publish(t.Context(), notes(orders, fmt.Sprintf("a%d", n), fmt.Sprintf("a%d+", n))...); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		cancel()
		wantErr(t, <-canceled, context.Canceled)
		for _, want := range []string{"a0", "a1", "a1+", "a3", "a3+"} {
			wantOK(t, sub.Ack(t.Context(), receive(t, sub, 9, want)))
			synctest.Wait()
		}
	})
}

func TestPubSubPublishRaw(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{})
	cause := errors.New("no message")
	wantErr(t, ps.PublishRaw(t.Context(), "", nil, nil, cause), es.ErrInvalid)
	wantErr(t, ps.PublishRaw(t.Context(), orders, nil, nil, nil), es.ErrInvalid)
	sub := subscribe(t, ps, es.SubscribeOptions{})
	raw := []byte("{")
	wantOK(t, ps.PublishRaw(t.Context(), orders, nil, raw, cause))
	raw[0] = 'x'
	d := receive(t, sub, 1, "")[0]
	if !errors.Is(d.Err, cause) || string(d.Raw) != "{" || d.Message == nil {
		t.Errorf("received %+v", d)
	}
	wantOK(t, ps.Close())
	wantErr(t, ps.PublishRaw(t.Context(), orders, nil, raw, cause), es.ErrClosed)
}

// TestPubSubOwnTopicIsKnownByItsReceipt publishes with deliveries that only look like those of the full topic.
func TestPubSubOwnTopicIsKnownByItsReceipt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		config := memory.PubSubConfig{Buffer: 1}
		ps, foreign := newPubSub(t, config), newPubSub(t, config)
		sub := subscribe(t, ps, es.SubscribeOptions{})
		publish(t, ps, "a1")
		elsewhere := subscribe(t, foreign, es.SubscribeOptions{})
		publish(t, foreign, "b1")
		theirs := receive(t, elsewhere, 1, "b1")
		ctx, cancel := context.WithTimeout(es.WithDelivery(t.Context(), &theirs[0]), time.Second)
		defer cancel()
		wantErr(t, ps.Publish(ctx, notes(orders, "a2")...), context.DeadlineExceeded) // it may wait

		ours := receive(t, sub, 1, "a1")
		wantOK(t, sub.Ack(t.Context(), ours)) // its handler may still be at work
		publish(t, ps, "a3")
		err := ps.Publish(es.WithDelivery(t.Context(), &ours[0]), notes(orders, "a4")...)
		wantErr(t, err, es.ErrFull)
		if !strings.Contains(err.Error(), "own handler") {
			t.Errorf("the error does not say why: %v", err)
		}
	})
}

// TestPubSubForgetsWhatIsAcknowledged would keep 200 MiB if it did not.
func TestPubSubForgetsWhatIsAcknowledged(t *testing.T) { //nolint:paralleltest // it measures the heap
	ps := newPubSub(t, memory.PubSubConfig{})
	subs := []es.Subscription{subscribe(t, ps, es.SubscribeOptions{}), subscribe(t, ps, es.SubscribeOptions{Group: "g"})}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := note("a1")
	m.Data = make([]byte, 1<<20)
	dst := make([]es.Delivery, 4)
	for range 200 {
		wantOK(t, ps.Publish(t.Context(), es.ToCategory(m)...))
		for _, sub := range subs {
			n, err := sub.Receive(t.Context(), dst)
			wantOK(t, err)
			wantOK(t, sub.Ack(t.Context(), dst[:n]))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	const most = 32 << 20
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > most {
		t.Errorf("200 messages of 1 MiB were acknowledged, and %d MiB are kept", grown>>20)
	}
	runtime.KeepAlive(ps)
}
