package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Report is what [Check] has found in a file.
type Report struct {
	// Schema is the version of the file's schema.
	Schema int
	// Namespaces tells what there is in each.
	Namespaces []NamespaceReport
	// Problems is what is wrong. It is empty when the file is as it should be.
	Problems []Problem
	// More is how many problems there are that are not listed: of each part of the file the first 20 are.
	More int
}

// NamespaceReport is what there is in a namespace.
type NamespaceReport struct {
	Name string
	// Head is the last position, in the incarnation that the event store has.
	Head es.Checkpoint
	// Events is how many events there are, and Hidden how many of them were truncated or deleted, and nobody reads.
	Events, Hidden int64
	// Streams is how many streams there are.
	Streams int64
	// Runs is how many runs the index has, and Indexed how many events are in them. The others are indexed when the file is opened.
	Runs, Indexed int64
	// Outbox is how many messages wait in the outbox, and Dead how many dead letters there are.
	Outbox, Dead int64
	// Documents is how many documents the read models have, and Checkpoints how many projections have a checkpoint.
	Documents, Checkpoints int64
	// Handled is how many messages dedupe remembers, Snapshots and Leases how many of these there are.
	Handled, Snapshots, Leases int64
}

// Problem is something that is wrong with a file.
type Problem struct {
	// Namespace is where it is, and empty when it is not in one.
	Namespace string
	// Where is the part of the file, such as "events", or the name of a table.
	Where string
	// What is wrong.
	What string
	// Remedy is what can be done about it.
	Remedy string
}

func (p Problem) String() string {
	where := p.Where
	if p.Namespace != "" {
		where = fmt.Sprintf("namespace %q, %s", p.Namespace, where)
	}
	return fmt.Sprintf("%s: %s (%s)", where, p.What, p.Remedy)
}

// OK tells whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// Err is nil when nothing is wrong; otherwise it is an [ErrCorrupt] that tells of the first problem.
func (r *Report) Err() error {
	if r.OK() {
		return nil
	}
	if n := len(r.Problems) + r.More; n > 1 {
		return fmt.Errorf("%w: %v, and %d more", ErrCorrupt, r.Problems[0], n-1)
	}
	return fmt.Errorf("%w: %v", ErrCorrupt, r.Problems[0])
}

// The remedies.
const (
	remedyReindex = "run Reindex, which makes it again from the events"
	remedyRestore = "put the last backup that passes Check in the place of the file, and see Fork"
	remedyRebuild = "rebuild the read model"
)

// Check looks through a whole file, all its namespaces, for what cannot be so: pages that are damaged, versions that are missing or
// there twice, IDs that are there twice, an index that does not say what the events say, counters that are wrong, checkpoints beyond
// the end. Of the configuration only Path and BusyTimeout matter.
//
// It never changes the file, which may be closed, or in use by this process and others. It looks at one snapshot; while it does, the
// write-ahead log of a file that is written to goes on growing. It took 4.6 seconds for a million small events on two cores, and a second
// more for each gigabyte of payload (go test -run - -bench Maintenance -maintain.events 1000000). It takes less than 100 MB of memory
// however many events and streams there are, and room for temporary files, some ten bytes for each event.
//
// What is wrong is in the report. The error says why the file could not be looked at: [es.ErrNotFound], [ErrForeign],
// [ErrNewer], [ErrIO], [ErrBusy], [es.ErrInvalid]; that of ctx.
func Check(ctx context.Context, c Config) (*Report, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	report, err := check(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", c.Path, err)
	}
	return report, nil
}

func check(ctx context.Context, c Config) (_ *Report, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := thereMustBe(c); err != nil {
		return nil, err
	}
	look, err := openConnAt(c, fileURI(c, url.Values{"mode": {"ro"}}), lite.OpenReadOnly|lite.OpenURI)
	if err != nil {
		return nil, err
	}
	defer func() {
		if end := look.closeConn(); end != nil {
			err = errors.Join(err, end)
		}
	}()
	look.SetInterrupt(ctx.Done())
	defer look.SetInterrupt(nil)
	k := &checker{conn: look, config: c, report: &Report{}, listed: map[string]int{}}
	if err := explained(k.run(), ctx.Err); err != nil {
		return nil, err
	}
	return k.report, nil
}

// checker looks through a file.
type checker struct {
	*conn
	config Config
	report *Report
	listed map[string]int // how many problems of each part are listed

	malformed bool // tables are missing, or not as they should be

	space int64 // the namespace that is looked at
	here  *NamespaceReport
}

// mostListed is how many problems of a part are listed.
const mostListed = 20

// problemf takes down a problem.
func (k *checker) problemf(where, remedy, format string, args ...any) {
	namespace := ""
	if k.here != nil {
		namespace = k.here.Name
	}
	if part := namespace + "/" + where; k.listed[part] < mostListed {
		k.listed[part]++
		k.report.Problems = append(k.report.Problems, Problem{namespace, where, fmt.Sprintf(format, args...), remedy})
		return
	}
	k.report.More++
}

// part looks at a part of the file. When that is so damaged that it cannot be read, it is a problem, and the rest is looked at.
func (k *checker) part(where, remedy string, look func() error) error {
	err := look()
	unreadable := errors.Is(err, ErrCorrupt) || k.malformed && lite.ErrCode(err) == lite.ResultError
	if !unreadable {
		return err
	}
	k.problemf(where, remedy, "it cannot be read: %v", err)
	return nil
}

func (k *checker) run() error {
	if err := k.query(nil, "BEGIN"); err != nil {
		return err
	}
	version, err := identify(k.conn)
	switch {
	case errors.Is(err, ErrCorrupt):
		k.problemf("schema", remedyRestore, "it cannot be read: %v", err)
		return nil
	case err != nil:
		return err
	case version == 0:
		return fmt.Errorf("%w: it is empty", ErrForeign)
	}
	k.report.Schema = int(version)
	if err := k.part("pages", remedyRestore, k.pages); err != nil {
		return err
	}
	var spaces []int64
	err = k.part("es_spaces", remedyRestore, func() (err error) {
		spaces, err = k.spaces()
		return err
	})
	if err != nil {
		return err
	}
	if err := k.part("schema", remedyRestore, func() error { return k.schema(spaces) }); err != nil {
		return err
	}
	for i, space := range spaces {
		k.space, k.here = space, &k.report.Namespaces[i]
		if err := k.namespace(); err != nil {
			return err
		}
	}
	return nil
}

// pages has SQLite look at its pages and indexes.
func (k *checker) pages() error {
	tables, err := k.tables()
	if err != nil {
		return err
	}
	return k.query(func(stmt *lite.Stmt) error {
		what := stmt.ColumnText(0)
		if what == "ok" {
			return nil
		}
		where, remedy := "pages", remedyRestore
		var root int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(what, "*** in database main ***\n"), "Tree %d", &root); err == nil && tables[root] != "" {
			where = tables[root]
		}
		switch {
		case strings.HasPrefix(where, "es_runs_"), strings.HasPrefix(where, "es_blocks_"):
			remedy = remedyReindex
		case strings.HasPrefix(where, "es_outbox_order_"):
			remedy = remedySort
		case strings.Contains(what, "never used"), strings.Contains(what, " index "):
			remedy = "run Reindex"
		}
		k.problemf(where, remedy, "%s", what)
		return nil
	}, "PRAGMA integrity_check(1000)")
}

// tables returns the names of tables and indexes by the page where they begin.
func (k *checker) tables() (map[int64]string, error) {
	tables := map[int64]string{}
	err := k.query(func(stmt *lite.Stmt) error {
		tables[stmt.ColumnInt64(0)] = stmt.ColumnText(1)
		return nil
	}, "SELECT rootpage, name FROM sqlite_schema")
	return tables, err
}

// spaces reads the namespaces, and returns their numbers.
func (k *checker) spaces() (spaces []int64, err error) {
	seen := map[uuid.UUID]string{}
	err = k.query(func(stmt *lite.Stmt) error {
		name := stmt.ColumnText(1)
		incarnation, err := uuid.FromBytes(columnBytes(stmt, 2))
		if err != nil || incarnation == uuid.Nil {
			k.problemf("es_spaces", "run Fork, which gives a new one", "namespace %q has an incarnation that is no UUID", name)
		} else if other := seen[incarnation]; other != "" {
			k.problemf("es_spaces", "run Fork, which gives new ones", "namespaces %q and %q have the same incarnation", other, name)
		}
		seen[incarnation] = name
		spaces = append(spaces, stmt.ColumnInt64(0))
		k.report.Namespaces = append(k.report.Namespaces, NamespaceReport{Name: name, Head: es.Checkpoint{Incarnation: incarnation}})
		return nil
	}, "SELECT space, name, incarnation FROM es_spaces ORDER BY space")
	return spaces, err
}

// schema compares the toolkit's tables with what they should be.
func (k *checker) schema(spaces []int64) error {
	want, err := expected(k.config, int64(k.report.Schema), spaces)
	if err != nil {
		return err
	}
	got, err := statements(k.conn)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if sql := want[name]; got[name] != sql {
			k.malformed = true
			k.problemf("schema", remedyRestore, "%s is %q, and should be %q", name, got[name], sql)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, known := want[name]; !known {
			k.problemf("schema", "drop it by another program when it is of no use",
				"%s is none of the toolkit's, and has a name as if it were", name)
		}
	}
	return nil
}

// expected are the statements by which the toolkit's tables and indexes are to be made, at a version.
func expected(c Config, version int64, spaces []int64) (made map[string]string, err error) {
	model, err := openConnAt(c, ":memory:", lite.OpenReadWrite|lite.OpenCreate)
	if err != nil {
		return nil, err
	}
	defer func() {
		if end := model.closeConn(); end != nil {
			err = errors.Join(err, end)
		}
	}()
	for v := int64(1); v <= version; v++ {
		if err := runScript(model, script(v, "file.sql"), 0); err != nil {
			return nil, err
		}
		for _, space := range spaces {
			if err := upgradeSpace(model, v, space); err != nil {
				return nil, err
			}
		}
	}
	return statements(model)
}

// statements are those by which the toolkit's tables and indexes were made.
func statements(c *conn) (map[string]string, error) {
	made := map[string]string{}
	err := c.query(func(stmt *lite.Stmt) error {
		made[stmt.ColumnText(0)] = stmt.ColumnText(1)
		return nil
	}, `SELECT type || ' ' || name, sql FROM sqlite_schema WHERE name LIKE 'es\_%' ESCAPE '\'`)
	return made, err
}

// namespace looks at everything in a namespace.
func (k *checker) namespace() error {
	for _, part := range []struct {
		where, remedy string
		look          func() error
	}{
		{"events", remedyRestore, k.events},
		{"streams", remedyRestore, k.streams},
		{"IDs", remedyRestore, k.ids},
		{"index", remedyReindex, k.index},
		{"roles", remedyRestore, k.roles},
	} {
		if err := k.part(part.where, part.remedy, part.look); err != nil {
			return err
		}
	}
	return nil
}

// sql returns a statement for the namespace that is looked at.
func (k *checker) sql(query string) string { return spaced(query, k.space) }
