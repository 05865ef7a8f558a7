package index

import (
	"math/rand/v2"
	"testing"
)

// TestFilterHasItsKeysAndFewOthers fills filters with keys that are hashes, and with IDs that rise by one.
func TestFilterHasItsKeysAndFewOthers(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for name, key := range map[string]func(i int) Key{
		"hashes": func(int) Key {
			var k Key
			for i := range k {
				k[i] = byte(random.Uint32())
			}
			return k
		},
		"rising": func(i int) Key { return Key{1, 2, 3, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)} },
	} {
		var filters [][]byte
		out := &output{most: contentBytes, emit: func(_ int, block []byte) error {
			filters = append(filters, block[:len(block)-checksumBytes])
			return nil
		}}
		w := &filterWriter{tree: treeWriter{out: out}}
		keys := make([]Key, filterKeys(contentBytes)+5)
		for i := range keys {
			keys[i] = key(i)
			entry := newEntryKey(sectionIDs, &keys[i])
			wantOK(t, w.add(&entry))
		}
		_, err := w.finish(contentBytes)
		if wantOK(t, err); len(filters) != 2 {
			t.Fatalf("there are %d filters", len(filters))
		}
		for i := range keys {
			if is, err := inFilter(filters[i/filterKeys(contentBytes)], &keys[i]); !is || err != nil {
				t.Errorf("%s: key %d is missing (%v)", name, i, err)
			}
		}
		const others = 100_000
		seeming := 0
		for i := range others {
			k := key(len(keys) + i)
			is, err := inFilter(filters[0], &k)
			if wantOK(t, err); is {
				seeming++
			}
		}
		if seeming > others*3/200 {
			t.Errorf("%s: of %d keys that are not there %d seem to be", name, others, seeming)
		}
		t.Logf("%s: of %d keys that are not there %d seem to be", name, others, seeming)
	}
}
