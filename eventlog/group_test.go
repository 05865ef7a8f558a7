package eventlog_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
)

// share returns how many partitions each member of a group has, the smallest first.
func (f *fixture) share(log *eventlog.Log) []int {
	f.Helper()
	info, err := log.Group(f.Context(), "orders", "g")
	f.ok(err)
	counts := make([]int, len(info.Members))
	for _, p := range info.Partitions {
		for i, m := range info.Members {
			if m.ID == p.Owner {
				counts[i]++
			}
		}
	}
	slices.Sort(counts)
	return counts
}

func TestMembersShareFairlyAsTheyComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var subs []es.Subscription
		logs := []*eventlog.Log{f.log(eventlog.Config{}), f.log(eventlog.Config{}), f.log(eventlog.Config{})}
		for i, want := range [][]int{{16}, {8, 8}, {5, 5, 6}} {
			subs = append(subs, f.subscribe(logs[i], es.SubscribeOptions{Group: "g"}))
			time.Sleep(3 * time.Second) // that somebody came, and that partitions were given away, is seen within a second each
			if got := f.share(logs[0]); !slices.Equal(got, want) {
				t.Fatalf("%d members share %v, want %v", i+1, got, want)
			}
		}
		f.ok(subs[0].Close())
		time.Sleep(2 * time.Second)
		if got := f.share(logs[0]); !slices.Equal(got, []int{8, 8}) {
			t.Fatalf("when one has left, the others share %v", got)
		}
	})
}

// TestPartitionIsNotGivenAwayWhileItIsInFlight lets a second member wait for the answer of the first.
func TestPartitionIsNotGivenAwayWhileItIsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		one, two := f.log(eventlog.Config{Partitions: 2}), f.log(eventlog.Config{Partitions: 2})
		first := f.subscribe(one, es.SubscribeOptions{Group: "g", Lease: time.Hour})
		f.publish("a1", "b1", "c1", "d1", "e1", "a2", "b2", "c2", "d2", "e2")
		held := f.receive(first, 5)
		second := f.subscribe(two, es.SubscribeOptions{Group: "g", Lease: time.Hour})
		time.Sleep(10 * time.Second)
		if got := f.share(one); !slices.Equal(got, []int{0, 2}) {
			t.Fatalf("with both in flight they share %v", got)
		}
		f.ok(first.Ack(t.Context(), held))
		time.Sleep(3 * time.Second)
		if got := f.share(one); !slices.Equal(got, []int{1, 1}) {
			t.Fatalf("with none in flight they share %v", got)
		}
		seen := texts(held)
		for _, sub := range []es.Subscription{first, second} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			dst := make([]es.Delivery, 10)
			n, err := sub.Receive(ctx, dst)
			f.ok(err)
			seen = append(seen, texts(dst[:n])...)
			cancel()
		}
		slices.Sort(seen)
		f.want(seen, "a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2", "e1", "e2")
	})
}

// deaf leases do not renew, as when a process is paused for longer than its lease.
type deafLeases struct{ es.Leases }

func (deafLeases) Renew(context.Context, es.Lease, time.Duration) (es.Lease, error) {
	return es.Lease{}, errors.New("the network is down")
}

type deafBackend struct{ es.Backend }

func (b deafBackend) Leases() es.Leases { return deafLeases{b.Backend.Leases()} }

func TestLateAckOfAnOldOwnerIsTurnedDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		old := f.subscribe(f.logOn(deafBackend{f.open()}, eventlog.Config{}), es.SubscribeOptions{Group: "g", Lease: time.Hour})
		f.publish("a1", "a2")
		held := f.receive(old, 1)
		heir := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		again := f.receive(heir, 1) // when the lease has ended
		f.want(texts(again), "a1")
		if again[0].Attempt != 2 || !again[0].First.Equal(held[0].First) {
			t.Errorf("taken over, it came as attempt %d, first at %v; the first attempt was at %v",
				again[0].Attempt, again[0].First, held[0].First)
		}
		f.wantError(es.Of(old.Ack(t.Context(), held), 0), es.ErrLeaseLost)
		f.ok(heir.Nack(t.Context(), again, 0)) // it is the heir's still
		f.ok(old.Close())
		f.want(f.consume(heir, 2), "a1", "a2")
	})
}

// TestMemberThatLostItsLeaseJoinsAnew is alone, and gets its messages back when it can renew no lease and takes another.
func TestMemberThatLostItsLeaseJoinsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		sub := f.subscribe(f.logOn(deafBackend{f.open()}, eventlog.Config{}), es.SubscribeOptions{Group: "g", Lease: time.Hour})
		f.publish("a1")
		held := f.receive(sub, 1)
		time.Sleep(20 * time.Second)
		f.wantError(es.Of(sub.Ack(t.Context(), held), 0), es.ErrLeaseLost)
		again := f.receive(sub, 1)
		if again[0].Attempt != 2 {
			t.Errorf("it came as attempt %d", again[0].Attempt)
		}
		f.ok(sub.Ack(t.Context(), again))
	})
}

// TestWhatWasWithTheDeadComesOneAtATime has several receivers ask at once for what was with a process that died.
func TestWhatWasWithTheDeadComesOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		backend := f.open()
		dead := f.subscribe(f.logOn(backend, eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		f.publish("a1", "b1", "c1")
		f.receive(dead, 3)
		f.ok(backend.Close())
		f.publish("d1", "e1")
		sub := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g", Lease: time.Minute})
		got := f.receive(sub, 3) // d1 and e1 need not wait for the other two
		for left := 3; ; {
			i := slices.IndexFunc(got, func(d es.Delivery) bool { return d.Attempt == 2 })
			f.wantNothing(sub, time.Second)
			f.ok(sub.Ack(t.Context(), got))
			if left--; left == 0 {
				break
			}
			if i < 0 {
				t.Fatalf("%v came, none of them from who died", texts(got))
			}
			got = f.receive(sub, 1)
		}
	})
}

// TestTrialEndsWithItsFirstLease: a message that is handled for long has not brought its receiver down.
func TestTrialEndsWithItsFirstLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		backend := f.open()
		dead := f.subscribe(f.logOn(backend, eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		f.publish("a1", "b1")
		f.receive(dead, 2)
		f.ok(backend.Close())
		sub := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g", Lease: 10 * time.Second})
		slow := f.receive(sub, 1)
		time.Sleep(6 * time.Second)
		f.ok(sub.Extend(t.Context(), slow))
		f.wantNothing(sub, 3*time.Second)
		f.ok(sub.Ack(t.Context(), f.receive(sub, 1)))
		f.ok(sub.Ack(t.Context(), slow))
	})
}

func TestNackAndFirstSurviveARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		sub := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		f.publish("a1", "b1", "b2")
		ds := f.receive(sub, 3)
		f.ok(sub.Nack(t.Context(), ds[:1], time.Minute))
		nacked := time.Now()
		f.ok(sub.Close()) // gives b1 and b2 back
		again := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		b := f.receive(again, 2)
		f.want(texts(b), "b1", "b2")
		if b[0].Attempt != 1 || !b[0].First.Equal(ds[1].First) {
			t.Errorf("given back, it came as attempt %d, first at %v and not at %v", b[0].Attempt, b[0].First, ds[1].First)
		}
		f.ok(again.Ack(t.Context(), b))
		a := f.receive(again, 1)
		if waited := time.Since(nacked); a[0].Attempt != 2 || waited < time.Minute-time.Millisecond {
			t.Errorf("nacked for a minute, it came as attempt %d after %v", a[0].Attempt, waited)
		}
	})
}

// TestStuckKeyBoundsMemoryAndCostsNobodyElse fills the window of one partition.
func TestStuckKeyBoundsMemoryAndCostsNobodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		log := f.log(eventlog.Config{Window: 10})
		sub, other := f.subscribe(log, es.SubscribeOptions{Group: "g"}), f.subscribe(log, es.SubscribeOptions{Group: "other"})
		f.publish(numbered("a", 100)...)
		f.ok(sub.Nack(t.Context(), f.receive(sub, 1), time.Hour))
		f.want(f.consume(other, 100), numbered("a", 100)...)
		f.publish("b1", "c1", "d1", "e1", "f1")
		if got := f.consume(sub, 3); slices.ContainsFunc(got, func(text string) bool { return strings.HasPrefix(text, "a") }) {
			t.Errorf("while a1 waits, %v came", got)
		}
		info, err := log.Group(t.Context(), "orders", "g")
		f.ok(err)
		for _, p := range info.Partitions {
			if len(p.Open) > 10 {
				t.Errorf("partition %d has %d messages in its window", p.Number, len(p.Open))
			}
		}
		time.Sleep(time.Hour)
		rest := f.consume(sub, 102)
		rest = slices.DeleteFunc(rest, func(text string) bool { return text[0] != 'a' })
		f.want(rest, numbered("a", 100)...)
	})
}

// TestWhatIsTruncatedOrErasedDoesNotStopTheGroup edits messages that a group has open, while nobody is there and under its hands.
func TestWhatIsTruncatedOrErasedDoesNotStopTheGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		sub := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		f.publish("a1", "a2", "a3", "b1", "c1")
		ds := f.receive(sub, 5)
		f.ok(sub.Close()) // all of them are open
		events := f.backend.Events()
		f.ok(events.Truncate(t.Context(), "orders-a", 3))
		f.ok(events.Delete(t.Context(), "orders-b", es.Tombstone))
		_, err := events.Erase(t.Context(), es.Erasure{Stream: "orders-c", Audit: es.NewMessage("audit-1", "Erased", nil)})
		f.ok(err)
		log := f.log(eventlog.Config{})
		again := f.subscribe(log, es.SubscribeOptions{Group: "g"})
		got := f.receive(again, 2)
		for _, d := range got {
			if d.ID != ds[2].ID && d.ID != ds[4].ID {
				t.Errorf("%s came, which is gone", d.Data)
			}
		}
		f.ok(events.Truncate(t.Context(), "orders-a", 99))
		f.ok(again.Ack(t.Context(), got))
		head, err := events.Head(t.Context())
		f.ok(err)
		f.ok(log.WaitFor(t.Context(), "orders", "g", head))
	})
}

// TestStateThatCannotBeReadDoesNotStopTheGroup spoils the documents of a group that nobody is in: its partitions begin again where the
// group began.
func TestStateThatCannotBeReadDoesNotStopTheGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		sub := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		f.publish("a1", "b1")
		f.consume(sub, 2)
		f.ok(sub.Close())
		docs, err := f.backend.ReadModels().List(t.Context(), es.ListQuery{Model: "eventlog", Prefix: "partition/"})
		f.ok(err)
		var writes []es.Write
		for i, doc := range docs {
			spoilt := [][]byte{nil, []byte("\x00"), doc.Data[:len(doc.Data)-1], append(slices.Clone(doc.Data), 1)}[i%4]
			writes = append(writes, es.Write{Model: "eventlog", Key: doc.Key, Data: spoilt})
		}
		f.ok(f.backend.ReadModels().Commit(t.Context(), es.Commit{Writes: writes}))
		again := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		got := f.consume(again, 2)
		slices.Sort(got)
		f.want(got, "a1", "b1")
	})
}

// TestNewerStateIsLeftAlone: a member of a newer version may be at work.
func TestNewerStateIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		log := f.log(eventlog.Config{Partitions: 1})
		f.ok(f.subscribe(log, es.SubscribeOptions{Group: "g"}).Close())
		docs, err := f.backend.ReadModels().List(t.Context(), es.ListQuery{Model: "eventlog", Prefix: "partition/"})
		f.ok(err)
		newer := append([]byte{99}, docs[0].Data[1:]...)
		f.ok(f.backend.ReadModels().Commit(t.Context(), es.Commit{Writes: []es.Write{{Model: "eventlog", Key: docs[0].Key, Data: newer}}}))
		sub := f.subscribe(log, es.SubscribeOptions{Group: "g"})
		f.publish("a1")
		f.wantNothing(sub, time.Minute)
	})
}

// failing read models turn commits down while they are told to.
type failingModels struct {
	es.ReadModels
	fail *bool
}

var errDown = errors.New("the store is down")

func (m failingModels) Commit(ctx context.Context, c es.Commit) error {
	if *m.fail {
		return errDown
	}
	return m.ReadModels.Commit(ctx, c)
}

type failingBackend struct {
	es.Backend
	fail *bool
}

func (b failingBackend) ReadModels() es.ReadModels {
	return failingModels{b.Backend.ReadModels(), b.fail}
}

// TestAnswerThatCouldNotBeStoredCanBeGivenAgain, and what could not be stored as handed out is not handed out.
func TestAnswerThatCouldNotBeStoredCanBeGivenAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		fail := false
		sub := f.subscribe(f.logOn(failingBackend{f.open(), &fail}, eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		f.publish("a1", "b1", "c1", "d1")
		ds := f.receive(sub, 3)
		fail = true
		f.wantError(sub.Ack(t.Context(), ds[:1]), errDown)
		f.wantError(sub.Nack(t.Context(), ds[1:2], 0), errDown)
		f.wantError(sub.Release(t.Context(), ds[2:]), errDown)
		n, err := sub.Receive(t.Context(), make([]es.Delivery, 1))
		f.wantError(err, errDown)
		if n != 0 {
			t.Errorf("with an error, %d came", n)
		}
		fail = false
		f.ok(sub.Ack(t.Context(), ds[:1]))
		f.ok(sub.Nack(t.Context(), ds[1:2], 0))
		f.ok(sub.Release(t.Context(), ds[2:]))
		got := f.consume(sub, 3)
		slices.Sort(got)
		f.want(got, "b1", "c1", "d1")
	})
}
