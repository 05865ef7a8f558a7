package memory

// parcel is a message in the hands of a group: in flight, with one of its subscriptions, or held back. What lies ahead in the
// log has no parcel yet.
//
// Parcels, keys and subscriptions refer to each other by number. Pointers would make each delivery a dozen writes that the
// garbage collector has to be told of, and would make it visit each parcel.
type parcel struct {
	record *topicRecord
	number uint64 // place in the topic

	receipt   uint64 // of the delivery that is in flight; 0 when it was answered, or there is none
	due       int64  // when its lease ends
	first     int64  // when it was handed out first; 0 when it was not
	notBefore int64  // it is held back until then
	attempt   int32
	key       int32
	seat      int32 // of the subscription that has it in flight; noSeat when it is held back
	suspect   bool  // its lease ended once: it may be what stopped the consumer

	links [3]parcelLinks
}

// parcelLinks are the numbers of the parcels before and behind one in a list; 0 for none.
type parcelLinks struct{ prev, next int32 }

// The lists that a parcel is in.
const (
	byNumber = iota // all of the group, the oldest first
	byLease         // those in flight with one subscription, by the end of their lease
	byKey           // those of one key that are in flight, or those that are held back; in order
)

const noSeat = -1

// parcels are the parcels of a group. The first is not used, so that no parcel has the number 0.
type parcels struct {
	all  []parcel
	free int32 // the first of those that are free, linked by number
	used int
}

// get returns the number of a new parcel. Pointers to others are not good any more.
func (ps *parcels) get() int32 {
	if ps.free == 0 {
		ps.grow()
	}
	i := ps.free
	p := &ps.all[i]
	ps.free = p.links[byNumber].next
	p.links[byNumber].next = 0
	ps.used++
	return i
}

func (ps *parcels) grow() {
	const few = 16
	begin := max(len(ps.all), 1)
	grown := make([]parcel, max(2*len(ps.all), few))
	copy(grown, ps.all)
	ps.all = grown
	for i := len(grown) - 1; i >= begin; i-- {
		ps.all[i].links[byNumber].next = ps.free
		ps.free = int32(i) //nolint:gosec // there are as many as two buffers at most
	}
}

// sort makes the next n parcels those from 1 to n. None must be used.
func (ps *parcels) sort(n int) {
	for len(ps.all) <= n {
		ps.grow()
	}
	ps.free = 0
	for i := len(ps.all) - 1; i > 0; i-- {
		ps.all[i].links[byNumber].next = ps.free
		ps.free = int32(i) //nolint:gosec // see grow
	}
}

// put frees a parcel.
func (ps *parcels) put(i int32) {
	ps.all[i] = parcel{links: [3]parcelLinks{byNumber: {next: ps.free}}}
	ps.free = i
	ps.used--
	const many = 4096
	if ps.used == 0 && len(ps.all) > many { // a pile was there, and is worked off
		*ps = parcels{}
	}
}

// parcelList is a list of parcels that needs no memory of its own.
type parcelList struct{ first, last int32 }

func (l *parcelList) empty() bool { return l.first == 0 }

func (ps *parcels) pushBack(l *parcelList, by int, i int32) {
	ps.all[i].links[by] = parcelLinks{prev: l.last}
	if l.last == 0 {
		l.first = i
	} else {
		ps.all[l.last].links[by].next = i
	}
	l.last = i
}

func (ps *parcels) pushFront(l *parcelList, by int, i int32) {
	ps.all[i].links[by] = parcelLinks{next: l.first}
	if l.first == 0 {
		l.last = i
	} else {
		ps.all[l.first].links[by].prev = i
	}
	l.first = i
}

func (ps *parcels) remove(l *parcelList, by int, i int32) {
	links := ps.all[i].links[by]
	if links.prev == 0 {
		l.first = links.next
	} else {
		ps.all[links.prev].links[by].next = links.next
	}
	if links.next == 0 {
		l.last = links.prev
	} else {
		ps.all[links.next].links[by].prev = links.prev
	}
}
