package estest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RunSnapshots holds snapshots to what they promise.
func RunSnapshots(t *testing.T, h Harness[es.Snapshots]) {
	t.Helper()
	run(t, h, SnapshotsLines())
}

// SnapshotsLines returns the tests of [RunSnapshots].
func SnapshotsLines() []Line[Harness[es.Snapshots]] {
	key := es.SnapshotKey{Stream: "order-7", Name: "Order", Schema: 1}
	return []Line[Harness[es.Snapshots]]{
		snapshotLine("A2/saved_byte_for_byte", func(b *snapshotBench) {
			s := es.Snapshot{
				SnapshotKey: es.SnapshotKey{Stream: "straße-7", Name: "Größe", Schema: 3}, Version: 1 << 40,
				Time: time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC), ContentType: "application/octet-stream",
				Data: append([]byte("\x00\xff{ \"b\": 1, \"a\": 1.0 }"), bytes.Repeat([]byte{0, 255, '\''}, 100_000)...),
			}
			b.save(s)
			b.loads(s)
			s.SnapshotKey, s.Data = key, nil
			b.save(s)
			b.loads(s)
		}),
		snapshotLine("A2/not_found_when_there_is_none", func(b *snapshotBench) {
			b.missing(key)
			b.ok(b.role.Delete(b.ctx, key), "delete what is not there")
		}),
		snapshotLine("A2/a_newer_one_takes_its_place", func(b *snapshotBench) {
			for _, version := range []int64{1, 2, 10, 11, 100} {
				b.save(snapshotAt(key, version))
				b.loads(snapshotAt(key, version))
			}
		}),
		snapshotLine("A2/an_older_one_never_does", func(b *snapshotBench) {
			b.save(snapshotAt(key, 10))
			for _, version := range []int64{9, 2, 1} {
				b.save(snapshotAt(key, version))
				b.loads(snapshotAt(key, 10))
			}
		}),
		snapshotLine("A2/nor_another_of_the_same_version", func(b *snapshotBench) {
			b.save(snapshotAt(key, 10))
			other := snapshotAt(key, 10)
			other.Data = []byte("other")
			b.save(other)
			b.loads(snapshotAt(key, 10))
		}),
		snapshotLine("A2/the_newest_of_many_at_once_stays", func(b *snapshotBench) {
			handles := []es.Snapshots{b.role}
			if b.h.Handles() {
				handles = append(handles, b.another())
			}
			const writers, rounds = 8, 10
			for round := range rounds {
				k := key
				k.Stream = fmt.Sprint("order-", round)
				b.atOnce(writers, func(i int) error {
					return handles[i%len(handles)].Save(b.ctx, snapshotAt(k, int64(1+(i*5)%writers)))
				})
				b.loads(snapshotAt(k, writers))
			}
		}),
		snapshotLine("A2/stream_name_and_schema_are_the_key", func(b *snapshotBench) {
			keys := []es.SnapshotKey{
				key,
				{Stream: key.Stream, Name: key.Name, Schema: 2},
				{Stream: key.Stream, Name: "order", Schema: 1},
				{Stream: "order-70", Name: key.Name, Schema: 1},
				{Stream: "ORDER-7", Name: key.Name, Schema: 1},
				{Stream: "order-7O", Name: "rder", Schema: 1},
			}
			for i, k := range keys {
				b.missing(k)
				b.save(snapshotAt(k, int64(10-i)))
			}
			for i, k := range keys {
				b.loads(snapshotAt(k, int64(10-i)))
			}
			b.ok(b.role.Delete(b.ctx, keys[1]), "delete")
			b.missing(keys[1])
			b.loads(snapshotAt(key, 10))
		}),
		snapshotLine("A2/deleted_is_gone", func(b *snapshotBench) {
			b.save(snapshotAt(key, 10))
			b.ok(b.role.Delete(b.ctx, key), "delete")
			b.missing(key)
			b.ok(b.role.Delete(b.ctx, key), "delete again")
			b.save(snapshotAt(key, 3))
			b.loads(snapshotAt(key, 3))
		}),
		snapshotLine("A2/handles_share_them", func(b *snapshotBench) {
			other := b.another()
			b.save(snapshotAt(key, 1))
			b.ok(other.Save(b.ctx, snapshotAt(key, 2)), "save on another handle")
			b.loads(snapshotAt(key, 2))
			b.ok(other.Delete(b.ctx, key), "delete on another handle")
			b.missing(key)
		}),
		snapshotLine("A2/kept_over_close_and_open", func(b *snapshotBench) {
			b.keeps()
			b.save(snapshotAt(key, 2))
			b.reopened()
			b.loads(snapshotAt(key, 2))
		}),
		snapshotLine("M5/keeps_copies", func(b *snapshotBench) {
			s := snapshotAt(key, 2)
			b.save(s)
			for i := range s.Data {
				s.Data[i] = 'x'
			}
			b.loads(snapshotAt(key, 2))
		}),
		snapshotLine("M3/names_are_checked", func(b *snapshotBench) {
			for why, change := range map[string]func(s *es.Snapshot){
				"no stream":           func(s *es.Snapshot) { s.Stream = "" },
				"a long stream":       func(s *es.Snapshot) { s.Stream = strings.Repeat("s", 256) },
				"no name":             func(s *es.Snapshot) { s.Name = "" },
				"a control character": func(s *es.Snapshot) { s.Name = "a\x00" },
				"schema 0":            func(s *es.Snapshot) { s.Schema = 0 },
				"version 0":           func(s *es.Snapshot) { s.Version = 0 },
			} {
				s := snapshotAt(key, 1)
				change(&s)
				b.is(b.role.Save(b.ctx, s), es.ErrInvalid, "save with %s", why)
				if s.Version > 0 {
					_, err := b.role.Load(b.ctx, s.SnapshotKey)
					b.is(err, es.ErrInvalid, "load with %s", why)
					b.is(b.role.Delete(b.ctx, s.SnapshotKey), es.ErrInvalid, "delete with %s", why)
				}
			}
			b.missing(key)
		}),
		snapshotLine("M3/namespaces_see_nothing_of_each_other", func(b *snapshotBench) {
			other := b.elsewhere("other")
			b.save(snapshotAt(key, 2))
			_, err := other.Load(b.ctx, key)
			b.is(err, es.ErrNotFound, "load a snapshot of another namespace")
			b.ok(other.Delete(b.ctx, key), "delete in another namespace")
			b.loads(snapshotAt(key, 2))
		}),
		snapshotLine("E13/closed_is_closed", func(b *snapshotBench) {
			b.save(snapshotAt(key, 2))
			snapshots := b.role
			b.closed(map[string]func() error{
				"Load":   func() error { _, err := snapshots.Load(b.ctx, key); return err },
				"Save":   func() error { return snapshots.Save(b.ctx, snapshotAt(key, 3)) },
				"Delete": func() error { return snapshots.Delete(b.ctx, key) },
			}, es.ErrClosed)
		}),
	}
}

// snapshotBench is snapshots under test.
type snapshotBench struct {
	*bench[es.Snapshots]
}

func snapshotLine(name string, test func(b *snapshotBench)) Line[Harness[es.Snapshots]] {
	return benchLine(name, func(b *bench[es.Snapshots]) { test(&snapshotBench{b}) })
}

// snapshotAt makes the snapshot of a version; the same arguments always make the same one.
func snapshotAt(key es.SnapshotKey, version int64) es.Snapshot {
	return es.Snapshot{
		SnapshotKey: key, Version: version, ContentType: es.ContentTypeJSON,
		Time: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(version) * time.Second),
		Data: fmt.Appendf(nil, `{"version": %d, "of": %q, "schema": %d}`, version, key.Stream+" "+key.Name, key.Schema),
	}
}

func (b *snapshotBench) save(s es.Snapshot) {
	b.Helper()
	b.ok(b.role.Save(b.ctx, s), "save %+v at version %d", s.SnapshotKey, s.Version)
}

// loads ends the test unless the snapshot that is loaded is this one.
func (b *snapshotBench) loads(want es.Snapshot) {
	b.Helper()
	got, err := b.role.Load(b.ctx, want.SnapshotKey)
	b.ok(err, "load %+v", want.SnapshotKey)
	if got.SnapshotKey != want.SnapshotKey || got.Version != want.Version || got.ContentType != want.ContentType ||
		!got.Time.Equal(want.Time) {
		b.Fatalf("loaded %+v at version %d, %q of %v; want %+v at version %d, %q of %v", got.SnapshotKey, got.Version,
			got.ContentType, got.Time, want.SnapshotKey, want.Version, want.ContentType, want.Time)
	}
	if !bytes.Equal(got.Data, want.Data) {
		b.Fatalf("the data of version %d is not what was saved: %d bytes, want %d", got.Version, len(got.Data), len(want.Data))
	}
}

// missing ends the test when there is a snapshot under a key.
func (b *snapshotBench) missing(key es.SnapshotKey) {
	b.Helper()
	_, err := b.role.Load(b.ctx, key)
	b.is(err, es.ErrNotFound, "load %+v", key)
}
