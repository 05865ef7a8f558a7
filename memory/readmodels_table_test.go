package memory

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestModelTableKeepsOrder puts and deletes enough to split, merge and empty blocks, and compares with a sorted list of keys.
func TestModelTableKeepsOrder(t *testing.T) {
	t.Parallel()
	orders := map[string]func(i, n int) int{
		"rising":  func(i, _ int) int { return i },
		"falling": func(i, n int) int { return n - i },
		"any":     func(i, n int) int { return i * 7919 % n },
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 10 * blockSize
			table, keys := newModelTable(), map[string]bool{}
			for i := range n {
				key := fmt.Sprintf("%c%07d", 'a'+i%2, order(i, n))
				table.put(key, nil, int64(i+1))
				keys[key] = true
			}
			sameKeys(t, table, keys)
			for i := range n {
				if i%20 != 7 {
					key := fmt.Sprintf("%c%07d", 'a'+i%2, order(i, n))
					table.delete(key)
					table.delete(key) // deleted already
					delete(keys, key)
				}
				if i%(n/8) == 0 {
					sameKeys(t, table, keys)
				}
			}
			sameKeys(t, table, keys)
			if most := 2 + 8*len(keys)/blockSize; len(table.blocks) > most {
				t.Errorf("%d documents are left in %d blocks, want at most %d", len(keys), len(table.blocks), most)
			}
			for key := range keys {
				table.delete(key)
			}
			if table.len() != 0 || len(table.blocks) != 0 {
				t.Errorf("%d documents and %d blocks are left when all are deleted", table.len(), len(table.blocks))
			}
		})
	}
}

// sameKeys fails t unless the table has these keys, and its pages are right wherever they begin.
func sameKeys(t *testing.T, table *modelTable, keys map[string]bool) {
	t.Helper()
	var want []string
	for key := range keys {
		want = append(want, key)
	}
	slices.Sort(want)
	check := func(prefix, after string, limit int) {
		t.Helper()
		var expected, got []string
		for _, key := range want {
			if strings.HasPrefix(key, prefix) && key > after && len(expected) < limit {
				expected = append(expected, key)
			}
		}
		for _, doc := range table.list(prefix, after, limit) {
			got = append(got, doc.Key)
		}
		if !slices.Equal(got, expected) {
			t.Fatalf("prefix %q, after %q, limit %d: %d keys, want %d: %.60v, want %.60v",
				prefix, after, limit, len(got), len(expected), got, expected)
		}
	}
	check("", "", len(want)+1)
	for _, prefix := range []string{"", "a", "b", "b0001", "c"} {
		check(prefix, "", 3)
		check(prefix, "b", blockSize+1)
		check(prefix, "zz", 3)
		for range 5 {
			after := want[rand.IntN(len(want))]
			check(prefix, after, 7)
			check(prefix, after+"0", blockSize)
		}
	}
	for _, b := range table.blocks {
		if len(b.docs) == 0 || len(b.docs) > blockSize {
			t.Fatalf("a block has %d documents", len(b.docs))
		}
	}
}

func TestModelTableFillsBlocksByRisingKeys(t *testing.T) {
	t.Parallel()
	table := newModelTable()
	for i := range 10 * blockSize {
		table.put(fmt.Sprintf("%07d", i), nil, int64(i+1))
	}
	if len(table.blocks) != 10 {
		t.Errorf("rising keys fill %d blocks, want 10", len(table.blocks))
	}
}
