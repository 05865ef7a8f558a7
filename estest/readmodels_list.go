package estest

import (
	"fmt"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// oddKeys are keys that a collation, a pattern or a successor of a prefix gets wrong, in bytewise order.
func oddKeys() []string {
	keys := []string{
		"\t", " ", "!", "%", "-", "0", "10", "9", "A", "B", "Z", "[", "\\", "_", "a", "a ", "a!", "a%", "a%b", "a-", "a-1", "a/b",
		"aA", "aB", "a_", "a_c", "aa", "ab", "abc", "axb", "b", "z", "~", "\u007f", "\u007fx", "\u0080", "e\u0301", "é", "éa", "ß",
		"ss", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\uffffa", "\U00010000", "\U0010fffe", "\U0010ffff", "\U0010ffffa",
		"\U0010ffff\U0010ffff", "c\U0010ffff", "c\U0010ffffz", "d", "дом", "Дом",
	}
	slices.Sort(keys) // Go compares strings bytewise
	return keys
}

// keep puts documents under keys, in an order that is not theirs.
func (b *modelBench) keep(model string, keys ...string) {
	b.Helper()
	var writes []es.Write
	for i := range keys {
		const stride = 7919 // a prime that no number of keys here divides
		writes = append(writes, put(model, keys[(i*stride)%len(keys)], "1"))
	}
	b.commit(writes...)
}

func modelListLines() []Line[Harness[es.ReadModels]] {
	return []Line[Harness[es.ReadModels]]{
		modelLine("J1/list_in_bytewise_order", func(b *modelBench) {
			b.keep("m", oddKeys()...)
			b.lists(es.ListQuery{Model: "m"}, oddKeys()...)
			b.lists(es.ListQuery{Model: "nobody's"})
		}),
		modelLine("J1/list_by_prefix", func(b *modelBench) {
			keys := oddKeys()
			b.keep("m", keys...)
			for _, prefix := range append(keys, "a%", "a_", "ZZ", "c", "д", "\U0010ffff\U0010ffff\U0010ffff") {
				var want []string
				for _, key := range keys {
					if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
						want = append(want, key)
					}
				}
				b.lists(es.ListQuery{Model: "m", Prefix: prefix}, want...)
			}
		}),
		modelLine("J1/list_after_a_key", func(b *modelBench) {
			keys := oddKeys()
			b.keep("m", keys...)
			for i, key := range keys {
				b.lists(es.ListQuery{Model: "m", After: key}, keys[i+1:]...)
			}
			b.lists(es.ListQuery{Model: "m", After: "a%a"}, keys[slices.Index(keys, "a%b"):]...) // a key that is not there
		}),
		modelLine("J1/list_after_a_key_within_a_prefix", func(b *modelBench) {
			b.keep("m", "a", "b", "b1", "b2", "b3", "c")
			b.lists(es.ListQuery{Model: "m", Prefix: "b", After: "b1"}, "b2", "b3")
			b.lists(es.ListQuery{Model: "m", Prefix: "b", After: "b"}, "b1", "b2", "b3")
			b.lists(es.ListQuery{Model: "m", Prefix: "b", After: "a"}, "b", "b1", "b2", "b3") // before the prefix
			b.lists(es.ListQuery{Model: "m", Prefix: "b", After: "b3"})
			b.lists(es.ListQuery{Model: "m", Prefix: "b", After: "c"}) // behind it
			b.lists(es.ListQuery{Model: "m", Prefix: "b", After: "b1", Limit: 1}, "b2")
		}),
		modelLine("J1/list_page_by_page", func(b *modelBench) {
			keys := oddKeys()
			b.keep("m", keys...)
			for _, limit := range []int{1, 2, 7, len(keys) - 1, len(keys), len(keys) + 1} {
				var got []string
				for after := ""; ; {
					page := b.list(es.ListQuery{Model: "m", After: after, Limit: limit})
					if want := min(limit, len(keys)-len(got)); len(page) != want {
						b.Fatalf("after %d of %d documents a page of %d has %d, want %d", len(got), len(keys), limit, len(page), want)
					}
					if len(page) == 0 {
						break
					}
					got = append(got, page...)
					after = page[len(page)-1]
				}
				if !slices.Equal(got, keys) {
					b.Fatalf("pages of %d give %q, want %q", limit, got, keys)
				}
			}
		}),
		modelLine("J1/list_gives_1000_by_default", func(b *modelBench) {
			keys := make([]string, es.DefaultListLimit+1)
			for i := range keys {
				keys[i] = fmt.Sprintf("%05d", i)
			}
			b.keep("m", keys...)
			b.lists(es.ListQuery{Model: "m"}, keys[:es.DefaultListLimit]...)
			b.lists(es.ListQuery{Model: "m", After: keys[es.DefaultListLimit-1]}, keys[es.DefaultListLimit])
			b.lists(es.ListQuery{Model: "m", Limit: es.DefaultListLimit + 1}, keys...)
		}),
		modelLine("J1/list_has_what_load_has", func(b *modelBench) {
			b.commit(put("m", "a", "1"), put("m", "b", "1"))
			b.commit(put("m", "b", "2"), deleting("m", "a"))
			docs, err := b.role.List(b.ctx, es.ListQuery{Model: "m"})
			b.ok(err, "list")
			doc := b.load("m", "b")
			if len(docs) != 1 || docs[0].Revision != doc.Revision || wordOf(docs[0]) != "2" {
				b.Fatalf("the list is %+v, and load gives %+v", docs, doc)
			}
		}),
	}
}

func modelRevisionLines() []Line[Harness[es.ReadModels]] {
	return []Line[Harness[es.ReadModels]]{
		modelLine("J1/a_revision_rises_with_each_write", func(b *modelBench) {
			last := int64(0)
			for _, word := range []string{"1", "2", "2", "1"} { // the same bytes are a write too
				b.commit(put("m", "a", word))
				b.newer(&last, "a write")
			}
		}),
		modelLine("J1/saved_only_if_as_expected", func(b *modelBench) { modelExpectations(b, put("m", "a", "new")) }),
		modelLine("J1/deleted_only_if_as_expected", func(b *modelBench) { modelExpectations(b, deleting("m", "a")) }),
		modelLine("J1/a_revision_never_comes_back_after_a_deletion", func(b *modelBench) {
			last := int64(0)
			for range 3 {
				b.commit(put("m", "a", "1"))
				b.newer(&last, "a deletion")
				b.commit(deleting("m", "a"))
				w := expecting(put("m", "a", "2"), es.Exactly(last))
				b.refused(es.Commit{Writes: []es.Write{w}}, w, 0)
			}
		}),
		modelLine("J1/a_revision_never_comes_back_after_a_drop", func(b *modelBench) {
			last := int64(0)
			for range 3 {
				b.commit(put("m", "a", "1"))
				b.newer(&last, "a drop")
				b.ok(b.role.Drop(b.ctx, "m"), "drop")
			}
		}),
	}
}

// newer ends the test unless document "a" of model "m" has a higher revision than the last one.
func (b *modelBench) newer(last *int64, what string) {
	b.Helper()
	got := b.load("m", "a").Revision
	if got <= *last {
		b.Fatalf("after %s revision %d follows revision %d", what, got, *last)
	}
	*last = got
}

// modelExpectations makes a write under each expectation, on a document that is there and on one that is not.
func modelExpectations(b *modelBench, w es.Write) {
	try := func(expect es.Expectation, holds bool) {
		b.Helper()
		before := b.load("m", "a")
		w := expecting(w, expect)
		if !holds {
			b.refused(es.Commit{Writes: []es.Write{w}}, w, before.Revision)
			if after := b.load("m", "a"); after.Revision != before.Revision || wordOf(after) != wordOf(before) {
				b.Fatalf("a write that failed made %+v of %+v", after, before)
			}
			return
		}
		b.commit(w)
		want := "new"
		if w.Delete {
			want = ""
		}
		b.reads("m", "a", want)
	}
	there := func() int64 {
		b.commit(put("m", "a", "old"))
		return b.load("m", "a").Revision
	}
	gone := func() { b.commit(deleting("m", "a")) }

	try(es.StreamExists, false)
	try(es.Exactly(1), false)
	try(es.NoStream, true)
	gone()
	try(es.Any, true)
	gone()
	try(es.Exactly(0), true)
	revision := there()
	try(es.NoStream, false)
	try(es.Exactly(revision-1), false)
	try(es.Exactly(revision+1), false)
	try(es.Exactly(revision), true)
	there()
	try(es.Exactly(revision), false) // it was that once
	try(es.StreamExists, true)
	there()
	try(es.Any, true)
}
