package estest_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// snapshotsMutant is snapshots with calls that go wrong: those that are set.
type snapshotsMutant struct {
	es.Snapshots

	load   func(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error)
	save   func(ctx context.Context, s es.Snapshot) error
	delete func(ctx context.Context, key es.SnapshotKey) error
}

func (m *snapshotsMutant) Load(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error) {
	if m.load != nil {
		return m.load(ctx, key)
	}
	return m.Snapshots.Load(ctx, key)
}

func (m *snapshotsMutant) Save(ctx context.Context, s es.Snapshot) error {
	if m.save != nil {
		return m.save(ctx, s)
	}
	return m.Snapshots.Save(ctx, s)
}

func (m *snapshotsMutant) Delete(ctx context.Context, key es.SnapshotKey) error {
	if m.delete != nil {
		return m.delete(ctx, key)
	}
	return m.Snapshots.Delete(ctx, key)
}

func snapshotsWith(fault storageFault, change func(m *snapshotsMutant)) estest.Harness[es.Snapshots] {
	return roleMutant[es.Snapshots]{
		role: (*memory.Backend).Snapshots, fault: fault,
		wrap: func() func(es.Snapshots, *memory.Backend) es.Snapshots {
			return func(s es.Snapshots, _ *memory.Backend) es.Snapshots {
				m := &snapshotsMutant{Snapshots: s}
				if change != nil {
					change(m)
				}
				return m
			}
		},
	}
}

func TestSnapshotsMutants(t *testing.T) {
	var mutants []mutant[estest.Harness[es.Snapshots]]
	add := func(line, name string, change func(m *snapshotsMutant)) {
		mutants = append(mutants, mutant[estest.Harness[es.Snapshots]]{line, name, snapshotsWith(noFault, change)})
	}
	fault := func(line, name string, fault storageFault) {
		mutants = append(mutants, mutant[estest.Harness[es.Snapshots]]{line, name, snapshotsWith(fault, nil)})
	}
	saved := func(change func(s *es.Snapshot)) func(m *snapshotsMutant) {
		return func(m *snapshotsMutant) {
			m.save = func(ctx context.Context, s es.Snapshot) error {
				change(&s)
				return m.Snapshots.Save(ctx, s)
			}
		}
	}
	// keyed takes keys for one another.
	keyed := func(change func(key *es.SnapshotKey)) func(m *snapshotsMutant) {
		return func(m *snapshotsMutant) {
			m.load = func(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error) {
				changed := key
				change(&changed)
				s, err := m.Snapshots.Load(ctx, changed)
				s.SnapshotKey = key
				return s, err
			}
			saved(func(s *es.Snapshot) { change(&s.SnapshotKey) })(m)
		}
	}
	// replaces lets a snapshot take the place of another when older tells so.
	replaces := func(when func(old, s es.Snapshot) bool) func(m *snapshotsMutant) {
		return func(m *snapshotsMutant) {
			m.save = func(ctx context.Context, s es.Snapshot) error {
				old, err := m.Snapshots.Load(ctx, s.SnapshotKey)
				switch {
				case errors.Is(err, es.ErrNotFound):
				case err != nil:
					return err
				case !when(old, s):
					return nil
				default:
					if err := m.Snapshots.Delete(ctx, s.SnapshotKey); err != nil {
						return err
					}
				}
				return m.Snapshots.Save(ctx, s)
			}
		}
	}
	always := replaces(func(es.Snapshot, es.Snapshot) bool { return true })

	add("A2/saved_byte_for_byte", "cuts data at a NUL", saved(func(s *es.Snapshot) { s.Data, _, _ = bytes.Cut(s.Data, []byte{0}) }))
	add("A2/saved_byte_for_byte", "has seconds", saved(func(s *es.Snapshot) { s.Time = s.Time.Truncate(time.Second) }))
	add("A2/saved_byte_for_byte", "knows JSON only", saved(func(s *es.Snapshot) { s.ContentType = es.ContentTypeJSON }))
	add("A2/not_found_when_there_is_none", "gives an empty one", func(m *snapshotsMutant) {
		m.load = func(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error) {
			s, err := m.Snapshots.Load(ctx, key)
			return s, without(es.ErrNotFound, err)
		}
	})
	add("A2/a_newer_one_takes_its_place", "keeps the first", replaces(func(es.Snapshot, es.Snapshot) bool { return false }))
	add("A2/a_newer_one_takes_its_place", "compares versions as text", replaces(func(old, s es.Snapshot) bool {
		return strconv.FormatInt(s.Version, 10) > strconv.FormatInt(old.Version, 10)
	}))
	add("A2/an_older_one_never_does", "keeps the last", always)
	add("A2/an_older_one_never_does", "turns down an older one", func(m *snapshotsMutant) {
		m.save = func(ctx context.Context, s es.Snapshot) error {
			if old, err := m.Snapshots.Load(ctx, s.SnapshotKey); err == nil && s.Version < old.Version {
				return es.ErrConflict
			}
			return m.Snapshots.Save(ctx, s)
		}
	})
	add("A2/nor_another_of_the_same_version", "takes the same version again", replaces(func(old, s es.Snapshot) bool {
		return s.Version >= old.Version
	}))
	add("A2/the_newest_of_many_at_once_stays", "keeps the last", always)
	add("A2/stream_name_and_schema_are_the_key", "leaves out the schema", keyed(func(key *es.SnapshotKey) { key.Schema = 1 }))
	add("A2/stream_name_and_schema_are_the_key", "leaves out the name", keyed(func(key *es.SnapshotKey) { key.Name = "one" }))
	add("A2/stream_name_and_schema_are_the_key", "does not tell capitals", keyed(func(key *es.SnapshotKey) {
		key.Stream, key.Name = lower(key.Stream), lower(key.Name)
	}))
	add("A2/stream_name_and_schema_are_the_key", "joins stream and name", keyed(func(key *es.SnapshotKey) {
		key.Stream, key.Name = key.Stream+key.Name, "one"
	}))
	add("A2/deleted_is_gone", "does not delete", func(m *snapshotsMutant) {
		m.delete = func(context.Context, es.SnapshotKey) error { return nil }
	})
	fault("A2/handles_share_them", "has them for each handle alone", handlesApart)
	fault("A2/kept_over_close_and_open", "keeps them in the process", closeLoses)
	add("M5/keeps_copies", "keeps the caller's bytes", func(m *snapshotsMutant) {
		var mu sync.Mutex
		data := map[es.SnapshotKey][]byte{}
		m.save = func(ctx context.Context, s es.Snapshot) error {
			mu.Lock()
			defer mu.Unlock()
			data[s.SnapshotKey] = s.Data
			return m.Snapshots.Save(ctx, s)
		}
		m.load = func(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error) {
			s, err := m.Snapshots.Load(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			s.Data = data[key]
			return s, err
		}
	})
	add("M3/names_are_checked", "saves anything", func(m *snapshotsMutant) {
		m.save = func(ctx context.Context, s es.Snapshot) error {
			return without(es.ErrInvalid, m.Snapshots.Save(ctx, s))
		}
	})
	add("M3/names_are_checked", "finds nothing under a name that breaks the rules", func(m *snapshotsMutant) {
		m.load = func(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error) {
			s, err := m.Snapshots.Load(ctx, key)
			if errors.Is(err, es.ErrInvalid) {
				err = es.ErrNotFound
			}
			return s, err
		}
	})
	fault("M3/namespaces_see_nothing_of_each_other", "has one namespace", namespacesLeak)
	add("E13/closed_is_closed", "loads when closed", func(m *snapshotsMutant) {
		m.load = func(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error) {
			s, err := m.Snapshots.Load(ctx, key)
			return s, without(es.ErrClosed, err)
		}
	})
	add("E13/closed_is_closed", "saves when closed", func(m *snapshotsMutant) {
		m.save = func(ctx context.Context, s es.Snapshot) error { return without(es.ErrClosed, m.Snapshots.Save(ctx, s)) }
	})
	add("E13/closed_is_closed", "deletes when closed", func(m *snapshotsMutant) {
		m.delete = func(ctx context.Context, key es.SnapshotKey) error {
			return without(es.ErrClosed, m.Snapshots.Delete(ctx, key))
		}
	})
	hunt(t, estest.SnapshotsLines(), mutants)
}
