package memory

import (
	"math/bits"

	es "github.com/eventsourcing-go/eventsourcing"
)

// lot is a batch that was taken from the log in one piece, by a group that had nothing in hand, and of which nothing has become but
// acknowledgements. It is what a consumer gets who receives, handles and acknowledges. What is known of its messages is then
// known of all of them at once, and no message has a parcel or a key: to make these, and to do away with them, is most of the
// work of a delivery.
//
// A group has one lot at most, and has no parcels while it has one. All that is more than an acknowledgement (another batch beside
// it, a nack, the end of the lease) makes parcels of what is left of it first; see consumerGroup.unpack.
type lot struct {
	sub      *subscription // who has it; nil when there is none
	begin    topicCursor   // of its first message
	apart    bool          // its messages are in a list of their own, and no longer in the log
	size     int
	left     int      // how many are not acknowledged
	acked    []uint64 // a bit for each
	batch    uint64
	delivery uint64 // number of its first delivery
	first    int64  // when it was handed out
	due      int64  // when its lease ends
}

// takeLot makes the batch a lot: as much from the log as there is room for. The group must have no parcels.
func (b *batch) takeLot() {
	g := b.group
	size := min(g.fresh(), len(b.dst))
	g.lot = lot{
		sub: b.sub, begin: g.cursor, size: size, left: size, acked: g.lot.acked,
		batch: b.number, delivery: b.delivery, first: b.clock, due: b.due,
	}
	g.lot.begins()
	g.inFlight += size
	b.n, b.lot = size, g.cursor.take(size)
}

// writeLot writes the deliveries of the batch, when it is a lot. It needs no lock, so that who publishes goes on meanwhile.
func (b *batch) writeLot() {
	dst, delivery, number := b.dst, b.delivery, int32(0)
	for b.lot.size > 0 {
		some, broken := b.lot.next()
		for i := range some {
			number++ // of the parcel that the message gets when the lot is unpacked
			d := &dst[i]
			b.write(d, &some[i].message)
			d.Attempt, d.First, d.Receipt = 1, b.first, receiptFor(delivery, number)
			delivery++
			if broken {
				d.Err, d.Raw = some[i].broken.cause, some[i].broken.raw
			}
		}
		dst = dst[len(some):]
	}
}

// setApart makes a list of its own for the messages of the lot, if there is one. The log behind them is bounded as long as nobody
// takes more of it than there is room for; when messages are dropped to make room, what was dropped must not be kept by the lot.
func (l *lot) setApart() {
	if l.sub == nil || l.apart {
		return
	}
	at := l.begin
	mine := at.take(l.size)
	l.begin.block, l.begin.index, l.apart = &topicBlock{}, 0, true
	for last := l.begin.block; mine.size > 0; last = last.next {
		some, broken := mine.next()
		last.next = &topicBlock{records: some, used: len(some), broken: broken}
	}
}

// begins clears the bits of what is acknowledged.
func (l *lot) begins() {
	words := (l.size + 63) / 64
	if cap(l.acked) < words {
		l.acked = make([]uint64, words)
	}
	l.acked = l.acked[:words]
	clear(l.acked)
}

// ends makes the lot none. It lets go of the log.
func (l *lot) ends() { *l = lot{acked: l.acked} }

// receipt is that of the i-th message. The parcel in it is the one that the message gets when the lot is unpacked.
func (l *lot) receipt(i uint64) uint64 {
	return receiptFor(l.delivery+i, int32(i)+1) //nolint:gosec // a lot is no larger than a buffer
}

// find returns which message has a receipt, if there is one and it is not acknowledged.
func (l *lot) find(receipt uint64) (i uint64, ok bool) {
	i = receipt&parcelMask - 1                                                      // of 0 it is beyond the size
	return i, i < uint64(l.size) && receipt == l.receipt(i) && !l.isAcknowledged(i) //nolint:gosec // it is not negative
}

func (l *lot) isAcknowledged(i uint64) bool { return l.acked[i/64]>>(i%64)&1 != 0 }

// ackLot acknowledges messages of the lot, and returns the errors of those that are not of it or were acknowledged before. When the
// deliveries are in a row, this is known of all of them at once.
func (g *consumerGroup) ackLot(ds []es.Delivery, row bool) (errs []error) {
	l := &g.lot
	if row && l.ackRow(ds[0].Receipt, len(ds)) {
		g.inFlight -= len(ds)
		l.left -= len(ds)
	} else {
		for n := range ds {
			i, ok := l.find(ds[n].Receipt)
			if !ok {
				errs = lost(errs, n, len(ds))
				continue
			}
			l.acked[i/64] |= 1 << (i % 64)
			l.left--
			g.inFlight--
		}
	}
	if l.left == 0 {
		l.ends()
	}
	return errs
}

// inRow tells whether deliveries are such as follow each other in a lot.
func inRow(ds []es.Delivery) bool {
	for i := 1; i < len(ds); i++ {
		if ds[i].Receipt != ds[i-1].Receipt+receiptFor(1, 1) {
			return false
		}
	}
	return len(ds) > 0
}

// ackRow notes that n messages are acknowledged which follow each other, the first of which has a receipt. It is false, and nothing is
// noted, when not all of them are of the lot, or one was acknowledged before.
func (l *lot) ackRow(receipt uint64, n int) bool {
	first, ok := l.find(receipt)
	end := first + uint64(n)         //nolint:gosec // it is not negative
	if !ok || end > uint64(l.size) { //nolint:gosec // it is not negative
		return false
	}
	if l.left == l.size && n == l.size { // as it is most often; nobody looks at the bits any more
		return true
	}
	for i := first; i < end; i++ {
		if l.isAcknowledged(i) {
			return false
		}
	}
	for i := first; i < end; i++ {
		l.acked[i/64] |= 1 << (i % 64)
	}
	return true
}

// oldest returns the oldest message that is not acknowledged. There is one.
func (l *lot) oldest() *topicRecord {
	word := 0
	for l.acked[word] == 1<<64-1 {
		word++
	}
	at := l.begin
	at.skip(64*word + bits.TrailingZeros64(^l.acked[word]))
	return at.record()
}

// unpack makes parcels in flight of what is left of the group's lot, if it has one.
func (g *consumerGroup) unpack() {
	l := &g.lot
	if l.sub == nil {
		return
	}
	g.parcels.sort(l.size)
	at := l.begin
	for range l.size {
		g.take(&at)
	}
	for i := range uint64(l.size) { //nolint:gosec // it is not negative
		p := int32(i) + 1 // see receipt
		if l.isAcknowledged(i) {
			key := g.parcels.all[p].key
			g.discard(p)
			g.keys.tidy(key)
			continue
		}
		g.parcels.all[p].first = l.first
		g.lend(p, l.sub, l.batch, l.receipt(i), l.due)
	}
	l.ends()
}
