package eventlog_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
)

type roles struct{ es.Backend }

func (roles) Leases() es.Leases { return nil }

func TestNewSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := eventlog.New(roles{f.backend}, eventlog.Config{})
	f.wantError(err, es.ErrUnsupported)
	if !strings.Contains(err.Error(), "leases") {
		t.Errorf("it does not say what is missing: %v", err)
	}
	_, err = eventlog.New(nil, eventlog.Config{})
	f.wantError(err, es.ErrInvalid)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, c := range map[string]eventlog.Config{
		"model":          {Model: "\n"},
		"long model":     {Model: strings.Repeat("m", 129)},
		"member":         {Member: "\x00"},
		"partitions":     {Partitions: -1},
		"many":           {Partitions: 1025},
		"window":         {Window: -1},
		"large window":   {Window: 16_385},
		"read-ahead":     {ReadAhead: -1},
		"lease":          {Lease: -1},
		"delivery lease": {DeliveryLease: -1},
		"rebalance":      {Lease: time.Second, Rebalance: time.Minute},
	} {
		if _, err := eventlog.New(f.backend, c); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublishTakesTheCategoryAsTopic(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	log := f.log(eventlog.Config{})
	good, bad := es.NewMessage("orders-1", "Noted", nil), es.NewMessage("orders-2", "Noted", nil)
	err := log.Publish(t.Context(), es.Publication{Topic: "orders", Message: good}, es.Publication{Topic: "order", Message: bad})
	f.wantError(err, es.ErrInvalid)
	head, err := f.backend.Events().Head(t.Context())
	f.ok(err)
	if head.Position != 0 {
		t.Errorf("%d messages were published by a call that was turned down", head.Position)
	}
	_, err = log.Subscribe(t.Context(), "orders-1", es.SubscribeOptions{})
	f.wantError(err, es.ErrInvalid) // nothing would ever come
}

func TestPublishIsIdempotentAndKeepsTheOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	log := f.log(eventlog.Config{})
	var msgs []*es.Message
	for _, text := range []string{"a1", "a2", "b1", "a3", "b2"} {
		msgs = append(msgs, es.NewMessage("orders-"+text[:1], "Noted", []byte(text)))
	}
	msgs = append(msgs, msgs[4]) // once more, right behind
	for range 2 {
		f.ok(log.Publish(t.Context(), es.ToCategory(msgs...)...))
	}
	sub := f.subscribe(log, es.SubscribeOptions{Start: es.Start{Kind: es.StartBeginning}, Key: func(*es.Message) string { return "" }})
	f.want(f.consume(sub, 5), "a1", "a2", "b1", "a3", "b2")

	taken := es.NewMessage("orders-a", "Noted", []byte("other"))
	taken.ID = msgs[0].ID
	b3, a4 := es.NewMessage("orders-b", "Noted", []byte("b3")), es.NewMessage("orders-a", "Noted", []byte("a4"))
	err := log.Publish(t.Context(), es.ToCategory(taken, b3, a4)...)
	f.wantError(es.Of(err, 0), es.ErrDuplicate)
	f.wantError(es.Of(err, 2), es.ErrHeldBack)
	if es.Of(err, 1) != nil {
		t.Errorf("what has nothing to do with the failure: %v", err)
	}
	f.want(f.consume(sub, 1), "b3")
}

// TestStartIsStoredAtOnce lets the process die before it has received anything.
func TestStartIsStoredAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.publish("a1")
		backend := f.open()
		f.subscribe(f.logOn(backend, eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		f.publish("a2")
		f.ok(backend.Close())
		f.publish("a3")
		sub := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g", Start: es.Start{Kind: es.StartEnd}})
		f.want(f.consume(sub, 2), "a2", "a3")
	})
}

func TestStartThatTheStoreHasNot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish("a1")
	log := f.log(eventlog.Config{})
	for _, group := range []string{"", "g"} {
		_, err := log.Subscribe(t.Context(), "orders", es.SubscribeOptions{
			Group: group, Start: es.Start{Kind: es.StartPosition, Position: 99},
		})
		f.wantError(err, es.ErrCheckpoint)
	}
	_, err := log.Group(t.Context(), "orders", "g")
	f.wantError(err, es.ErrNotFound)
}

// TestGroupOfAnotherIncarnation moves the documents of a group to another store, as a restore of half a backup does.
func TestGroupOfAnotherIncarnation(t *testing.T) {
	t.Parallel()
	f, other := newFixture(t), newFixture(t)
	f.publish("a1", "a2")
	sub := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
	f.ok(sub.Close())
	docs, err := f.backend.ReadModels().List(t.Context(), es.ListQuery{Model: "eventlog"})
	f.ok(err)
	var writes []es.Write
	for _, doc := range docs {
		writes = append(writes, es.Write{Model: "eventlog", Key: doc.Key, Data: doc.Data})
	}
	f.ok(other.backend.ReadModels().Commit(t.Context(), es.Commit{Writes: writes}))
	other.publish("b1", "b2", "b3")
	log := other.log(eventlog.Config{})
	_, err = log.Subscribe(t.Context(), "orders", es.SubscribeOptions{Group: "g"})
	f.wantError(err, es.ErrCheckpoint)
	f.wantError(log.WaitFor(t.Context(), "orders", "g", es.Checkpoint{}), es.ErrCheckpoint)
	f.ok(log.ResetGroup(t.Context(), "orders", "g", es.Start{Kind: es.StartBeginning}))
	f.want(other.consume(other.subscribe(log, es.SubscribeOptions{Group: "g"}), 3), "b1", "b2", "b3")
}

func TestViewSeesWhatItSelects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		log := f.log(eventlog.Config{})
		_, err := log.Only()
		f.wantError(err, es.ErrInvalid)
		view, err := log.Only(es.Criterion{Tags: []string{"key:b"}}, es.Criterion{Names: []string{"Never"}})
		f.ok(err)
		for _, group := range []string{"", "g"} {
			sub := f.subscribe(view, es.SubscribeOptions{Group: group})
			f.publish("a1", "b1", "a2", "b2")
			f.want(f.consume(sub, 2), "b1", "b2")
			head := f.publish("a3")
			if group != "" { // the mark moves on, although nothing matches, for other processes too
				f.ok(log.WaitFor(t.Context(), "orders", group, es.Checkpoint{Position: head}))
				f.ok(f.log(eventlog.Config{}).WaitFor(t.Context(), "orders", group, es.Checkpoint{Position: head}))
			}
			lag, err := sub.(es.Lagger).Lag(t.Context()) //nolint:errcheck // the test is about that
			f.ok(err)
			if lag != (es.Lag{}) {
				t.Errorf("with nothing that matches, the lag is %+v", lag)
			}
		}
		_, err = log.Subscribe(t.Context(), "orders", es.SubscribeOptions{Group: "g"})
		f.wantError(err, es.ErrInvalid) // to other messages than the group's other subscription
	})
}

func TestLagCountsPositions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		sub := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		began := time.Now()
		f.publish("a1")
		time.Sleep(time.Second)
		f.publish("b1", "c1")
		for want := int64(3); want > 0; want-- {
			lag, err := sub.(es.Lagger).Lag(t.Context()) //nolint:errcheck // the test is about that
			f.ok(err)
			oldest := es.Timestamp(began)
			if want < 3 {
				oldest = es.Timestamp(began.Add(time.Second))
			}
			if lag.Messages != want || !lag.Oldest.Equal(oldest) {
				t.Errorf("with %d to handle, the lag is %+v", want, lag)
			}
			f.consume(sub, 1)
		}
	})
}

func TestWaitForReadsYourWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		here, elsewhere := f.log(eventlog.Config{}), f.log(eventlog.Config{})
		sub := f.subscribe(here, es.SubscribeOptions{Group: "g"})
		position := f.publish("a1")
		for _, log := range []*eventlog.Log{here, elsewhere} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			f.wantError(log.WaitFor(ctx, "orders", "g", es.Checkpoint{Position: position}), context.DeadlineExceeded)
			cancel()
		}
		began := time.Now()
		waited := make(chan time.Duration, 2)
		for _, log := range []*eventlog.Log{here, elsewhere} {
			go func() {
				if err := log.WaitFor(t.Context(), "orders", "g", es.Checkpoint{Position: position}); err != nil {
					t.Error(err)
				}
				waited <- time.Since(began)
			}()
		}
		time.Sleep(time.Second)
		f.consume(sub, 1)
		for range 2 {
			if after := <-waited; after < time.Second || after > time.Second+50*time.Millisecond {
				t.Errorf("it was handled after a second, and WaitFor returned after %v", after)
			}
		}
		f.wantError(here.WaitFor(t.Context(), "orders", "other", es.Checkpoint{}), es.ErrNotFound)
		f.wantError(here.WaitFor(t.Context(), "orders", "g", es.Checkpoint{Position: 99}), es.ErrCheckpoint)
	})
}

func TestOperatorSeesAndChangesGroups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		log := f.log(eventlog.Config{Partitions: 3, Member: "billing"})
		sub := f.subscribe(log, es.SubscribeOptions{Group: "g"})
		f.publish("a1", "b1")
		ds := f.receive(sub, 2)
		f.ok(sub.Ack(t.Context(), ds[1:]))
		groups, err := log.Groups(t.Context())
		f.ok(err)
		if len(groups) != 1 || groups[0].Group != "g" || groups[0].Mark.Position != 0 || groups[0].Lag.Messages != 2 {
			t.Fatalf("groups: %+v", groups)
		}
		if m := groups[0].Members; len(m) != 1 || m[0].Name != "billing" || len(m[0].Partitions) != 3 {
			t.Errorf("members: %+v", m)
		}
		var open []eventlog.OpenMessage
		for _, p := range groups[0].Partitions {
			open = append(open, p.Open...)
		}
		if len(open) != 1 || open[0].Position != 1 || open[0].Attempt != 1 || !open[0].Out || !open[0].First.Equal(ds[0].First) {
			t.Errorf("open: %+v", open)
		}
		f.wantError(log.DropGroup(t.Context(), "orders", "g"), es.ErrInvalid)
		f.wantError(log.ResetGroup(t.Context(), "orders", "g", es.Start{}), es.ErrInvalid)
		f.ok(sub.Close())

		other := f.log(eventlog.Config{Partitions: 2})
		f.ok(other.ResetGroup(t.Context(), "orders", "g", es.Start{Kind: es.StartBeginning}))
		info, err := other.Group(t.Context(), "orders", "g")
		f.ok(err)
		if len(info.Partitions) != 2 || info.Mark.Position != 0 {
			t.Errorf("after the reset: %+v", info)
		}
		again := f.subscribe(other, es.SubscribeOptions{Group: "g"})
		if got := f.consume(again, 2); len(got) != 2 {
			t.Errorf("after the reset, %v came", got)
		}
		f.ok(again.Close())
		f.ok(other.DropGroup(t.Context(), "orders", "g"))
		f.wantError(other.DropGroup(t.Context(), "orders", "g"), es.ErrNotFound)
		docs, err := f.backend.ReadModels().List(t.Context(), es.ListQuery{Model: "eventlog"})
		f.ok(err)
		if len(docs) != 0 {
			t.Errorf("%d documents are left of a group that was dropped", len(docs))
		}
	})
}
