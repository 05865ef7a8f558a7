package eventlog

// partition is a part of a group's messages, those whose keys have certain hashes, while a member owns it.
type partition struct {
	id      int
	doc     string // the key of its document
	epoch   int64
	scanned int64      // everything at or below it was read
	high    int64      // the largest position that was handed out or handled
	open    parcelList // what is read and not handled
	count   int        // of open
	out     int        // how many of them are with subscriptions, or wait for a commit
	keys    map[uint64]*orderKey

	pending []entry // open messages that are still to be read; the partition hands out nothing before
	loading bool    // it has to read those first
	reading bool    // it takes part in the page that is being read
	full    bool    // its window is full, and it waits for room
	leaving bool    // it is to be given away, and hands out nothing any more
	gone    bool    // it belongs to somebody else
	dirty   bool    // its document has to be written
}

// handled is the position up to which everything is in open or handled, and nothing of what is in open beyond it has been handed
// out. It is what the document says of high.
func (p *partition) handled() int64 {
	if p.loading {
		return p.scanned
	}
	for q := p.open.first; q != nil; q = q.links[byPosition].next {
		if q.position > p.high {
			return q.position - 1
		}
	}
	return p.scanned
}

// mark is the low-water mark: everything at or below it is handled.
func (p *partition) mark() int64 {
	switch {
	case p.loading && len(p.pending) > 0:
		return p.pending[0].position - 1
	case p.loading || p.open.empty():
		return p.scanned
	}
	return p.open.first.position - 1
}

// key returns the key of a hash, and makes it when it is new.
func (p *partition) key(hash uint64) *orderKey {
	k := p.keys[hash]
	if k == nil {
		p.tidy()
		k = &orderKey{hash: hash, part: p}
		p.keys[hash] = k
	}
	return k
}

// idleKeys is how many keys a partition remembers that have no message, because they are likely to have one again.
const idleKeys = 1024

// tidy forgets keys that have no message, when there are many.
func (p *partition) tidy() {
	if len(p.keys) < idleKeys+2*p.count {
		return
	}
	for hash, k := range p.keys {
		if k.queue.empty() && k.out.empty() && !k.queued && !k.held {
			delete(p.keys, hash)
		}
	}
}

// appendRecord appends the document of the partition as it is for an owner. What waits for the commit counts as done.
func (g *group) appendRecord(to []byte, p *partition, owner string) []byte {
	r := record{
		incarnation: g.incarnation, owner: owner, token: g.lease.Token, epoch: p.epoch, high: p.handled(),
	}
	w := entryWriter{to: r.appendHead(to)}
	for _, e := range p.pending {
		w.put(e)
	}
	for q := p.open.first; q != nil && q.position <= r.high; q = q.links[byPosition].next {
		if q.state != acking {
			w.put(g.entry(q))
		}
	}
	return w.end()
}

// entry is what the document says of a parcel.
func (g *group) entry(p *parcel) entry {
	e := entry{position: p.position, attempt: p.attempt, first: p.first, suspicion: p.suspicion}
	switch p.state {
	case lending, lent:
		e.out = true
		return e
	case nacking:
		e.attempt, e.suspicion = p.attempt+1, trusted
		e.notBefore = g.micros(p.notBefore)
	case releasing, acking, free:
	case waiting:
		if p.first == 0 {
			return entry{position: p.position}
		}
		if p.waits(g) {
			e.notBefore = g.micros(p.notBefore)
		}
	}
	return e
}
