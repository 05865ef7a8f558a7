package estest

import (
	"context"
	"errors"
	"iter"
	"runtime"

	es "github.com/eventsourcing-go/eventsourcing"
)

func cursorLines() []eventLine {
	return []eventLine{
		onEvents("E7", "canceling_is_an_error_and_no_end", cancelIsAnError),
		onEvents("E7", "closing_is_an_error_and_no_end", closeIsAnError),
		onEvents("E7", "the_body_may_append", bodyMayAppend),
		onEvents("E7", "breaking_out_releases", breakReleases),
		onEvents("E7", "many_read_at_once", manyReadAtOnce),
		onEvents("E7", "memory_stays_constant", memoryStaysConstant),
	}
}

func isInvalid(err error) bool { return errors.Is(err, es.ErrInvalid) }

// long fills a stream with so many events that reading them takes several pages.
func (b *eventBench) long(stream string, n int) int {
	b.Helper()
	total := 0
	for total < n {
		events := some(stream, min(n-total, b.limits().EventsPerAppend, 1000))
		b.put(stream, es.Any, events...)
		total += len(events)
	}
	b.settledNow()
	return total
}

// readings are the ways to go through a long history.
func readings(stream string) []es.Query {
	return []es.Query{
		{}, {Stream: stream}, {Category: es.Category(stream)}, {Unsettled: true}, {Reverse: true}, {Stream: stream, Reverse: true},
		{Names: []string{"Happened"}},
	}
}

func cancelIsAnError(b *eventBench) {
	const total = 3000
	b.long("long-1", total)
	for _, q := range readings("long-1") {
		for _, after := range []int{0, 1, 10} { // canceled before the first event and in the middle
			ctx, cancel := context.WithCancel(b.ctx)
			if after == 0 {
				cancel()
			}
			seen, failed := 0, error(nil)
			for m, err := range b.store.Read(ctx, q) {
				if err != nil {
					failed = err
					if m != nil {
						b.Errorf("a message comes with the error %v", err)
					}
					continue // it has to be the end
				}
				if failed != nil {
					b.Fatalf("the read goes on after %v", failed)
				}
				if seen++; seen == after {
					cancel()
				}
			}
			cancel()
			if !errors.Is(failed, context.Canceled) {
				b.Fatalf("read %+v, canceled after %d events, gives %d of %d and the error %v", q, after, seen, total, failed)
			}
			if seen >= total {
				b.Fatalf("read %+v, canceled after %d events, gives all %d before it notices", q, after, seen)
			}
		}
	}
}

// closeIsAnError closes the store in the middle of a read. What had been fetched may come, but then there is an error: a
// program that rebuilds a state must not mistake half of a history for all of it.
func closeIsAnError(b *eventBench) {
	const total = 3000
	b.long("long-1", total)
	next, stop := iter.Pull2(b.store.Read(b.ctx, es.Query{Stream: "long-1"}))
	defer stop()
	if m, err, ok := next(); !ok || err != nil || m.Version != 1 {
		b.Fatalf("the first event: %v, %v, %v", m, err, ok)
	}
	if err := b.storage.Close(b.TB, b.store); err != nil {
		b.Fatalf("Close: %v", err)
	}
	seen, failed := 1, error(nil)
	for m, err, ok := next(); ok; m, err, ok = next() {
		if err != nil {
			failed = err
			continue
		}
		if seen++; m.Version != int64(seen) {
			b.Fatalf("version %d comes after %d", m.Version, seen-1)
		}
	}
	if failed != nil && !errors.Is(failed, es.ErrClosed) {
		b.Fatalf("a read that was closed in the middle ends with %v; want ErrClosed", failed)
	}
	if failed == nil && seen != total {
		b.Fatalf("a read that was closed in the middle ends after %d of %d events without an error", seen, total)
	}
}

func bodyMayAppend(b *eventBench) {
	const total = 2500
	b.long("long-1", total)
	for _, q := range readings("long-1") {
		seen, appended := 0, 0
		for m, err := range b.store.Read(b.ctx, q) {
			if err != nil {
				b.Fatalf("read %+v: %v", q, err)
			}
			if seen++; seen%500 != 1 || appended == 5 {
				continue
			}
			// To the very stream that is read, to another one, and another read inside the read.
			if _, err := b.store.Append(b.ctx, es.AppendTo("long-1", es.Any, made("long-1", "Reacted"))); err != nil {
				b.Fatalf("append in the body of the read %+v: %v", q, err)
			}
			if _, err := b.store.Append(b.ctx, es.AppendTo("other-1", es.Any, made("other-1", "Reacted"))); err != nil {
				b.Fatalf("append in the body of the read %+v: %v", q, err)
			}
			one := es.Query{Stream: m.Stream, After: m.Version - 1, UpTo: m.Version}
			if got, err := readAll(b.ctx, b.store, one); err != nil || len(got) != 1 {
				b.Fatalf("a read in the body of the read %+v: %d events, %v", q, len(got), err)
			}
			appended++
		}
		if seen < total || appended != 5 {
			b.Fatalf("read %+v gives %d events, want %d or more", q, seen, total)
		}
	}
}

// breakReleases abandons a great many reads. When each held something, the store would run out of it, or never close.
func breakReleases(b *eventBench) {
	const total, abandoned = 2500, 300
	b.long("long-1", total)
	for i := range abandoned {
		for _, q := range readings("long-1") {
			seen := 0
			for _, err := range b.store.Read(b.ctx, q) {
				if err != nil {
					b.Fatalf("abandoned read %d, %+v: %v", i, q, err)
				}
				if seen++; seen > i%3 {
					break
				}
			}
		}
	}
	b.put("long-1", es.Exactly(total), some("long-1", 1)...)

	// The same for reads that are left in the middle, and only told much later that nobody wants the rest.
	for range 20 {
		next, stop := iter.Pull2(b.store.Read(b.ctx, es.Query{Stream: "long-1"}))
		defer stop()
		if _, err, _ := next(); err != nil {
			b.Fatalf("a read that is left in the middle: %v", err)
		}
	}
	b.put("long-1", es.Exactly(total+1), some("long-1", 1)...)
	closed := make(chan error, 1)
	go func() { closed <- b.storage.Close(b.TB, b.store) }()
	select {
	case err := <-closed:
		if err != nil {
			b.Fatalf("Close: %v", err)
		}
	case <-b.ctx.Done():
		b.Fatal("Close does not return while reads are left in the middle")
	}
}

func manyReadAtOnce(b *eventBench) {
	const total = 1200
	b.long("long-1", total)
	want := b.all()
	for _, diff := range together(8, func(i int) string {
		got, err := readAll(b.ctx, b.store, es.Query{Stream: "long-1", Reverse: i%2 == 1})
		if err != nil {
			return err.Error()
		}
		return differ(got, model(want, es.Query{Reverse: i%2 == 1}))
	}) {
		if diff != "" {
			b.Fatal(diff)
		}
	}
}

// memoryStaysConstant reads a history that is several times the size of a page and looks at the heap on the way. Only what is
// new since the read began counts, so that a store which has its events in memory anyway is not held against it.
func memoryStaysConstant(b *eventBench) {
	const size = 4 << 10
	const total = 4096
	for left := total; left > 0; {
		events := some("big-1", min(left, 512, b.limits().EventsPerAppend))
		for _, m := range events {
			m.Data = make([]byte, min(size, b.limits().EventBytes))
		}
		b.put("big-1", es.Any, events...)
		left -= len(events)
	}
	b.settledNow()
	heap := func() int64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	for _, q := range []es.Query{{}, {Stream: "big-1"}, {Stream: "big-1", Reverse: true}} {
		before, most, seen := heap(), int64(0), 0
		for _, err := range b.store.Read(b.ctx, q) {
			if err != nil {
				b.Fatalf("read %+v: %v", q, err)
			}
			if seen++; seen == 1 || seen%(total/4) == 0 {
				most = max(most, heap()-before)
			}
		}
		if seen != total {
			b.Fatalf("read %+v gives %d events, want %d", q, seen, total)
		}
		b.Logf("read %+v: at most %d KiB beside what was there", q, most>>10)
		if history := int64(total * min(size, b.limits().EventBytes)); most > history/2 {
			b.Errorf("read %+v of %d KiB holds %d KiB; its memory grows with what it reads", q, history>>10, most>>10)
		}
	}
}
