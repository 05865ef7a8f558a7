package postgres

import (
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// insertStatement inserts events, and returns their positions in the order given. The numbers are drawn in the order of the rows, which
// a scan of arrays keeps.
func insertStatement(db *DB) string {
	draw, position := "", "nextval('@positions_#')"
	if db.serial {
		draw = "drawn AS (UPDATE @state_# SET head = head + cardinality($1::bigint[]) RETURNING head - cardinality($1::bigint[]) AS before), "
		position = "(SELECT before FROM drawn) + g.number"
	}
	return db.sql("WITH " + draw + `
	inserted AS (
	  INSERT INTO @events_# (position, recorded, version, category, ` + messageColumns + `)
	  SELECT ` + position + ", " + now + `, g.version, g.category, g.id, g.stream, g.name, g.schema, g.time, g.correlation, g.causation,
	    g.content_type, g.tags::text[], g.metadata, g.data
	  FROM unnest($1::bigint[], $2::text[], $3::text[]::uuid[], $4::text[], $5::text[], $6::integer[], $7::bigint[], $8::text[], $9::text[],
	    $10::text[], $11::text[], $12::text[], $13::bytea[]) WITH ORDINALITY
	    AS g (version, category, id, stream, name, schema, time, correlation, causation, content_type, tags, metadata, data, number)
	  RETURNING position, tags
	), tagged AS (
	  INSERT INTO @tags_# (tag, position) SELECT unnest(tags), position FROM inserted
	)
	SELECT position FROM inserted ORDER BY position`)
}

// keyOfConstraint returns which key a unique constraint of the events is: "version" or "id".
func keyOfConstraint(constraint string) string {
	for _, key := range []string{"version", "id"} {
		if strings.HasPrefix(constraint, "events_") && strings.HasSuffix(constraint, "_"+key) {
			return key
		}
	}
	return ""
}

// eventRows are events to be inserted, by columns.
type eventRows struct {
	versions                                                []int64
	categories                                              []string
	ids                                                     []string
	streams, names                                          []string
	schemas                                                 []int32
	times                                                   []int64
	correlations, causations, contentTypes, tags, metadatas []*string
	data                                                    [][]byte
}

func (r *eventRows) add(m *es.Message, version int64) {
	row := rowOf(m)
	r.versions = append(r.versions, version)
	r.categories = append(r.categories, es.Category(m.Stream))
	r.ids = append(r.ids, row.ID.String())
	r.streams, r.names = append(r.streams, row.Stream), append(r.names, row.Name)
	r.schemas, r.times = append(r.schemas, row.Schema), append(r.times, row.Time)
	r.correlations, r.causations = append(r.correlations, row.Correlation), append(r.causations, row.Causation)
	r.contentTypes, r.metadatas = append(r.contentTypes, row.ContentType), append(r.metadatas, row.Metadata)
	r.tags = append(r.tags, arrayText(row.Tags))
	r.data = append(r.data, row.Data)
}

// arguments returns the arguments of the statement that inserts the rows.
func (r *eventRows) arguments() []any {
	return []any{
		r.versions, r.categories, r.ids, r.streams, r.names, r.schemas, r.times, r.correlations, r.causations, r.contentTypes, r.tags,
		r.metadatas, r.data,
	}
}

// arrayText writes texts as PostgreSQL reads an array of them, because arrays cannot have arrays of different lengths in them.
func arrayText(texts []string) *string {
	if len(texts) == 0 {
		return nil
	}
	var b strings.Builder
	for i, text := range texts {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteByte('"')
		for from := 0; ; {
			at := strings.IndexAny(text[from:], `"\`)
			if at < 0 {
				b.WriteString(text[from:])
				break
			}
			b.WriteString(text[from : from+at])
			b.WriteByte('\\')
			b.WriteByte(text[from+at])
			from += at + 1
		}
		b.WriteByte('"')
	}
	b.WriteByte('}')
	s := b.String()
	return &s
}
