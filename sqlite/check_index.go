package sqlite

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/index"
)

// checkCache is how many bytes of the index to keep in memory while it is looked at.
const checkCache = 16 << 20

// index compares the index with the events. Each run is gone through once, and so are its events. What both say is added up, so that
// nothing is kept in memory but a sum: the hashes of all entries, which nobody can foresee. When the sums are the same, so are the
// entries, but for a chance of one in 2^64; otherwise the events are looked up one by one, to find out what is wrong.
func (k *checker) index() error {
	runs, err := k.runs()
	if err != nil {
		return err
	}
	blocks := index.NewCache(&storedBlocks{conn: k.conn, query: k.sql("SELECT data FROM es_blocks_$ WHERE block = ?")}, checkCache)
	c := &indexCheck{checker: k, seed: maphash.MakeSeed(), runs: runs, blocks: blocks}
	for _, run := range runs {
		k.here.Runs++
		k.here.Indexed += run.Events
		err := c.run(run)
		if _, corrupt := errors.AsType[*index.CorruptError](err); corrupt || errors.Is(err, ErrCorrupt) {
			k.problemf("index", remedyReindex, "%v", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// storedBlocks reads blocks of the index.
type storedBlocks struct {
	conn  *conn
	query string
}

// Block is that of [index.Blocks].
func (b *storedBlocks) Block(run int64, number int) (data []byte, err error) {
	err = b.conn.query(func(stmt *lite.Stmt) error {
		data = columnBytes(stmt, 0)
		return nil
	}, b.query, blockNumber(run, number))
	if err == nil && data == nil {
		err = damaged(fmt.Errorf("block %d of run %d of the index is not there", number, run))
	}
	return data, err
}

// readRun reads a run from a row of its columns.
func readRun(stmt *lite.Stmt) index.Run {
	return index.Run{
		ID: stmt.ColumnInt64(0), Base: stmt.ColumnInt64(1), Last: stmt.ColumnInt64(2), Level: int(stmt.ColumnInt64(3)),
		Events: stmt.ColumnInt64(4), Blocks: int(stmt.ColumnInt64(5)), Root: columnBytes(stmt, 6),
	}
}

// runs reads the runs, and looks at what is told of them.
func (k *checker) runs() ([]index.Run, error) {
	var runs []index.Run
	last := int64(0)
	err := k.query(func(stmt *lite.Stmt) error {
		run := readRun(stmt)
		if run.Base != last {
			k.problemf("index", remedyReindex, "run %d begins behind position %d, and the one before it ends at %d", run.ID, run.Base, last)
		}
		last = run.Last
		if err := run.Open(); err != nil {
			k.problemf("index", remedyReindex, "%v", err)
			return nil
		}
		runs = append(runs, run)
		return nil
	}, k.sql("SELECT run, base, last, level, events, blocks, root FROM es_runs_$ ORDER BY base"))
	if err != nil {
		return nil, err
	}
	if last > k.here.Head.Position {
		k.problemf("index", remedyReindex, "it goes up to position %d, and the events up to %d", last, k.here.Head.Position)
	}
	newest, err := k.number(k.sql("SELECT max(ifnull((SELECT max(run) FROM es_runs_$), 0), " +
		"ifnull((SELECT max(block) >> 24 FROM es_blocks_$), 0))"))
	if err != nil {
		return nil, err
	}
	given, err := k.number(k.sql("SELECT run FROM es_state_$"))
	if err == nil && newest > given {
		k.problemf("index", remedyReindex, "there is a run %d, and the last that was begun is %d", newest, given)
	}
	return runs, err
}

// indexCheck compares runs with events.
type indexCheck struct {
	*checker
	seed   maphash.Seed
	runs   []index.Run
	blocks *index.Cache

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
func (c *indexCheck) run(run index.Run) error {
	var fromEvents, fromRun entrySums
	stubs := &bitmap{base: run.Base, last: run.Last}
	err := c.eachEvent(run, func(position int64, stub bool) error {
		if stub {
			stubs.set(position)
		}
		for _, e := range c.entries {
			c.add(&fromEvents, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = index.Walk(run, c.blocks, func(e index.Entry) error {
		if e.Kind != index.EntryTerm || !stubs.has(e.Position) {
			c.add(&fromRun, e)
		}
		return nil
	})
	if err != nil || fromRun == fromEvents {
		return err
	}
	c.problemf("index", remedyReindex, "run %d, of positions %d to %d, does not say what the events say", run.ID, run.Base+1, run.Last)
	return c.lookUp(run)
}

// eachEvent goes through the events that a run is to have, and puts what it is to have of each into entries.
func (c *indexCheck) eachEvent(run index.Run, do func(position int64, stub bool) error) error {
	var keys index.Keys
	return c.query(func(stmt *lite.Stmt) error {
		e := index.Event{Stream: stmt.ColumnText(3), Name: stmt.ColumnText(4)}
		stmt.ColumnBytes(2, e.ID[:])
		if !stmt.ColumnIsNull(5) {
			e.Tags, _ = decodeTags(stmt.ColumnText(5)) // an error was told of when the events were looked at
		}
		keys.Set(&e)
		keys.Position, keys.Version = stmt.ColumnInt64(0), stmt.ColumnInt64(1)
		if keys.Position <= run.Base || keys.Position > run.Last {
			return damaged(fmt.Errorf("SQLite finds position %d from %d to %d", keys.Position, run.Base+1, run.Last))
		}
		c.entries = keys.Entries(c.entries[:0])
		stub := stmt.ColumnIsNull(4)
		if stub {
			c.entries = slices.DeleteFunc(c.entries, func(e index.Entry) bool { return e.Kind == index.EntryTerm })
		}
		return do(keys.Position, stub)
	}, c.sql("SELECT position, version, id, stream, name, tags FROM es_events_$ WHERE position > ? AND position <= ? ORDER BY position"),
		run.Base, run.Last)
}

// errFoundEnough ends a search that has found enough.
var errFoundEnough = errors.New("enough was found")

// lookUp looks up the events of a run, to tell which are not found.
func (c *indexCheck) lookUp(run index.Run) error {
	view, err := index.NewView(c.runs, c.blocks)
	if err != nil {
		return err
	}
	missing := 0
	err = c.eachEvent(run, func(position int64, _ bool) error {
		for _, e := range c.entries {
			at, err := lookUpEntry(&view, e)
			if err != nil {
				return err
			}
			if at == position {
				continue
			}
			what := [...]string{index.EntryID: "ID", index.EntryStream: "stream and version", index.EntryTerm: "category, name or tags"}[e.Kind]
			c.problemf("index", remedyReindex, "the event at position %d is not found by its %s", position, what)
			if missing++; missing == mostListed {
				return errFoundEnough
			}
		}
		return nil
	})
	if errors.Is(err, errFoundEnough) {
		return nil
	}
	return err
}

// lookUpEntry returns the position at which an entry is found.
func lookUpEntry(view *index.View, e index.Entry) (int64, error) {
	switch e.Kind {
	case index.EntryID:
		return view.ID(uuid.UUID(e.Key))
	case index.EntryStream:
		version, position, err := view.Stream(e.Key, index.Forward).SeekVersion(e.Version)
		if version != e.Version {
			position = 0
		}
		return position, err
	default:
		return view.Term(e.Key, index.Forward).SeekPosition(e.Position)
	}
}

// bitmap is a set of positions beyond one and up to another. Without any it takes no room.
type bitmap struct {
	base, last int64
	bits       []uint64
}

func (b *bitmap) set(position int64) {
	if b.bits == nil {
		b.bits = make([]uint64, (b.last-b.base+63)/64)
	}
	i := position - b.base - 1
	b.bits[i/64] |= 1 << (i % 64)
}

func (b *bitmap) has(position int64) bool {
	i := position - b.base - 1
	return b.bits != nil && b.bits[i/64]&(1<<(i%64)) != 0
}
