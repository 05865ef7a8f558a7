package postgres

import (
	"encoding/json"
	"slices"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// planned makes PostgreSQL plan the statements of reads as they are meant: by the indexes, from one event to the next, as many as are
// asked for. Left to its statistics it changes its mind when those are old, as they are after a table was filled, and reads the whole
// table for each page; a plan that was made when the table was small it even keeps. It holds for the transaction, which is the page.
const planned = "SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true), " +
	"set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true), " +
	"set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true)"

// The statements of reads. The first two arguments bound the positions, or the versions of the stream, the third one is how many events
// to read at most; {desc} is DESC for those that read backward.
//
// Where one of several indexes could give the events in order, the order is that of all the columns of the one that is meant, and the
// columns are compared as rows: the others do not have that order.
const (
	eventColumns = "position, version, recorded, " + messageColumns

	// What was truncated or deleted is passed over at once.
	readStream = "SELECT " + eventColumns + " FROM @events_# e " +
		"WHERE stream = {stream} AND version BETWEEN greatest($1, (SELECT hidden + 1 FROM @edits_# WHERE stream = {stream})) AND $2 " +
		"AND name IS NOT NULL"

	readVersion = "SELECT coalesce((SELECT version FROM @events_# WHERE stream = $1 ORDER BY version DESC LIMIT 1), 0)"

	readAll = "SELECT " + eventColumns + " FROM @events_# e WHERE position BETWEEN $1 AND $2 AND name IS NOT NULL"

	readCategory = "SELECT " + eventColumns + " FROM @events_# e " +
		"WHERE (category, position) >= ($4, $1) AND (category, position) <= ($4, $2) AND name IS NOT NULL " +
		"ORDER BY category {desc}, position {desc} LIMIT $3"

	readTag = "SELECT " + eventColumns + " FROM (" +
		"SELECT position FROM @tags_# WHERE tag = $4 AND position BETWEEN $1 AND $2 ORDER BY position {desc} LIMIT $3" +
		") AS found (place)," + eventsFound

	// eventsFound gets the events at the positions that were found, one by one: with OFFSET they are not got in another way.
	eventsFound = " LATERAL (SELECT " + eventColumns + " FROM @events_# WHERE position = place OFFSET 0) AS e ORDER BY place {desc}"

	// matching adds criteria to a statement that reads all that is there.
	matching = " AND ($5::text IS NULL OR category = $5) AND EXISTS (" +
		"SELECT FROM jsonb_to_recordset($4::jsonb) AS c (names text[], tags text[]) " +
		"WHERE (c.names IS NULL OR e.name = ANY (c.names)) AND (c.tags IS NULL OR e.tags @> c.tags) OFFSET 0)"

	// Of what a criterion asks for, that is looked up in its index of which there is least: the one whose 64th event is the farthest.
	// The rest is asked of the events that are found. Each criterion, and each name, gives as many positions as the page has.
	readCriteria = "SELECT " + eventColumns + ` FROM (
  SELECT DISTINCT found.position
  FROM jsonb_to_recordset($4::jsonb) AS c (names text[], tags text[]),
  LATERAL (
    SELECT source.kind, source.tag FROM (
      SELECT 'tag' AS kind, tag, (
        SELECT t.position FROM @tags_# t WHERE t.tag = one.tag AND t.position BETWEEN $1 AND $2 ORDER BY t.position {desc} OFFSET 63 LIMIT 1
      ) AS mark FROM unnest(c.tags) AS one (tag)
      UNION ALL
      SELECT 'names', NULL, (SELECT {nearest}(mark) FROM (
        SELECT (
          SELECT e.position FROM @events_# e WHERE (e.name, e.position) >= (one.name, $1) AND (e.name, e.position) <= (one.name, $2)
          ORDER BY e.name {desc}, e.position {desc} OFFSET 63 LIMIT 1
        ) FROM unnest(c.names) AS one (name)
      ) AS marks (mark)) WHERE c.names IS NOT NULL
      UNION ALL
      SELECT 'category', NULL, (
        SELECT e.position FROM @events_# e WHERE (e.category, e.position) >= ($5, $1) AND (e.category, e.position) <= ($5, $2)
        ORDER BY e.category {desc}, e.position {desc} OFFSET 63 LIMIT 1
      ) WHERE $5::text IS NOT NULL
    ) AS source ORDER BY source.mark {farthest} NULLS FIRST, source.kind DESC LIMIT 1
  ) AS sparsest,
  LATERAL (
    (SELECT t.position FROM @tags_# t, LATERAL (SELECT name, category, tags FROM @events_# WHERE position = t.position OFFSET 0) e
     WHERE sparsest.kind = 'tag' AND t.tag = sparsest.tag AND t.position BETWEEN $1 AND $2
       AND e.tags @> c.tags AND (c.names IS NULL OR e.name = ANY (c.names)) AND ($5::text IS NULL OR e.category = $5)
     ORDER BY t.position {desc} LIMIT $3)
    UNION ALL
    (SELECT named.position FROM unnest(c.names) AS one (name), LATERAL (
       SELECT e.position FROM @events_# e
       WHERE sparsest.kind = 'names' AND (e.name, e.position) >= (one.name, $1) AND (e.name, e.position) <= (one.name, $2)
         AND (c.tags IS NULL OR e.tags @> c.tags) AND ($5::text IS NULL OR e.category = $5)
       ORDER BY e.name {desc}, e.position {desc} LIMIT $3
     ) AS named)
    UNION ALL
    (SELECT e.position FROM @events_# e
     WHERE sparsest.kind = 'category' AND (e.category, e.position) >= ($5, $1) AND (e.category, e.position) <= ($5, $2)
       AND e.name IS NOT NULL AND (c.tags IS NULL OR e.tags @> c.tags) AND (c.names IS NULL OR e.name = ANY (c.names))
     ORDER BY e.category {desc}, e.position {desc} LIMIT $3)
  ) AS found
  ORDER BY found.position {desc} LIMIT $3
) AS found (place),` + eventsFound
)

// readStatements are the statements of reads in a namespace, in one direction.
type readStatements struct {
	stream, streamMatching, all, allMatching, category, tag, criteria string
}

func newReadStatements(n names, d direction) readStatements {
	statement := func(parts ...string) string { return n.sql(d.words().Replace(strings.Join(parts, ""))) }
	stream := func(argument string) string { return strings.ReplaceAll(readStream, "{stream}", argument) }
	const byVersion, byPosition = " ORDER BY version {desc} LIMIT $3", " ORDER BY position {desc} LIMIT $3"
	return readStatements{
		stream:         statement(stream("$4"), byVersion),
		streamMatching: statement(stream("$6"), matching, byVersion),
		all:            statement(readAll, byPosition),
		allMatching:    statement(readAll, matching, byPosition),
		category:       statement(readCategory),
		tag:            statement(readTag),
		criteria:       statement(readCriteria),
	}
}

// direction is the one of a read.
type direction int

const (
	forward direction = iota
	backward
)

// words are those in a statement that depend on the direction.
func (d direction) words() *strings.Replacer {
	if d == backward {
		return strings.NewReplacer("{desc}", "DESC", "{farthest}", "ASC", "{nearest}", "max")
	}
	return strings.NewReplacer("{desc}", "", "{farthest}", "DESC", "{nearest}", "min")
}

// selection is what a query selects, as statements take it: the events of a category, if there is one, that meet one of the criteria, if
// there are any.
type selection struct {
	category *string
	criteria []es.Criterion
	encoded  string // the criteria, for a statement
	nothing  bool   // no event can be selected
}

// selectionOf brings a query to what statements take: what holds for all is made a part of each criterion.
func selectionOf(q *es.Query) (selection, error) {
	s := selection{category: unless(q.Category, "")}
	all := es.Criterion{Names: q.Names, Tags: q.Tags}
	switch {
	case len(q.Any) > 0:
		for _, c := range q.Any {
			if both, possible := and(all, c); possible {
				s.criteria = append(s.criteria, both)
			}
		}
		s.nothing = len(s.criteria) == 0
	case !selectsAll(all):
		s.criteria = []es.Criterion{all}
	}
	if slices.ContainsFunc(s.criteria, selectsAll) {
		s.criteria = nil
	}
	if len(s.criteria) == 0 {
		s.encoded = `[{}]`
		return s, nil
	}
	encoded, err := encodeCriteria(s.criteria)
	s.encoded = encoded
	return s, err
}

func selectsAll(c es.Criterion) bool { return len(c.Names)+len(c.Tags) == 0 }

// and returns the criterion that an event meets when it meets both, and whether one can.
func and(a, b es.Criterion) (both es.Criterion, possible bool) {
	both = es.Criterion{Names: a.Names, Tags: slices.Concat(a.Tags, b.Tags)}
	if len(b.Names) == 0 {
		return both, true
	}
	if both.Names = b.Names; len(a.Names) > 0 {
		both.Names = slices.DeleteFunc(slices.Clone(b.Names), func(name string) bool { return !slices.Contains(a.Names, name) })
	}
	return both, len(both.Names) > 0
}

// encodeCriteria returns criteria as a statement takes them: no names, or no tags, are null there.
func encodeCriteria(criteria []es.Criterion) (string, error) {
	type encoded struct {
		Names []string `json:"names"`
		Tags  []string `json:"tags"`
	}
	list := make([]encoded, len(criteria))
	for i, c := range criteria {
		list[i] = encoded{Names: nilIfEmpty(c.Names), Tags: nilIfEmpty(c.Tags)}
	}
	text, err := json.Marshal(list)
	return string(text), err
}

// selective tells whether less than everything is selected.
func (s *selection) selective() bool { return s.category != nil || len(s.criteria) > 0 }

// onlyTag returns the tag when nothing but one is asked for.
func (s *selection) onlyTag() (string, bool) {
	if s.category != nil || len(s.criteria) != 1 || len(s.criteria[0].Names) > 0 || len(s.criteria[0].Tags) != 1 {
		return "", false
	}
	return s.criteria[0].Tags[0], true
}
