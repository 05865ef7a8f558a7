package eventlog_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
)

// troubled is a backend whose commits and renewals go through somebody who makes trouble.
type troubled struct {
	es.Backend
	mu     sync.Mutex
	commit func(ctx context.Context, c es.Commit) error // nil: as always
	renew  func() error
}

func (b *troubled) ReadModels() es.ReadModels { return troubledModels{b.Backend.ReadModels(), b} }
func (b *troubled) Leases() es.Leases         { return troubledLeases{b.Backend.Leases(), b} }

// makes changes what becomes of commits and renewals from now on.
func (b *troubled) makes(commit func(ctx context.Context, c es.Commit) error, renew func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.commit, b.renew = commit, renew
}

type troubledModels struct {
	es.ReadModels
	of *troubled
}

func (m troubledModels) Commit(ctx context.Context, c es.Commit) error {
	m.of.mu.Lock()
	commit := m.of.commit
	m.of.mu.Unlock()
	if commit != nil {
		return commit(ctx, c)
	}
	return m.ReadModels.Commit(ctx, c)
}

type troubledLeases struct {
	es.Leases
	of *troubled
}

func (l troubledLeases) Renew(ctx context.Context, lease es.Lease, ttl time.Duration) (es.Lease, error) {
	l.of.mu.Lock()
	renew := l.of.renew
	l.of.mu.Unlock()
	if renew != nil {
		if err := renew(); err != nil {
			return es.Lease{}, err
		}
	}
	return l.Leases.Renew(ctx, lease, ttl)
}

// partitionsOf is how many partitions a commit writes.
func partitionsOf(c es.Commit) int {
	n := 0
	for _, w := range c.Writes {
		if strings.HasPrefix(w.Key, "partition/") {
			n++
		}
	}
	return n
}

// TestCloseInTheMiddleOfAHandoverLetsOthersGoOn: the outcome of the handover is unknown then, and the lease of who closes must not
// keep the partitions from the others until it ends.
func TestCloseInTheMiddleOfAHandoverLetsOthersGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		backend := &troubled{Backend: f.open()}
		leaving := f.subscribe(f.logOn(backend, eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		begun := make(chan struct{})
		backend.makes(func(ctx context.Context, _ es.Commit) error {
			close(begun)
			<-ctx.Done()
			backend.makes(nil, nil)
			return ctx.Err()
		}, nil)
		staying := f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		<-begun
		f.ok(leaving.Close())
		f.publish("a1", "b1", "c1", "d1")
		at := time.Now()
		f.consume(staying, 4)
		if took := time.Since(at); took > 3*time.Second {
			t.Errorf("the partitions of who has left were free after %v", took)
		}
	})
}

// TestMemberThatWasAwayDuringAResetFollowsIt: the group is cut into more partitions while the lease of a member has ended.
func TestMemberThatWasAwayDuringAResetFollowsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		backend := &troubled{Backend: f.open()}
		one := f.logOn(backend, eventlog.Config{Partitions: 2})
		first := f.subscribe(one, es.SubscribeOptions{Group: "g"})
		backend.makes(nil, func() error { return errDown })
		time.Sleep(20 * time.Second)
		other := f.log(eventlog.Config{Partitions: 7})
		f.ok(other.ResetGroup(t.Context(), "orders", "g", es.Start{Kind: es.StartBeginning}))
		backend.makes(nil, nil)
		second := f.subscribe(other, es.SubscribeOptions{Group: "g"})
		time.Sleep(5 * time.Second)
		var want []string
		for c := 'a'; c <= 'z'; c++ {
			want = append(want, string(c)+"1")
		}
		f.publish(want...)
		got := append(f.all(first), f.all(second)...)
		slices.Sort(got)
		f.want(got, want...)
	})
}

// all receives and acknowledges what there is until nothing comes for a minute.
func (f *fixture) all(sub es.Subscription) []string {
	f.Helper()
	var got []string
	for {
		ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
		dst := make([]es.Delivery, 64)
		n, err := sub.Receive(ctx, dst)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return got
		}
		f.ok(err)
		f.ok(sub.Ack(f.Context(), dst[:n]))
		got = append(got, texts(dst[:n])...)
	}
}

// TestLateNewsOfALostLeaseLeavesTheNewOneAlone: a commit under the old lease is turned down when the member has joined anew. If it
// left again, its new lease would stand for nobody.
func TestLateNewsOfALostLeaseLeavesTheNewOneAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		backend := &troubled{Backend: f.open()}
		log := f.logOn(backend, eventlog.Config{})
		sub := f.subscribe(log, es.SubscribeOptions{Group: "g", Lease: time.Hour})
		f.publish("a1")
		held := f.receive(sub, 1)
		var slow, lost atomic.Bool
		backend.makes(func(ctx context.Context, c es.Commit) error {
			if !slow.Swap(true) {
				time.Sleep(16 * time.Second) // the old lease ends after 15, the new one after 20
			}
			return backend.Backend.ReadModels().Commit(ctx, c)
		}, func() error {
			if !lost.Swap(true) {
				return es.ErrLeaseLost
			}
			return nil
		})
		f.wantError(es.Of(sub.Ack(t.Context(), held), 0), es.ErrLeaseLost)
		backend.makes(nil, nil)
		time.Sleep(2 * time.Second)
		info, err := log.Group(t.Context(), "orders", "g")
		f.ok(err)
		if len(info.Members) != 1 || len(info.Members[0].Partitions) != 16 {
			t.Errorf("the members are %+v", info.Members)
		}
		f.want(f.consume(sub, 1), "a1")
	})
}

// TestLateCommitDoesNotStrandAPartition: the context of a Receive ends while its commit is on the way, which arrives when the
// partition has another owner, who dies.
func TestLateCommitDoesNotStrandAPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		backend := &troubled{Backend: f.open()}
		one := f.logOn(backend, eventlog.Config{Partitions: 2})
		first := f.subscribe(one, es.SubscribeOptions{Group: "g"})
		f.publish("a1", "b1", "c1", "d1")
		synctest.Wait()
		arrive := make(chan struct{})
		arrived := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		backend.makes(func(ctx context.Context, c es.Commit) error {
			if partitionsOf(c) == 0 {
				return backend.Backend.ReadModels().Commit(ctx, c)
			}
			late := es.Commit{Fence: c.Fence}
			for _, w := range c.Writes {
				w.Data = slices.Clone(w.Data)
				late.Writes = append(late.Writes, w)
			}
			go func() {
				<-arrive
				arrived <- backend.Backend.ReadModels().Commit(context.Background(), late)
			}()
			backend.makes(nil, nil)
			cancel()
			return ctx.Err()
		}, nil)
		_, err := first.Receive(ctx, make([]es.Delivery, 8))
		f.wantError(err, context.Canceled)
		dying := f.open()
		second := f.subscribe(f.logOn(dying, eventlog.Config{Partitions: 2}), es.SubscribeOptions{Group: "g"})
		time.Sleep(3 * time.Second)
		got := f.some(second)
		arrive <- struct{}{}
		f.ok(<-arrived)
		f.ok(dying.Close())
		time.Sleep(20 * time.Second)
		f.publish("a2", "b2", "c2", "d2")
		got = append(got, f.all(first)...)
		slices.Sort(got)
		f.want(slices.Compact(got), "a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2")
	})
}

// some receives once, and acknowledges.
func (f *fixture) some(sub es.Subscription) []string {
	f.Helper()
	dst := make([]es.Delivery, 8)
	n, err := sub.Receive(f.Context(), dst)
	f.ok(err)
	f.ok(sub.Ack(f.Context(), dst[:n]))
	return texts(dst[:n])
}

// TestKeyIsPartOfTheGroup: members that put a message into different partitions would lose it.
func TestKeyIsPartOfTheGroup(t *testing.T) {
	t.Parallel()
	byName := func(m *es.Message) string { return m.Name }
	for _, first := range []func(*es.Message) string{nil, byName} {
		t.Run(strconv.FormatBool(first != nil), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			second := byName
			if first != nil {
				second = nil
			}
			one, two := f.log(eventlog.Config{}), f.log(eventlog.Config{})
			sub := f.subscribe(one, es.SubscribeOptions{Group: "g", Key: first})
			for _, log := range []*eventlog.Log{one, two} {
				_, err := log.Subscribe(t.Context(), "orders", es.SubscribeOptions{Group: "g", Key: second})
				f.wantError(err, es.ErrInvalid)
			}
			f.ok(f.subscribe(two, es.SubscribeOptions{Group: "g", Key: first}).Close())
			f.ok(sub.Close())
			f.ok(two.ResetGroup(t.Context(), "orders", "g", es.Start{})) // from now on it may be another
			f.ok(f.subscribe(two, es.SubscribeOptions{Group: "g", Key: second}).Close())
			_, err := one.Subscribe(t.Context(), "orders", es.SubscribeOptions{Group: "g", Key: first})
			f.wantError(err, es.ErrInvalid)
		})
	}
}

// TestManyMembersComeAndGoAtOnce: fifty share what is enough for sixteen.
func TestManyMembersComeAndGoAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		const members = 50
		subs := make([]es.Subscription, members)
		logs := make([]*eventlog.Log, members)
		for i := range logs {
			logs[i] = f.log(eventlog.Config{})
		}
		var joining sync.WaitGroup
		for i := range subs {
			joining.Go(func() { subs[i] = f.subscribe(logs[i], es.SubscribeOptions{Group: "g"}) })
		}
		joining.Wait()
		time.Sleep(3 * time.Second)
		if got := f.share(logs[0]); len(got) != members || got[members-16] != 1 || got[members-1] != 1 {
			t.Fatalf("they share %v", got)
		}
		var leaving sync.WaitGroup
		for _, sub := range subs[1:] {
			leaving.Go(func() {
				if err := sub.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		leaving.Wait()
		time.Sleep(2 * time.Second)
		if got := f.share(logs[0]); !slices.Equal(got, []int{16}) {
			t.Fatalf("the one that is left has %v", got)
		}
	})
}

// TestGroupThatIsClosedIsForgotten: what its Key holds on to is free.
func TestGroupThatIsClosedIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	log := f.log(eventlog.Config{})
	forgotten := make(chan struct{})
	func() {
		held := make([]byte, 1024)
		runtime.AddCleanup(&held[0], func(done chan struct{}) { close(done) }, forgotten)
		key := func(*es.Message) string { return string(held[:1]) }
		f.ok(f.subscribe(log, es.SubscribeOptions{Group: "g", Key: key}).Close())
	}()
	for end := time.Now().Add(10 * time.Second); ; {
		runtime.GC()
		select {
		case <-forgotten:
			return
		default:
			if time.Now().After(end) {
				t.Fatal("the log keeps the group")
			}
		}
	}
}

// TestTwoWhoClaimAtOnceDoNotBothGetIt lets a second member come between the look of the first at the partitions and its claim.
func TestTwoWhoClaimAtOnceDoNotBothGetIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		backend := &troubled{Backend: f.open()}
		var second es.Subscription
		backend.makes(func(ctx context.Context, c es.Commit) error {
			if c.Fence != nil && partitionsOf(c) > 0 && second == nil {
				second = f.subscribe(f.log(eventlog.Config{}), es.SubscribeOptions{Group: "g"})
			}
			return backend.Backend.ReadModels().Commit(ctx, c)
		}, nil)
		first := f.subscribe(f.logOn(backend, eventlog.Config{}), es.SubscribeOptions{Group: "g"})
		var want []string
		for c := 'a'; c <= 'z'; c++ {
			want = append(want, string(c)+"1")
		}
		f.publish(want...)
		time.Sleep(5 * time.Second)
		got := append(f.all(first), f.all(second)...)
		slices.Sort(got)
		f.want(got, want...)
	})
}

// TestSlowCommitDoesNotCostTheLease: the lease is renewed while a commit takes longer than it lasts.
func TestSlowCommitDoesNotCostTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		backend := &troubled{Backend: f.open()}
		sub := f.subscribe(f.logOn(backend, eventlog.Config{}), es.SubscribeOptions{Group: "g", Lease: time.Hour})
		f.publish("a1")
		held := f.receive(sub, 1)
		backend.makes(func(ctx context.Context, c es.Commit) error {
			backend.makes(nil, nil)
			f.publish("b1") // which the reader brings, so that there is something to be written soon
			time.Sleep(40 * time.Second)
			return backend.Backend.ReadModels().Commit(ctx, c)
		}, nil)
		f.ok(sub.Ack(t.Context(), held))
	})
}
