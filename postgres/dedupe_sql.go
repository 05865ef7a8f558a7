package postgres

// dedupeSQL is the statements of dedupe. All but those that sweep take the name of the group, IDs in their order and, if there are any,
// tokens.
type dedupeSQL struct {
	addGroup, reserve               string
	lock, complete, extend, release string
	lockGroup, count, forget        string
	abandon                         string
}

func newDedupe(db *DB) *Dedupe {
	const (
		group = "(SELECT grp FROM @dedupe_groups_# WHERE name = $1)"
		// Each row is looked up by its key, however many there are: the planner takes no other way into a subquery like this one.
		heldRow = "FROM unnest($2::uuid[], $3::bigint[]) WITH ORDINALITY AS u (id, token, n), LATERAL (" +
			"SELECT ctid, number, until FROM @dedupe_# WHERE grp = " + group + " AND id = u.id AND token = u.token "
		// The rows are locked by a statement before, so that they are as they are seen.
		held = `WITH
			clock AS MATERIALIZED (SELECT ` + now + ` AS now),
			held AS MATERIALIZED (
			  SELECT u.n, d.ctid, d.number IS NULL AS open, d.until > (SELECT now FROM clock) AS live ` + heldRow + ` LIMIT 1) AS d
			)`
		openRows = "ctid = ANY (ARRAY (SELECT ctid FROM held WHERE open AND live))"
	)
	return &Dedupe{db: db, sweeper: dedupeSweeper{done: map[string]*sweepCount{}}, sql: dedupeSQL{
		addGroup: db.sql("INSERT INTO @dedupe_groups_# (name) VALUES ($1) ON CONFLICT DO NOTHING"),
		// What is not barred may have become so when its row is inserted or changed, by one who was faster. Then it is neither barred nor has
		// a token, and is to be asked for again.
		reserve: db.sql(`WITH
			g AS MATERIALIZED (SELECT grp FROM @dedupe_groups_# WHERE name = $1),
			asked AS MATERIALIZED (
			  SELECT u.n, u.id, d.number IS NOT NULL AS done, coalesce(d.until > ` + now + `, false) AS barred, d.until
			  FROM g, unnest($2::uuid[]) WITH ORDINALITY AS u (id, n)
			  LEFT JOIN LATERAL (SELECT number, until FROM @dedupe_# WHERE grp = g.grp AND id = u.id LIMIT 1) AS d ON true
			),
			taken AS (
			  INSERT INTO @dedupe_# AS d (grp, id, token, until)
			  SELECT g.grp, a.id, ` + now + `, ` + now + ` + $3 FROM g, asked AS a WHERE NOT a.barred ORDER BY a.n
			  ON CONFLICT (grp, id) DO UPDATE SET token = greatest(d.token + 1, excluded.token), until = ` + now + ` + $3, number = NULL
			  WHERE d.until <= ` + now + `
			  RETURNING id, token, until
			)
			SELECT a.n, a.done, a.barred, coalesce(t.token, 0), coalesce(t.until, a.until, 0) FROM asked AS a LEFT JOIN taken AS t USING (id)`),
		lock: db.sql("SELECT " + heldRow + " FOR UPDATE) AS d"),
		complete: db.sql(held + `,
			completed AS (
			  UPDATE @dedupe_# SET number = nextval('@dedupe_numbers_#'), until = (SELECT now FROM clock) + $4 WHERE ` + openRows + `
			)
			SELECT n FROM held WHERE live OR NOT open`),
		extend: db.sql(held + `,
			prolonged AS (UPDATE @dedupe_# SET until = (SELECT now FROM clock) + $4 WHERE ` + openRows + `)
			SELECT n, CASE WHEN open THEN (SELECT now FROM clock) + $4 ELSE 0 END FROM held WHERE live OR NOT open`),
		release: db.sql("DELETE FROM @dedupe_# WHERE ctid = ANY (ARRAY (SELECT d.ctid " + heldRow + "AND number IS NULL LIMIT 1) AS d))"),

		lockGroup: db.sql("SELECT grp, counted, swept FROM @dedupe_groups_# WHERE name = $1 FOR UPDATE SKIP LOCKED"),
		count: db.sql(`WITH
			part AS (
			  SELECT max(number) AS upto, count(*) AS entries FROM (
			    SELECT number, (row_number() OVER (ORDER BY number) - 1) / $3::bigint AS part FROM (
			      SELECT number FROM @dedupe_# WHERE grp = $1 AND number > $2 ORDER BY number LIMIT $3::bigint * $4::bigint
			    ) AS uncounted
			  ) AS numbered GROUP BY part HAVING count(*) = $3::bigint::bigint
			),
			added AS (INSERT INTO @dedupe_parts_# (grp, upto, entries, until) SELECT $1, upto, entries, ` + now + ` + $5 FROM part)
			UPDATE @dedupe_groups_# SET counted = greatest(counted, (SELECT max(upto) FROM part)) WHERE grp = $1`),
		forget: db.sql(`WITH
			old AS (
			  SELECT upto FROM (
			    SELECT upto, until, sum(entries) OVER (ORDER BY upto DESC) - entries AS newer FROM @dedupe_parts_# WHERE grp = $1
			  ) AS part WHERE newer >= $3::bigint OR until <= ` + now + ` ORDER BY upto LIMIT $4
			),
			parts AS (DELETE FROM @dedupe_parts_# AS p USING old WHERE p.grp = $1 AND p.upto = old.upto),
			mark AS (UPDATE @dedupe_groups_# SET swept = greatest(swept, (SELECT max(upto) FROM old)) WHERE grp = $1)
			DELETE FROM @dedupe_# WHERE ctid = ANY (ARRAY (
			  SELECT ctid FROM @dedupe_# WHERE grp = $1 AND number > $2 AND number <= (SELECT max(upto) FROM old)
			  ORDER BY number FOR UPDATE SKIP LOCKED
			))`),
		// The time stands in a subquery, so that it is where the scan of the index ends.
		abandon: db.sql(`DELETE FROM @dedupe_# WHERE ctid = ANY (ARRAY (
			SELECT ctid FROM @dedupe_# WHERE number IS NULL AND until <= (SELECT ` + now + `) ORDER BY until LIMIT $1
			FOR UPDATE SKIP LOCKED))`),
	}}
}
