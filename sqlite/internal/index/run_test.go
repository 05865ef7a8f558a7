package index

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// levels returns runs of these levels, which follow each other.
func levels(levels ...int) []Run {
	runs := make([]Run, len(levels))
	for i, level := range levels {
		runs[i] = Run{ID: int64(i), Base: int64(i), Last: int64(i + 1), Level: level}
	}
	return runs
}

func TestDueRunsAreTheOldestOfTheLowestFullLevel(t *testing.T) {
	t.Parallel()
	seven := slices.Repeat([]int{0}, 7)
	for name, c := range map[string]struct {
		levels []int
		from   int64
		due    int
	}{
		"none":            {nil, 0, 0},
		"seven":           {seven, 0, 0},
		"eight":           {slices.Repeat([]int{0}, 8), 0, 8},
		"nine":            {slices.Repeat([]int{0}, 9), 0, 8},
		"behind others":   {append([]int{2, 1, 1}, slices.Repeat([]int{0}, 10)...), 3, 8},
		"not adjacent":    {append(append(slices.Clone(seven), 1), seven...), 0, 0},
		"the lower first": {append(slices.Repeat([]int{1}, 8), slices.Repeat([]int{0}, 8)...), 8, 8},
		"a higher one":    {append(slices.Repeat([]int{3}, 8), 0, 0), 0, 8},
	} {
		due := Due(levels(c.levels...))
		if len(due) != c.due || c.due > 0 && due[0].ID != c.from {
			t.Errorf("%s: due are %v", name, due)
		}
	}
}

// TestRunsStayFew goes on as a store does, and counts: what is written again and again, and how many runs there are to look into.
func TestRunsStayFew(t *testing.T) {
	t.Parallel()
	var runs []Run
	written := 0
	size := func(r Run) int { return int(r.Last - r.Base) }
	const chunks = 305 // ten million events
	for i := range int64(chunks) {
		runs = append(runs, Run{ID: i, Base: i, Last: i + 1})
		written++
		for due := Due(runs); len(due) > 0; due = Due(runs) {
			at := slices.IndexFunc(runs, func(r Run) bool { return r.ID == due[0].ID })
			merged, err := adjacent(due[0].ID, due)
			wantOK(t, err)
			written += size(merged)
			runs = slices.Replace(runs, at, at+len(due), merged)
		}
		if len(runs) > 3*(RunsPerMerge-1) {
			t.Fatalf("after %d chunks there are %d runs", i+1, len(runs))
		}
	}
	if written > 3*chunks {
		t.Errorf("%d chunks were written for %d", written, chunks)
	}
}

// TestMergeIsTheSameAsBuild has one run merged of many, and one that was built at once.
func TestMergeIsTheSameAsBuild(t *testing.T) {
	t.Parallel()
	tail := NewTail(0)
	addNumbered(tail, 0, 2*ChunkEvents)
	span, _ := tail.Span(0, 2*ChunkEvents)
	built := newBlockMap()
	want, err := Build(7, span, built.of(t, 7))
	wantOK(t, err)

	parts := newBlockMap()
	var runs []Run
	for id := range int64(16) {
		part, ok := tail.Span(id*ChunkEvents/8, (id+1)*ChunkEvents/8)
		if !ok {
			t.Fatal("it is not covered")
		}
		run, err := Build(id, part, parts.of(t, id))
		wantOK(t, err)
		runs = append(runs, run)
	}
	merged := newBlockMap()
	got, err := Merge(7, runs, parts, merged.of(t, 7))
	wantOK(t, err)
	if got.Base != want.Base || got.Last != want.Last || got.Events != want.Events || got.Blocks != want.Blocks || got.Level != 1 ||
		string(got.Root) != string(want.Root) {
		t.Errorf("merged is %+v, built is %+v", got, want)
	}
	for name, block := range built.blocks {
		if string(merged.blocks[name]) != string(block) {
			t.Fatalf("block %v is another", name)
		}
	}
	view, err := NewView([]Run{got}, merged)
	wantOK(t, err)
	checkNumbered(t, &view, 2*ChunkEvents)
}

// TestRunWithoutEventsIsFine builds, merges and reads one.
func TestRunWithoutEventsIsFine(t *testing.T) {
	t.Parallel()
	tail := NewTail(0)
	tail.Advance(10)
	span, _ := tail.Span(0, 10)
	blocks := newBlockMap()
	run, err := Build(1, span, blocks.of(t, 1))
	wantOK(t, err)
	run, err = Merge(2, []Run{run}, blocks, blocks.of(t, 2))
	wantOK(t, err)
	view, err := NewView([]Run{run}, blocks)
	wantOK(t, err)
	id, err := view.ID(numberedID(1))
	if wantOK(t, err); id != 0 || view.Last() != 10 {
		t.Errorf("there is an event at %d, and the view ends at %d", id, view.Last())
	}
	if version, position, err := view.Head(KeyOf(KindStream, "stream-1")); version != 0 || position != 0 || err != nil {
		t.Errorf("there is version %d at %d (%v)", version, position, err)
	}
}

func TestEmitEndsBuildAndMerge(t *testing.T) {
	t.Parallel()
	tail := NewTail(0)
	addNumbered(tail, 0, 5000)
	span, _ := tail.Span(0, 5000)
	blocks := newBlockMap()
	whole, err := Build(1, span, blocks.of(t, 1))
	wantOK(t, err)
	stop := errors.New("stop")
	for at := range whole.Blocks {
		next := 0
		emit := func(number int, _ []byte) error {
			if next++; number == at {
				return stop
			}
			return nil
		}
		if _, err := Build(2, span, emit); !errors.Is(err, stop) || next != at+1 {
			t.Errorf("after block %d of %d: %v", next, at, err)
		}
		next = 0
		if _, err := Merge(2, []Run{whole}, blocks, emit); !errors.Is(err, stop) || next != at+1 {
			t.Errorf("after block %d of %d: %v", next, at, err)
		}
	}
}

func TestMergeTakesAdjacentRunsOnly(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t)
	var gap *GapError
	for what, runs := range map[string][]Run{
		"turned": {s.runs[1], s.runs[0]},
		"twice":  {s.runs[0], s.runs[0]},
	} {
		if _, err := Merge(9, runs, s.blocks, s.blocks.of(t, 9)); !errors.As(err, &gap) || err.Error() == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Merge(9, nil, s.blocks, s.blocks.of(t, 9)); err == nil {
		t.Error("there was nothing to merge")
	}
}

// TestErrorsOfBlocksArePassedOn has each block be unreadable.
func TestErrorsOfBlocksArePassedOn(t *testing.T) {
	t.Parallel()
	whole := newSpecimen(t)
	for name := range whole.blocks.blocks {
		s := whole.clone()
		delete(s.blocks.blocks, name)
		if err := s.lookAtAll(); err == nil || !strings.Contains(err.Error(), "is not there") {
			t.Errorf("without %v: %v", name, err)
		}
	}
}

// TestBlockFitsAPage stores the largest blocks in a table of SQLite: each has one page, and none an overflow page.
func TestBlockFitsAPage(t *testing.T) {
	t.Parallel()
	conn, err := sqlite.OpenConn(":memory:")
	wantOK(t, err)
	defer func() { wantOK(t, conn.Close()) }()
	const large, blocks = int64(1) << 62, 200
	for _, c := range []struct {
		table, insert string
		args          []any
	}{
		{"CREATE TABLE a (id INTEGER PRIMARY KEY, block BLOB)", "INSERT INTO a VALUES (?, ?)", nil},
		{"CREATE TABLE b (run INTEGER, number INTEGER, block BLOB)", "INSERT INTO b VALUES (?, ?, ?)", []any{large}},
	} {
		wantOK(t, sqlitex.ExecuteTransient(conn, c.table, nil))
		before := pages(t, conn)
		for n := range int64(blocks) {
			args := append([]any{large + n}, append(c.args, make([]byte, BlockBytes))...)
			wantOK(t, sqlitex.Execute(conn, c.insert, &sqlitex.ExecOptions{Args: args}))
		}
		if got := pages(t, conn) - before; got < blocks-1 || got > blocks+1 { // there is one page already, and one is above all
			t.Errorf("%d blocks take %d pages in %s", blocks, got, c.table)
		}
	}
}

func pages(t *testing.T, conn *sqlite.Conn) int {
	t.Helper()
	n := 0
	wantOK(t, sqlitex.ExecuteTransient(conn, "PRAGMA page_count", &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		n = stmt.ColumnInt(0)
		return nil
	}}))
	return n
}

func TestViewHasNoGaps(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t)
	tail := NewTail(200)
	addNumbered(tail, 200, 210)
	span := func(from, to int64) Span {
		span, ok := tail.Span(from, to)
		if !ok {
			t.Fatalf("from %d to %d it is not covered", from, to)
		}
		return span
	}
	for name, c := range map[string]struct {
		runs     []Run
		spans    []Span
		from, to int64 // the gap
	}{
		"none":            {s.runs, []Span{span(200, 205), span(205, 210)}, 0, 0},
		"nothing":         {nil, nil, 0, 0},
		"first run":       {s.runs[1:], nil, 0, 100},
		"between":         {s.runs, []Span{span(202, 210)}, 200, 202},
		"without runs":    {nil, []Span{span(200, 210)}, 0, 200},
		"between spans":   {s.runs, []Span{span(200, 203), span(205, 210)}, 203, 205},
		"told of twice":   {s.runs, []Span{span(200, 205), span(203, 210)}, 205, 203},
		"a run too early": {[]Run{s.runs[0], s.runs[0]}, nil, 100, 0},
	} {
		_, err := NewView(c.runs, s.blocks, c.spans...)
		var gap *GapError
		switch {
		case c.from == c.to:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case !errors.As(err, &gap) || gap.From != c.from || gap.To != c.to:
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCursorsAgreeOnEdges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		cursor Cursor
		d      Direction
		want   string
	}{
		{"all", All(Forward, 3), Forward, "[1 2 3]"},
		{"all, backward", All(Backward, 3), Backward, "[3 2 1]"},
		{"all of nothing", All(Forward, 0), Forward, "[]"},
		{"all of nothing, backward", All(Backward, 0), Backward, "[]"},
		{"no union", Union(Forward), Forward, "[]"},
		{"one", Union(Forward, All(Forward, 2)), Forward, "[1 2]"},
		{"union", Union(Backward, All(Backward, 2), All(Backward, 4)), Backward, "[4 3 2 1]"},
		{"intersection of one", Intersect(Forward, All(Forward, 2)), Forward, "[1 2]"},
		{"intersection", Intersect(Backward, All(Backward, 2), All(Backward, 4), All(Backward, 3)), Backward, "[2 1]"},
	} {
		got, err := walkAll(c.cursor, c.d)
		if wantOK(t, err); fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("there is an intersection of nothing")
		}
	}()
	Intersect(Forward)
}

// failing is a cursor that cannot be read.
type failing struct{ err error }

func (f failing) SeekPosition(int64) (int64, error) { return 0, f.err }

func TestCursorsPassErrorsOn(t *testing.T) {
	t.Parallel()
	broken := failing{errors.New("broken")}
	for name, c := range map[string]Cursor{
		"union":                   Union(Forward, All(Forward, 3), broken),
		"intersection":            Intersect(Forward, All(Forward, 3), broken),
		"intersection, the first": Intersect(Forward, broken, All(Forward, 3)),
	} {
		if _, err := c.SeekPosition(1); !errors.Is(err, broken.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
