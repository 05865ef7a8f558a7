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
	for i := range size {
		d := b.write(g.cursor.record())
		d.Attempt, d.First, d.Receipt = 1, b.first, g.lot.receipt(uint64(i))
		g.cursor.advance()
	}
	g.inFlight += size
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

// ackLot acknowledges messages of the lot, and returns the errors of those that are not of it or were acknowledged before.
func (g *consumerGroup) ackLot(ds []es.Delivery) (errs []error) {
	l := &g.lot
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
	if l.left == 0 {
		l.ends()
	}
	return errs
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
