package memory

import "container/heap"

// orderKey is an ordering key of a group that has messages in its hands. It is in flight, with the batch that has its messages;
// ready, when messages are held back that can be handed out; or delayed, when the first of them has to wait.
//
// Keys are told apart by a hash of 64 bits. Should two ever have the same, they are one key: ordered more than they need be.
type orderKey struct {
	hash  uint64
	batch uint64     // the batch that has it, when out is not empty
	out   parcelList // its messages in flight, in order
	queue parcelList // its messages that are held back, in order; all of them come after those in flight

	queued bool  // in the queue of ready keys, perhaps no longer rightly
	delay  int32 // 1 + its index among the delayed keys, 0 when it is not there
	free   int32 // the next one that is free, when it is
}

// orderKeys are the keys of a group that it has messages of. The first is not used, so that no key has the number 0.
type orderKeys struct {
	all   []orderKey
	free  int32
	index numberIndex // by hash
}

// get returns the number of the key of a hash, and makes it when it is new. Pointers to others are not good any more.
func (ks *orderKeys) get(hash uint64) int32 {
	if _, at := ks.index.find(hash); at != 0 {
		return at
	}
	if ks.free == 0 {
		ks.grow()
	}
	at := ks.free
	k := &ks.all[at]
	ks.free = k.free
	*k = orderKey{hash: hash}
	ks.index.put(hash, at)
	return at
}

func (ks *orderKeys) grow() {
	const few = 16
	begin := max(len(ks.all), 1)
	grown := make([]orderKey, max(2*len(ks.all), few))
	copy(grown, ks.all)
	ks.all = grown
	for i := len(grown) - 1; i >= begin; i-- {
		ks.all[i].free = ks.free
		ks.free = int32(i) //nolint:gosec // there are no more than parcels
	}
}

// idleKeys is how many keys a group keeps in mind that it has no message of: they are likely to come again.
const idleKeys = 1024

// tidy frees a key that has no message any more and that nobody refers to, unless there are few keys.
func (ks *orderKeys) tidy(at int32) {
	k := &ks.all[at]
	if ks.index.count <= idleKeys || !k.out.empty() || !k.queue.empty() || k.queued || k.delay != 0 {
		return
	}
	slot, _ := ks.index.find(k.hash)
	ks.index.remove(slot)
	k.free = ks.free
	ks.free = at
}

// keyQueue is a queue of keys in a ring.
type keyQueue struct {
	ring  []int32 // as many as a power of two
	begin int
	count int
}

func (q *keyQueue) push(k int32) {
	if q.count == len(q.ring) {
		grown := make([]int32, max(2*len(q.ring), 16))
		for i := range q.count {
			grown[i] = q.ring[(q.begin+i)&(len(q.ring)-1)]
		}
		q.ring, q.begin = grown, 0
	}
	q.ring[(q.begin+q.count)&(len(q.ring)-1)] = k
	q.count++
}

func (q *keyQueue) pop() {
	q.begin = (q.begin + 1) & (len(q.ring) - 1)
	q.count--
}

// first returns the key that is the next.
func (q *keyQueue) first() int32 { return q.ring[q.begin] }

// delayedKeys is a heap of the keys whose first message waits, the next one to be due on top.
type delayedKeys struct {
	group *consumerGroup
	heap  []int32
}

// due is when the first message of the i-th key may be handed out.
func (h *delayedKeys) due(i int) int64 {
	return h.group.parcels.all[h.key(i).queue.first].notBefore
}

func (h *delayedKeys) key(i int) *orderKey { return &h.group.keys.all[h.heap[i]] }

// Len is for package heap, as are those that follow.
func (h *delayedKeys) Len() int { return len(h.heap) }

func (h *delayedKeys) Less(i, j int) bool { return h.due(i) < h.due(j) }

func (h *delayedKeys) Swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.key(i).delay, h.key(j).delay = int32(i+1), int32(j+1) //nolint:gosec // there are no more than parcels
}

func (h *delayedKeys) Push(x any) {
	h.heap = append(h.heap, x.(int32))                //nolint:errcheck,forcetypeassert // it is called by put only
	h.key(len(h.heap) - 1).delay = int32(len(h.heap)) //nolint:gosec // there are no more than parcels
}

func (h *delayedKeys) Pop() any {
	last := len(h.heap) - 1
	h.key(last).delay = 0
	h.heap = h.heap[:last]
	return nil
}

// put adds a key, or finds its new place.
func (h *delayedKeys) put(k int32) {
	if delay := h.group.keys.all[k].delay; delay == 0 {
		heap.Push(h, k)
	} else {
		heap.Fix(h, int(delay)-1)
	}
}

// drop takes a key out, when it is there.
func (h *delayedKeys) drop(k int32) {
	if delay := h.group.keys.all[k].delay; delay != 0 {
		heap.Remove(h, int(delay)-1)
	}
}
