package index

// Leaves of IDs: a column of keys and one of positions.

// idLeaf is such a leaf.
type idLeaf struct {
	keys      keyColumn
	positions column
}

func parseIDLeaf(b []byte) (idLeaf, error) {
	if b[0] != typeIDs {
		return idLeaf{}, damage("it is no leaf of IDs")
	}
	keys, b, err := parseKeyColumn(b[1:], len(Key{}))
	if err != nil {
		return idLeaf{}, err
	}
	positions, b, err := parseColumn(b, keys.n)
	if err == nil && len(b) > 0 {
		err = damage("the leaf of IDs has too many bytes")
	}
	return idLeaf{keys, positions}, err
}

// position returns a position, which may be any number when the leaf is damaged.
func (l *idLeaf) position(i int) int64 { return int64(l.positions.at(i)) } //nolint:gosec // who uses it checks it

// idWriter makes the leaves of IDs, which come in rising order.
type idWriter struct {
	tree      *treeWriter
	keys      []Key
	positions []int64
	low, high int64 // of the positions
}

func (w *idWriter) add(k *Key, position int64) error {
	if n := len(w.keys); n > 0 {
		low, high := min(w.low, position), max(w.high, position)
		size := 1 + keyColumnBytes(n+1, w.keys[0][:], k[:], len(k)) + columnBytes(n+1, uint64(low), uint64(high)) //nolint:gosec // not negative
		if size > w.tree.out.most {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	if len(w.keys) == 0 {
		w.low, w.high = position, position
	}
	w.low, w.high = min(w.low, position), max(w.high, position)
	w.keys, w.positions = append(w.keys, *k), append(w.positions, position)
	return nil
}

// flush writes the leaf, if there is something for it, and begins another.
func (w *idWriter) flush() error {
	n := len(w.keys)
	if n == 0 {
		return nil
	}
	b := append(make([]byte, 0, BlockBytes), typeIDs)
	b = appendKeyColumn(b, n, len(Key{}), func(i int) []byte { return w.keys[i][:] })
	low, high := uint64(w.low), uint64(w.high)                                              //nolint:gosec // not negative
	b = appendColumn(b, n, low, high, func(i int) uint64 { return uint64(w.positions[i]) }) //nolint:gosec // not negative
	number, err := w.tree.out.write(b)
	if err != nil {
		return err
	}
	first := fence{key: newEntryKey(sectionIDs, &w.keys[0]), position: w.positions[0], block: number}
	last := newEntryKey(sectionIDs, &w.keys[n-1])
	w.keys, w.positions = w.keys[:0], w.positions[:0]
	return w.tree.addLeaf(first, &last)
}
