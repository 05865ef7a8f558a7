package memory

import (
	"cmp"
	"time"
)

// entryLinks are what stands before and behind an entry in a list.
type entryLinks struct{ prev, next *outboxEntry }

// An entry has room to stand in two lists.
const (
	byStream = iota // of the stream's entries, in order of enqueue
	byAge           // of all entries that wait, or of all that are dead
)

// entryList is a doubly linked list through the links of its entries, so that an entry is taken out of the middle in one step
// and costs nothing beside itself.
type entryList struct {
	links       int // which of an entry's links
	first, last *outboxEntry
}

func (l *entryList) pushBack(e *outboxEntry) { l.insert(e, nil) }

// insert puts an entry before another, or at the end when that is nil.
func (l *entryList) insert(e, before *outboxEntry) {
	prev := l.last
	if before != nil {
		prev = before.links[l.links].prev
		before.links[l.links].prev = e
	} else {
		l.last = e
	}
	e.links[l.links] = entryLinks{prev: prev, next: before}
	if prev != nil {
		prev.links[l.links].next = e
	} else {
		l.first = e
	}
}

// insertFrom puts an entry where it belongs by its order of enqueue, looking from another entry on, or from the first when
// that is nil.
func (l *entryList) insertFrom(from, e *outboxEntry) {
	before := from
	if before == nil {
		before = l.first
	}
	for before != nil && before.seq < e.seq {
		before = before.links[l.links].next
	}
	l.insert(e, before)
}

func (l *entryList) remove(e *outboxEntry) {
	links := e.links[l.links]
	if links.prev != nil {
		links.prev.links[l.links].next = links.next
	} else {
		l.first = links.next
	}
	if links.next != nil {
		links.next.links[l.links].prev = links.prev
	} else {
		l.last = links.prev
	}
	e.links[l.links] = entryLinks{}
}

func bySeq(a, b *outboxEntry) int { return cmp.Compare(a.seq, b.seq) }

// readyList has the streams that can be claimed from, the one that has waited longest first.
type readyList struct {
	first, last *outboxStream
	len         int
}

func (l *readyList) push(s *outboxStream) {
	s.nextReady = nil
	if l.last == nil {
		l.first = s
	} else {
		l.last.nextReady = s
	}
	l.last = s
	l.len++
}

func (l *readyList) pop() *outboxStream {
	s := l.first
	l.first = s.nextReady
	if l.first == nil {
		l.last = nil
	}
	s.nextReady = nil
	l.len--
	return s
}

// timedStreams is a heap, for container/heap, of streams that wait for a time, the earliest first.
type timedStreams []*outboxStream

func (h *timedStreams) Len() int           { return len(*h) }
func (h *timedStreams) Less(i, j int) bool { return (*h)[i].wake.Before((*h)[j].wake) }

func (h *timedStreams) Swap(i, j int) {
	s := *h
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

func (h *timedStreams) Push(x any) {
	s, _ := x.(*outboxStream) // the heap holds nothing else
	s.index = len(*h)
	*h = append(*h, s)
}

func (h *timedStreams) Pop() any {
	old := *h
	last := len(old) - 1
	s := old[last]
	old[last] = nil
	*h = old[:last]
	return s
}

// next returns when something happens by itself, and whether anything does.
func (h *timedStreams) next() (time.Time, bool) {
	if len(*h) == 0 {
		return time.Time{}, false
	}
	return (*h)[0].wake, true
}
