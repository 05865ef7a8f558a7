package memory

import (
	"slices"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// modelTable has the documents of one model: by key in a map, and in order in a list of blocks. The methods that read take a
// nil table for an empty one.
//
// The blocks are a b-tree of two levels. Keys that rise fill one block after the other, so that adding one is O(1); another
// key moves at most blockSize references within its block. A page is found by binary search, among the blocks and then in one.
type modelTable struct {
	documents map[string]*document
	blocks    []*block // in order of their keys; none is empty
}

// document is changed in place, under the lock of the tables; its Data never is.
type document struct {
	es.Document
}

// blockSize is the largest number of documents in a block.
const blockSize = 512

type block struct {
	docs []*document // in order of their keys
}

func newModelTable() *modelTable { return &modelTable{documents: map[string]*document{}} }

func (t *modelTable) len() int {
	if t == nil {
		return 0
	}
	return len(t.documents)
}

func (t *modelTable) get(key string) *document {
	if t == nil {
		return nil
	}
	return t.documents[key]
}

// put sets the document under a key.
func (t *modelTable) put(key string, data []byte, revision int64) {
	if doc := t.documents[key]; doc != nil {
		doc.Data, doc.Revision = data, revision
		return
	}
	doc := &document{es.Document{Key: strings.Clone(key), Data: data, Revision: revision}}
	t.documents[doc.Key] = doc
	t.insert(doc)
}

func (t *modelTable) insert(doc *document) {
	last := len(t.blocks) - 1
	if last < 0 {
		t.blocks = append(t.blocks, newBlock(doc))
		return
	}
	i := t.blockOf(doc.Key)
	b := t.blocks[i]
	at := b.search(doc.Key)
	if len(b.docs) < blockSize {
		b.docs = slices.Insert(b.docs, at, doc)
		return
	}
	if i == last && at == len(b.docs) {
		t.blocks = append(t.blocks, newBlock(doc)) // keys that rise leave full blocks behind
		return
	}
	upper := b.split()
	t.blocks = slices.Insert(t.blocks, i+1, upper)
	if at > len(b.docs) {
		b, at = upper, at-len(b.docs)
	}
	b.docs = slices.Insert(b.docs, at, doc)
}

// delete removes the document under a key, if there is one.
func (t *modelTable) delete(key string) {
	if t.get(key) == nil {
		return
	}
	delete(t.documents, key)
	i := t.blockOf(key)
	b := t.blocks[i]
	at := b.search(key)
	b.docs = slices.Delete(b.docs, at, at+1)
	if len(b.docs) == 0 {
		t.blocks = slices.Delete(t.blocks, i, i+1)
		return
	}
	t.merge(i)
}

// merge joins a block that has become small with the next one, or else with the one before, if that leaves room to grow:
// otherwise deletes could leave many blocks with hardly anything in them.
func (t *modelTable) merge(i int) {
	if len(t.blocks[i].docs) > blockSize/4 {
		return
	}
	for _, lower := range [...]int{i, i - 1} {
		if lower < 0 || lower+1 >= len(t.blocks) {
			continue
		}
		a, b := t.blocks[lower], t.blocks[lower+1]
		if len(a.docs)+len(b.docs) <= blockSize/2 {
			a.docs = append(a.docs, b.docs...)
			t.blocks = slices.Delete(t.blocks, lower+1, lower+2)
			return
		}
	}
}

// list returns the first documents whose keys begin with prefix and come after a key.
func (t *modelTable) list(prefix, after string, limit int) []es.Document {
	const room = 64 // more is made when it is needed: a limit may be far larger than what there is
	docs := make([]es.Document, 0, min(limit, t.len(), room))
	if t.len() == 0 {
		return docs
	}
	from := max(prefix, after)
	i := t.blockOf(from)
	at := t.blocks[i].search(from)
	for ; i < len(t.blocks); i, at = i+1, 0 {
		for _, doc := range t.blocks[i].docs[at:] {
			if doc.Key == after {
				continue // and not smaller than it, because the search began there
			}
			if !strings.HasPrefix(doc.Key, prefix) || len(docs) == limit {
				return docs
			}
			docs = append(docs, doc.Document)
		}
	}
	return docs
}

// blockOf returns the index of the block where a key belongs: the last one that begins at or before it, or the first of all.
func (t *modelTable) blockOf(key string) int {
	last := len(t.blocks) - 1
	if t.blocks[last].docs[0].Key <= key {
		return last // most keys rise
	}
	i, found := slices.BinarySearchFunc(t.blocks, key, func(b *block, key string) int {
		return strings.Compare(b.docs[0].Key, key)
	})
	if found {
		return i
	}
	return max(i-1, 0)
}

func newBlock(doc *document) *block {
	docs := make([]*document, 1, 8)
	docs[0] = doc
	return &block{docs: docs}
}

// search returns the index of the first document of the block whose key is not below a key.
func (b *block) search(key string) int {
	if b.docs[len(b.docs)-1].Key < key {
		return len(b.docs) // most keys rise
	}
	at, _ := slices.BinarySearchFunc(b.docs, key, func(doc *document, key string) int {
		return strings.Compare(doc.Key, key)
	})
	return at
}

// split moves the upper half of a full block to a new one.
func (b *block) split() *block {
	half := len(b.docs) / 2
	upper := &block{docs: slices.Clone(b.docs[half:])}
	clear(b.docs[half:]) // so that they are not held by the array
	b.docs = b.docs[:half]
	return upper
}
