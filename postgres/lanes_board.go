package postgres

// board knows what the appends have claimed that are under way in this process, so that they do not try for each other's locks.
type board struct {
	streams           map[int64]struct{}
	exclusive, shared [bucketCount]int32 // how many
}

// claimKind is which of its claims an append has on the board.
type claimKind int

const (
	// allClaims are those of an append in a batch.
	allClaims claimKind = iota
	// aloneClaims are those of one that goes alone: its streams, so that those that come later do not overtake it. It waits for its
	// other locks in the database, and so do those that meet it.
	aloneClaims
)

// free tells whether an append may be under way beside those that are.
func (b *board) free(c *claims, kind claimKind) bool {
	for _, stream := range c.streams {
		if _, taken := b.streams[stream]; taken {
			return false
		}
	}
	if kind == aloneClaims {
		return true
	}
	for _, bucket := range c.exclusive {
		if b.exclusive[bucket] > 0 || b.shared[bucket] > 0 {
			return false
		}
	}
	for _, bucket := range c.shared {
		if b.exclusive[bucket] > 0 {
			return false
		}
	}
	return true
}

func (b *board) add(c *claims, kind claimKind) {
	for _, stream := range c.streams {
		b.streams[stream] = struct{}{}
	}
	if kind == aloneClaims {
		return
	}
	for _, bucket := range c.exclusive {
		b.exclusive[bucket]++
	}
	for _, bucket := range c.shared {
		b.shared[bucket]++
	}
}

func (b *board) remove(c *claims, kind claimKind) {
	for _, stream := range c.streams {
		delete(b.streams, stream)
	}
	if kind == aloneClaims {
		return
	}
	for _, bucket := range c.exclusive {
		b.exclusive[bucket]--
	}
	for _, bucket := range c.shared {
		b.shared[bucket]--
	}
}

// land lets go of an append that was in a batch. One that goes alone now keeps what such a one has.
func (b *board) land(c *claims, alone bool) {
	b.remove(c, allClaims)
	if alone {
		b.add(c, aloneClaims)
	}
}

func (b *board) clear() {
	clear(b.streams)
	clear(b.exclusive[:])
	clear(b.shared[:])
}
