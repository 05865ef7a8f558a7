package eventlog

import (
	"container/heap"
)

// orderKey is an ordering key of a partition. Keys are told apart by a hash of 64 bits: should two ever have the same, they are
// one key, ordered more than they need be.
type orderKey struct {
	hash  uint64
	part  *partition
	out   parcelList // with one batch, by position
	queue parcelList // waiting, by position

	count  int  // of queue
	queued bool // among the keys that are ready, perhaps no longer rightly
	held   bool // it waits for the end of a trial
	delay  int  // 1 + its index among the delayed keys, 0 when it is not there
}

// deliverable tells whether the first message of the key can be handed out.
func (k *orderKey) deliverable(now int64) bool {
	return !k.part.gone && !k.part.leaving && k.out.empty() && !k.queue.empty() && k.queue.first.notBefore <= now
}

// hashKey spreads ordering keys over partitions. All members of a group must agree on it for good: it is FNV-1a (Fowler, Noll and
// Vo), whose low bits are mixed into the high ones and back (Stafford's variant 13 of the finalizer of MurmurHash3).
func hashKey(key string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * prime
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// keyQueue is a queue of keys in a ring.
type keyQueue struct {
	ring  []*orderKey // as many as a power of two
	begin int
	count int
}

func (q *keyQueue) push(k *orderKey) {
	if q.count == len(q.ring) {
		grown := make([]*orderKey, max(2*len(q.ring), 16))
		for i := range q.count {
			grown[i] = q.ring[(q.begin+i)&(len(q.ring)-1)]
		}
		q.ring, q.begin = grown, 0
	}
	q.ring[(q.begin+q.count)&(len(q.ring)-1)] = k
	q.count++
}

func (q *keyQueue) first() *orderKey { return q.ring[q.begin] }

func (q *keyQueue) pop() *orderKey {
	k := q.ring[q.begin]
	q.ring[q.begin] = nil
	q.begin = (q.begin + 1) & (len(q.ring) - 1)
	q.count--
	return k
}

// delayedKeys is a heap of the keys whose first message waits for a time, the next one on top.
type delayedKeys []*orderKey

func (h *delayedKeys) due(i int) int64 { return (*h)[i].queue.first.notBefore }

// Len is for package heap, as are those that follow.
func (h *delayedKeys) Len() int { return len(*h) }

// Less compares when the keys are due.
func (h *delayedKeys) Less(i, j int) bool { return h.due(i) < h.due(j) }

// Swap keeps the places that the keys know.
func (h *delayedKeys) Swap(i, j int) {
	keys := *h
	keys[i], keys[j] = keys[j], keys[i]
	keys[i].delay, keys[j].delay = i+1, j+1
}

// Push is called by put only.
func (h *delayedKeys) Push(x any) {
	*h = append(*h, x.(*orderKey)) //nolint:errcheck,forcetypeassert // it is called by put only
	(*h)[len(*h)-1].delay = len(*h)
}

// Pop is called by drop only.
func (h *delayedKeys) Pop() any {
	last := len(*h) - 1
	k := (*h)[last]
	k.delay = 0
	(*h)[last] = nil
	*h = (*h)[:last]
	return nil
}

// put adds a key, or finds its new place.
func (h *delayedKeys) put(k *orderKey) {
	if k.delay == 0 {
		heap.Push(h, k)
	} else {
		heap.Fix(h, k.delay-1)
	}
}

// drop takes a key out, when it is there.
func (h *delayedKeys) drop(k *orderKey) {
	if k.delay != 0 {
		heap.Remove(h, k.delay-1)
	}
}
