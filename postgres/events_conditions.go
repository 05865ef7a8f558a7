package postgres

import (
	"encoding/json"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// countMatches is an expression: how many events beyond a position meet one of the criteria, as far as a limit, those left out that exempt
// says. Each branch has an index of its own; those that do not apply to a criterion cost nothing.
func countMatches(criteria, after, limit, exempt string) string {
	visible := "e.name IS NOT NULL AND coalesce((SELECT d.hidden FROM @edits_# d WHERE d.stream = e.stream), 0) < e.version" + exempt
	return `(SELECT count(DISTINCT m.position)
FROM jsonb_to_recordset(` + criteria + `::jsonb) AS k (tag text, tags text[], names text[]),
LATERAL (
  SELECT t.position FROM @tags_# t WHERE t.tag = k.tag AND t.position > ` + after + ` AND (
    SELECT e.tags @> k.tags AND (k.names IS NULL OR e.name = ANY (k.names)) AND ` + visible + `
    FROM @events_# e WHERE e.position = t.position)
  UNION ALL
  SELECT e.position FROM @events_# e WHERE k.tag IS NULL AND e.name = ANY (k.names) AND e.position > ` + after + ` AND ` + visible + `
  UNION ALL
  SELECT e.position FROM @events_# e WHERE k.tag IS NULL AND k.names IS NULL AND e.position > ` + after + ` AND ` + visible + `
  LIMIT ` + limit + `
) m)`
}

// lastHidden is an expression: the largest position that was ever hidden.
const lastHidden = "coalesce((SELECT max(d.position) FROM @edits_# d), 0)"

// criterionJSON is a criterion as an argument of a statement.
type criterionJSON struct {
	Tag   *string  `json:"tag"` // the first of the tags, which the index is asked for
	Tags  []string `json:"tags"`
	Names []string `json:"names"`
}

// criteriaJSON returns criteria as an argument of a statement.
func criteriaJSON(criteria []es.Criterion) string {
	list := make([]criterionJSON, len(criteria))
	for i, c := range criteria {
		list[i] = criterionJSON{Tags: nilIfEmpty(c.Tags), Names: nilIfEmpty(c.Names)}
		if len(c.Tags) > 0 {
			list[i].Tag = &c.Tags[0]
		}
	}
	text, _ := json.Marshal(list) //nolint:errchkjson // texts can always be written
	return string(text)
}

// queueCondition adds the statement to a batch that checks a condition for an append with the IDs given.
func (l *lanes) queueCondition(b *pgx.Batch, c *es.Condition, ids []string, verdict *error) {
	b.Queue(l.sql.countMatches, criteriaJSON(c.Match), c.After, c.Seen+1, ids).QueryRow(func(row pgx.Row) error {
		var matches int
		var hidden int64
		if err := row.Scan(&matches, &hidden); err != nil {
			return err
		}
		*verdict = judge(c, matches, hidden)
		return nil
	})
}

// judge returns an error when events match a condition that its maker has not seen. Hidden events match nothing; but when some were
// hidden beyond After, it cannot be told any more whether they are among those that were seen, and the decision is to be made again.
func judge(c *es.Condition, matches int, hidden int64) error {
	if matches <= c.Seen && (c.Seen == 0 || hidden <= c.After) {
		return nil
	}
	broken := *c
	broken.Match = slices.Clone(c.Match)
	return &es.ConflictError{Condition: &broken, Matches: matches}
}

// idsOf returns the IDs of the events of an append.
func idsOf(a *es.Append) [][16]byte {
	ids := make([][16]byte, 0, 8)
	for i := range a.Streams {
		for _, m := range a.Streams[i].Events {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// idTexts returns the IDs of the events of an append as texts, which can be arguments whatever is known of a statement.
func idTexts(a *es.Append) []string {
	ids := make([]string, 0, 8)
	for _, id := range idsOf(a) {
		ids = append(ids, uuid.UUID(id).String())
	}
	return ids
}
