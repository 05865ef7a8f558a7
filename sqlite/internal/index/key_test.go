package index

import (
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestKeysOfDifferentTextsAndKindsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[Key]string{}
	texts := []string{"", "a", "b", "ab", "a\x02", strings.Repeat("x", es.MaxNameBytes), strings.Repeat("x", 3*es.MaxNameBytes)}
	for kind := KindStream; kind <= KindTag; kind++ {
		for _, text := range texts {
			key := KeyOf(kind, text)
			if other, ok := seen[key]; ok {
				t.Errorf("%d %q has the key of %s", kind, text, other)
			}
			if seen[key] = text; key != KeyOf(kind, text) {
				t.Errorf("%d %q has two keys", kind, text)
			}
		}
	}
}

// TestNamesThatCollideUnderAWeakHashDoNot has two valid stream names that have the same XXH64 whatever its seed. Who may choose
// names could otherwise make his stream be somebody else's.
func TestNamesThatCollideUnderAWeakHashDoNot(t *testing.T) {
	t.Parallel()
	a, b := "*JM[\ue8b7atbj$~ܘ[", "J=LÒV%Utbj$-(&r"
	for _, name := range []string{a, b} {
		wantOK(t, es.ValidateName("stream", name))
	}
	for seed := range uint64(5) {
		x, y := xxhash.NewWithSeed(seed), xxhash.NewWithSeed(seed)
		_, _ = x.WriteString(a)
		_, _ = y.WriteString(b)
		if x.Sum64() != y.Sum64() {
			t.Fatalf("with the seed %d they are not the same", seed)
		}
	}
	if KeyOf(KindStream, a) == KeyOf(KindStream, b) {
		t.Error("they have the same key")
	}
}

// TestKeysAreThoseOfTheEvent has the memory of other events be reused.
func TestKeysAreThoseOfTheEvent(t *testing.T) {
	t.Parallel()
	var k Keys
	for _, e := range []Event{
		{ID: uuid.UUID{1}, Stream: "order-1", Name: "Placed", Tags: []string{"a", "b"}},
		{ID: uuid.UUID{2}, Stream: "order-2", Name: "Placed"},
		{ID: uuid.UUID{3}, Stream: "order-2", Name: "Paid", Tags: []string{"b"}},
		{ID: uuid.UUID{4}, Stream: "invoice-2", Name: "Paid", Tags: []string{"a", "b", "c"}},
		{ID: uuid.UUID{5}, Stream: "invoice", Name: "invoice"},
		{},
	} {
		k.Set(&e)
		if k.ID != Key(e.ID) || k.Stream != KeyOf(KindStream, e.Stream) || k.Name != KeyOf(KindName, e.Name) ||
			k.Category != KeyOf(KindCategory, es.Category(e.Stream)) || len(k.Tags) != len(e.Tags) {
			t.Errorf("the keys of %v are %v", e, k)
		}
		for i, tag := range e.Tags {
			if k.Tags[i] != KeyOf(KindTag, tag) {
				t.Errorf("the key of %s is %v", tag, k.Tags[i])
			}
		}
	}
}
