package eventsourcing

import (
	"context"
	"time"
)

// Snapshots keeps the state of a stream at a version, so that it need not be built from the first event. A snapshot is a cache:
// losing one costs time and nothing else.
type Snapshots interface {
	// Load returns the latest snapshot of a stream under a name and schema, or [ErrNotFound].
	Load(ctx context.Context, key SnapshotKey) (Snapshot, error)
	// Save keeps a snapshot unless there is one of the same or a later version under its key: an older one never takes the
	// place of a newer one, and that is no error.
	Save(ctx context.Context, s Snapshot) error
	// Delete removes a snapshot. What is not there is deleted already.
	Delete(ctx context.Context, key SnapshotKey) error
}

// SnapshotKey says what a snapshot is of.
type SnapshotKey struct {
	Stream string
	// Name is that of the state's type: two aggregates may read one stream.
	Name string
	// Schema is the version of the state's shape, from 1. A program with another shape does not see the snapshot, and builds
	// its own.
	Schema int
}

// Snapshot is the state of a stream at a version.
type Snapshot struct {
	SnapshotKey
	// Version is the version of the last event that the state has in it, from 1.
	Version int64
	// Time is when it was taken.
	Time        time.Time
	ContentType string
	// Data is the encoded state, byte for byte. It is shared and read-only once loaded.
	Data []byte
}

// Validate checks a key against the rules that hold on every backend.
func (k SnapshotKey) Validate() error {
	if err := ValidateName("stream", k.Stream); err != nil {
		return err
	}
	if err := ValidateName("snapshot name", k.Name); err != nil {
		return err
	}
	if k.Schema < 1 {
		return Invalidf("snapshot schema", "is %d; schema versions count from 1", k.Schema)
	}
	return nil
}

// Validate checks a snapshot against the rules that hold on every backend.
func (s Snapshot) Validate() error {
	if s.Version < 1 {
		return Invalidf("snapshot version", "is %d; versions count from 1", s.Version)
	}
	return s.SnapshotKey.Validate()
}
