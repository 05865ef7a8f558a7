package memory

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Snapshots is the snapshots of a namespace. It is an [es.Snapshots].
type Snapshots struct {
	handle *handle
	table  *snapshotTable
}

var _ es.Snapshots = (*Snapshots)(nil)

// snapshotTable has one snapshot for each key: the latest.
type snapshotTable struct {
	mu     sync.RWMutex
	latest map[es.SnapshotKey]es.Snapshot
}

func newSnapshotTable() *snapshotTable {
	return &snapshotTable{latest: map[es.SnapshotKey]es.Snapshot{}}
}

// Load returns the latest snapshot under a key, or [es.ErrNotFound].
func (s *Snapshots) Load(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error) {
	if err := s.handle.begin(ctx); err != nil {
		return es.Snapshot{}, err
	}
	defer s.handle.leave()
	if err := key.Validate(); err != nil {
		return es.Snapshot{}, err
	}
	s.table.mu.RLock()
	snapshot, ok := s.table.latest[key]
	s.table.mu.RUnlock()
	if !ok {
		return es.Snapshot{}, fmt.Errorf("snapshot %q (schema %d) of stream %q: %w", key.Name, key.Schema, key.Stream, es.ErrNotFound)
	}
	return snapshot, nil
}

// Save keeps a snapshot unless there is one of the same or a later version under its key.
func (s *Snapshots) Save(ctx context.Context, snapshot es.Snapshot) error {
	if err := s.handle.begin(ctx); err != nil {
		return err
	}
	defer s.handle.leave()
	if err := snapshot.Validate(); err != nil {
		return err
	}
	s.table.mu.RLock()
	late := s.table.latest[snapshot.SnapshotKey].Version >= snapshot.Version
	s.table.mu.RUnlock()
	if late {
		return nil
	}
	snapshot.Time = es.Timestamp(snapshot.Time)
	snapshot.Data = bytes.Clone(snapshot.Data) // outside the lock: a state may be large

	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.table.latest[snapshot.SnapshotKey].Version < snapshot.Version {
		s.table.latest[snapshot.SnapshotKey] = snapshot
	}
	return nil
}

// Delete removes the snapshot under a key. What is not there is deleted already.
func (s *Snapshots) Delete(ctx context.Context, key es.SnapshotKey) error {
	if err := s.handle.begin(ctx); err != nil {
		return err
	}
	defer s.handle.leave()
	if err := key.Validate(); err != nil {
		return err
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	delete(s.table.latest, key)
	return nil
}
