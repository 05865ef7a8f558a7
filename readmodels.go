package eventsourcing

import "context"

// ReadModels keeps documents to be looked up: by key, within a model. A projection commits what it changed together with its
// checkpoint, so that each event has its effect exactly once.
type ReadModels interface {
	// Load returns a document for each key, in the order of the keys; one that is not there has Revision 0 and no Data. A key
	// that breaks the rules of [ValidateKey] is [ErrInvalid].
	Load(ctx context.Context, model string, keys ...string) ([]Document, error)

	// List returns the documents whose keys begin with a prefix, in bytewise order of their keys, a page at a time. A page that
	// is not full is the last one.
	List(ctx context.Context, q ListQuery) ([]Document, error)

	// Commit makes all its changes in one step, or none. Errors: [*RevisionError] when a document's revision is not the
	// expected one, [*ProjectionError] when the checkpoint is not, both of them [ErrConflict]; [ErrLeaseLost] when the fence
	// is not held any more; [ErrInvalid].
	Commit(ctx context.Context, c Commit) error

	// Progress returns the checkpoint of a projection; zero when it has none yet.
	Progress(ctx context.Context, projection string) (Progress, error)

	// Drop removes a model, and the checkpoint of the projection of that name. What is not there is dropped already.
	Drop(ctx context.Context, model string) error

	// Switch puts models that were built aside into the place of those that are read, all in one step, each with the
	// checkpoint of the projection of its name; see [Replacement]. A replacement that has neither documents nor a
	// checkpoint is [ErrNotFound], and nothing is switched.
	Switch(ctx context.Context, replacements ...Replacement) error
}

// Document is a value under a key of a model.
type Document struct {
	Key string
	// Data is what was put, byte for byte. It is shared and read-only.
	Data []byte
	// Revision rises with every write of the document, not necessarily by one, and is never given to another content of it,
	// also when it was deleted in between. A document that came by [ReadModels].Switch has the revision it was built with. 0
	// means that there is no document.
	Revision int64
}

// MaxKeyBytes is the longest key of a document, in bytes.
const MaxKeyBytes = 1024

// ListQuery selects documents of a model. Prefix and After are empty, or follow the rules of keys; see [ValidateKey].
type ListQuery struct {
	Model string
	// Prefix is what the keys begin with; empty selects all.
	Prefix string
	// After is the key after which the page begins: the last one of the page before. Empty begins at the first.
	After string
	// Limit is the largest number of documents; 0 means 1,000.
	Limit int
}

// DefaultListLimit is the largest number of documents that a [ListQuery] without a limit gives.
const DefaultListLimit = 1000

// Commit is a set of changes to read models that take effect together.
type Commit struct {
	// Writes are applied in order; a document may be there once.
	Writes []Write
	// Progress, when its Projection is set, moves the checkpoint of a projection, if it is where it was expected.
	Progress ProgressUpdate
	// Fence, when it is not nil, is a lease of the same backend that must be held still, by this very token. A store that cannot
	// check it turns the commit down with [ErrUnsupported]; it never goes on without it.
	Fence *Lease
}

// Write puts or deletes one document.
type Write struct {
	Model, Key string
	// Data is what to put. With Delete it is ignored.
	Data []byte
	// Delete removes the document; one that is not there is deleted already.
	Delete bool
	// Expect is the revision that the document must have: [Any] by default, [Exactly] one, [NoStream] for no document,
	// [StreamExists] for any.
	Expect Expectation
}

// Progress is how far a projection has come. All of it is compared when it is moved: a position alone would let an owner that
// was paused write over a rebuild that has come to the same position.
type Progress struct {
	// Generation rises with each rebuild; Epoch with each takeover by another owner.
	Generation, Epoch int64
	// Checkpoint is the position scanned, in the incarnation of the event store it was read from.
	Checkpoint
}

// ProgressUpdate moves the checkpoint of a projection from one value to another.
type ProgressUpdate struct {
	Projection string
	From, To   Progress
}

// Replacement puts the documents and the checkpoint that were built under the name With into the place of Model. Those that
// Model had before are dropped, and the name With is empty afterwards. A name may be in one replacement only, and once in it;
// otherwise it is [ErrInvalid].
type Replacement struct {
	Model, With string
}

// RevisionError says which document was not at the expected revision. It is an [ErrConflict].
type RevisionError struct {
	Model, Key string
	Expected   Expectation
	Actual     int64 // 0: no document
}

// ProjectionError says that a projection's checkpoint was not where its owner left it: another owner, or a rebuild, was there.
// It is an [ErrConflict].
type ProjectionError struct {
	Projection       string
	Expected, Actual Progress
}

// Validate checks a commit against the rules that hold on every backend.
func (c Commit) Validate() error {
	type place struct{ model, key string }
	seen := make(map[place]struct{}, len(c.Writes))
	for _, w := range c.Writes {
		if err := ValidateName("model", w.Model); err != nil {
			return err
		}
		if err := ValidateKey(w.Key); err != nil {
			return err
		}
		if err := w.Expect.validate(); err != nil {
			return err
		}
		p := place{w.Model, w.Key}
		if _, twice := seen[p]; twice {
			return Invalidf("commit", "writes document %q of model %q twice", w.Key, w.Model)
		}
		seen[p] = struct{}{}
	}
	if c.Progress.Projection == "" {
		if c.Progress != (ProgressUpdate{}) {
			return Invalidf("commit", "moves the checkpoint of a projection without a name")
		}
		return nil
	}
	return ValidateName("projection", c.Progress.Projection)
}

// Validate checks a query against the rules that hold on every backend.
func (q ListQuery) Validate() error {
	if err := ValidateName("model", q.Model); err != nil {
		return err
	}
	if q.Limit < 0 {
		return Invalidf("list query", "has the limit %d; it is 0 for the default, or more", q.Limit)
	}
	for _, key := range [...]string{q.Prefix, q.After} {
		if key == "" {
			continue
		}
		if err := ValidateKey(key); err != nil {
			return err
		}
	}
	return nil
}

// ValidateKey checks the key of a document: 1 to [MaxKeyBytes] bytes of UTF-8 without NUL.
func ValidateKey(key string) error {
	if key == "" || len(key) > MaxKeyBytes {
		return Invalidf("document key", "has %d bytes; it takes 1 to %d", len(key), MaxKeyBytes)
	}
	return validateText("document key", key)
}

// Same tells whether two values of progress are the same, in every field.
func (p Progress) Same(other Progress) bool { return p == other }
