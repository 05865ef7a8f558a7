package estest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func orderLines() []eventLine {
	return []eventLine{
		onEvents("E8", "every_reader_sees_every_event_once", everyReaderEveryEvent),
		onEvents("E8", "readers_on_other_handles", readersOnOtherHandles, needHandles()),
		onEvents("E8", "writers_in_other_processes", writersInProcesses, needProcesses()),
		onEvents("E8", "nothing_appears_behind_the_head", nothingBehindTheHead),
		onEvents("E8", "own_writes_are_read_at_once", ownWritesAtOnce),
		onEvents("E8", "the_head_settles_by_itself", headSettles),
		onEvents("E8", "a_reader_that_finds_nothing_advances", nothingAdvances),
	}
}

func everyReaderEveryEvent(b *eventBench) { b.liveReaders(b.handles(1), b.handles(1), 0) }

func readersOnOtherHandles(b *eventBench) {
	stores := b.handles(4)
	b.liveReaders(stores[:2], stores[2:], 0)
}

func writersInProcesses(b *eventBench) { b.liveReaders(nil, b.handles(1), 3) }

// writes is how many appends a writer of [eventBench.liveReaders] makes.
const writes = 100

// liveReaders lets writers append what they like while readers follow the global order, each with its own filter and page.
// It fails unless every reader has seen each event that was acknowledged and that it selects exactly once, in position order,
// each stream in version order, and was never far behind.
func (b *eventBench) liveReaders(writers, readers []es.EventStore, processes int) {
	b.Helper()
	stopTrouble := b.trouble()
	write := func(i int) []ack { return writeAtRandom(b.ctx, writers[i%len(writers)], i, writes) }
	n := 4
	if processes > 0 {
		n = processes
		children := b.children(n, job{Kind: jobWrite, Count: writes})
		write = func(i int) []ack { return children[i].write(b.ctx) }
	}
	written := make(chan []ack, 1)
	go func() { written <- slices.Concat(together(n, write)...) }()

	queries := []struct {
		es.Query
		page int
	}{
		{es.Query{}, 0},
		{es.Query{}, 1},
		{es.Query{Category: "shared"}, 7},
		{es.Query{Names: []string{"N1"}}, 3},
		{es.Query{Any: []es.Criterion{{Tags: []string{"odd"}}, {Names: []string{"N2"}}}}, 2},
		{es.Query{Names: []string{"Never"}}, 5},
	}
	var acked []ack
	done := make(chan struct{}) // closed when all is written
	end := int64(0)
	go func() {
		defer close(done)
		acked = <-written
		for _, a := range acked {
			end = max(end, a.Position)
		}
	}()
	results := together(len(queries), func(i int) followed {
		q := queries[i].Query
		q.Limit = queries[i].page
		return follow(b.ctx, readers[i%len(readers)], q, done, &end)
	})
	<-done
	stopTrouble()

	ackedAt := map[string]ack{}
	for _, a := range acked {
		if a.Err != "" {
			b.Fatalf("a writer: %s", a.Err)
		}
		ackedAt[a.ID] = a
	}
	if len(ackedAt) < n*writes/2 {
		b.Fatalf("only %d events were written", len(ackedAt))
	}
	for i, r := range results {
		b.checkFollowed(fmt.Sprintf("reader %d, of %+v,", i, queries[i].Query), queries[i].Query, r, ackedAt)
	}
}

// checkFollowed compares what a reader saw with what was acknowledged.
func (b *eventBench) checkFollowed(who string, q es.Query, r followed, acked map[string]ack) {
	b.Helper()
	if r.err != nil {
		b.Fatalf("%s fails: %v", who, r.err)
	}
	seen := map[string]bool{}
	versions := map[string]int64{}
	last := int64(0)
	var worst time.Duration
	for _, s := range r.seen {
		m := s.Message
		a, known := acked[m.ID.String()]
		switch {
		case !known:
			b.Fatalf("%s sees %s, which nobody was told was appended", who, m.ID)
		case seen[m.ID.String()]:
			b.Fatalf("%s sees %s twice", who, m.ID)
		case m.Position <= last:
			b.Fatalf("%s sees position %d after %d", who, m.Position, last)
		case m.Version <= versions[m.Stream]:
			b.Fatalf("%s sees version %d of %q after %d", who, m.Version, m.Stream, versions[m.Stream])
		case m.Position != a.Position || m.Version != a.Version:
			b.Fatalf("%s sees %s at version %d, position %d; its append said %+v", who, m.ID, m.Version, m.Position, a)
		case !selects(q, m):
			b.Fatalf("%s sees an event that it does not select: %+v", who, *m)
		}
		seen[m.ID.String()] = true
		last, versions[m.Stream] = m.Position, m.Version
		worst = max(worst, s.at.Sub(a.At))
	}
	missed := 0
	for id, a := range acked {
		if selects(q, &es.Message{Stream: a.Stream, Name: a.Name, Tags: a.Tags}) && !seen[id] {
			missed++
		}
	}
	if missed > 0 {
		b.Fatalf("%s sees %d events and skips %d for ever", who, len(seen), missed)
	}
	b.Logf("%s sees %d events in %d pages, at most %v after they were acknowledged", who, len(seen), r.pages, worst.Round(time.Microsecond))
	if bound := patience(b.TB) / 3; worst > bound {
		b.Errorf("%s sees an event %v after it was acknowledged; want at most %v", who, worst, bound)
	}
}

// trouble starts what the storage can do to readers of the global order, and returns how to end it.
func (b *eventBench) trouble() (stop func()) {
	return startTrouble(b.TB, b.ctx, b.storage)
}

// nothingBehindTheHead takes heads while writers write, and what can be read up to each of them. At the end the same reading
// must give the same events: nothing came in below a head.
func nothingBehindTheHead(b *eventBench) {
	stopTrouble := b.trouble()
	done := make(chan struct{})
	failed := make([]error, 4)
	go func() {
		defer close(done)
		together(4, func(i int) error {
			for _, a := range writeAtRandom(b.ctx, b.store, i, writes) {
				if a.Err != "" {
					failed[i] = errors.New(a.Err)
				}
			}
			return nil
		})
	}()
	writing, stop := context.WithCancel(b.ctx)
	defer stop()
	go func() {
		defer stop()
		<-done
	}()
	type look struct {
		head es.Checkpoint
		seen []*es.Message
	}
	var looks []look
	var err error
	for last := (es.Checkpoint{}); err == nil; {
		if _, err = b.store.Wait(writing, last); err != nil {
			if writing.Err() != nil && b.ctx.Err() == nil {
				err = nil // all is written
			}
			break
		}
		var l look
		if l.head, err = b.store.Head(b.ctx); err != nil {
			break
		}
		if l.head.Position <= last.Position {
			err = fmt.Errorf("the head was beyond %d for who waited, and then it is %d", last.Position, l.head.Position)
			break
		}
		last = l.head
		l.seen, err = readAll(b.ctx, b.store, es.Query{UpTo: last.Position, After: max(0, last.Position-40)})
		looks = append(looks, l)
	}
	<-done
	stopTrouble()
	if err := errors.Join(err, errors.Join(failed...)); err != nil {
		b.Fatal(err)
	}
	if len(looks) == 0 {
		b.Fatal("the head never moved while there were writers")
	}
	for _, l := range looks {
		now := b.read(es.Query{UpTo: l.head.Position, After: max(0, l.head.Position-40), Unsettled: true})
		b.same(l.seen, now, fmt.Sprintf("what there was up to the head %d, and what there is now", l.head.Position))
	}
	all := b.all()
	b.settled(b.lastOf(all))
	b.same(b.read(es.Query{}), all, "when all is settled")
}

// ownWritesAtOnce reads what was just appended, settled or not.
func ownWritesAtOnce(b *eventBench) {
	errs := together(4, func(i int) error {
		stream, tag := fmt.Sprintf("own-%d", i), fmt.Sprintf("own:%d", i)
		for n := range 30 {
			m := made(stream, "Happened", tag)
			done, err := b.store.Append(b.ctx, es.AppendTo(stream, es.Exactly(int64(n)), m))
			if err != nil {
				return err
			}
			for _, q := range []es.Query{
				{Stream: stream, After: int64(n)}, {Stream: stream, Reverse: true, Limit: 1},
				{Tags: []string{tag}, After: done.Position - 1, Unsettled: true}, {Tags: []string{tag}, Reverse: true, Limit: 1, Unsettled: true},
			} {
				if got, err := readAll(b.ctx, b.store, q); err != nil || len(got) != 1 || got[0].ID != m.ID {
					return fmt.Errorf("event %d of %q was appended, and read %+v gives %d events (%w)", n, stream, q, len(got), err)
				}
			}
			if _, read, err := decide(b, b.store, []es.Criterion{{Tags: []string{tag}}}); err != nil || read != n+1 {
				return fmt.Errorf("a decision reads %d events of %d (%w)", read, n+1, err)
			}
		}
		return nil
	})
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}

// headSettles has rejected appends, some of which draw numbers on some engines, before and after an event: the head passes them.
func headSettles(b *eventBench) {
	taken := b.put("taken-1", es.Any, some("taken-1", 1)...)
	for range 10 {
		together(8, func(int) error {
			_, err := b.store.Append(b.ctx, es.AppendTo("taken-1", es.NoStream, some("taken-1", 3)...))
			return err
		})
		own := b.put("own-1", es.Any, some("own-1", 2)...)
		together(8, func(int) error {
			_, err := b.store.Append(b.ctx, es.AppendTo("taken-1", es.Exactly(7), some("taken-1", 3)...))
			return err
		})
		if head := b.settled(own.Position); head.Position <= taken.Position {
			b.Fatalf("the head is %d after position %d was settled", head.Position, own.Position)
		}
		if got := b.read(es.Query{After: own.Position - 1, UpTo: own.Position}); len(got) != 1 {
			b.Fatalf("the event at the settled head cannot be read")
		}
	}
}

func nothingAdvances(b *eventBench) {
	checkpoint := es.Checkpoint{}
	filter := es.Query{Names: []string{"Never"}, Category: "other"}
	for range 20 {
		last := b.put("some-1", es.Any, some("some-1", 3)...).Position
		for checkpoint.Position < last {
			head, err := b.store.Wait(b.ctx, checkpoint)
			if err != nil {
				b.Fatalf("Wait: %v", err)
			}
			if head.Position <= checkpoint.Position {
				b.Fatalf("Wait for more than %d returned %d: a reader would spin", checkpoint.Position, head.Position)
			}
			q := filter.Resume(checkpoint)
			q.UpTo = head.Position
			if got := b.read(q); len(got) != 0 {
				b.Fatalf("read %+v gives %d events", q, len(got))
			}
			checkpoint = head
		}
		if got := b.read(filter.Resume(checkpoint)); len(got) != 0 { // at the head itself there is nothing, and no error
			b.Fatalf("there are %d events beyond the head", len(got))
		}
	}
}
