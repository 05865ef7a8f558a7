package postgres

import "strings"

// outboxSQL are the statements of the outbox.
//
// Whoever looks at the entries of a stream, to hand them out or to answer them, has the row of the stream locked, and looks in a later
// statement: that one sees what everybody has done who had the lock before. Those who wait for rows of several streams take them in the
// order of their names; claims wait for none, and take those that are free.
//
// Plans are made for whatever arguments, and some while the tables are small: each step is written so that it goes by an index to the rows
// that it is about, however the planner joins.
type outboxSQL struct {
	add, addAll, withdraw, stored    string // enqueueing
	sort, pick, takeBack, handOut    string // claiming
	rest, nextReady                  string
	lock, settle                     string // streams
	complete, release, retry, bury   string // answering
	extend, held, remove             string
	find, addStream, revive, discard string // dead letters
	unpark, lastDeath, deadPage      string
	stats                            string
}

func newOutboxSQL(db *DB) outboxSQL {
	var sql outboxSQL
	sql.forEnqueueing(db)
	sql.forClaiming(db)
	sql.forAnswering(db)
	sql.forDeadLetters(db)
	sql.stats = db.sql("SELECT count(*) FILTER (WHERE death IS NULL), coalesce(min(enqueued) FILTER (WHERE death IS NULL), 0), " +
		"count(*) FILTER (WHERE death IS NULL AND failed), count(*) FILTER (WHERE death IS NOT NULL), " +
		"(SELECT count(*) FROM @outbox_streams_# WHERE parked <> 0) FROM @outbox_#")
	return sql
}

// once is the time of the database, the same for all rows of a statement. An index can be searched for it.
const once = "(SELECT " + now + ")"

func (s *outboxSQL) forEnqueueing(db *DB) {
	// The messages come in the order of their IDs, so that those who enqueue the same ones wait for each other in one order, and $12 says
	// where they stand in the call, which is the order of their places.
	add := `WITH places AS MATERIALIZED (
		  SELECT ARRAY (SELECT nextval('@outbox_places_#') FROM generate_series(1, cardinality($1::uuid[]))) AS drawn),
		added AS (
		  INSERT INTO @outbox_# (place, enqueued, ` + messageColumns + `)
		  SELECT p.drawn[g.number], ` + once + `, g.id, g.stream, g.name, g.schema, g.time, g.correlation, g.causation,
		    g.content_type, g.tags::text[], g.metadata, g.data
		  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
		    $10::text[], $11::bytea[], $12::integer[])
		    AS g (id, stream, name, schema, time, correlation, causation, content_type, tags, metadata, data, number), places p
		  ON CONFLICT (id) DO NOTHING
		  RETURNING id, place, stream, enqueued
		), noted AS (
		  INSERT INTO @outbox_new_# (place, stream, enqueued) SELECT place, stream, enqueued FROM added
		) `
	s.add = db.sql(add + "SELECT id FROM added")
	// All or none: what cannot be divided undoes the statement.
	s.addAll = db.sql(add + "SELECT 1 / (count(*) = cardinality($1::uuid[]))::integer FROM added")
	s.withdraw = db.sql(`WITH gone AS (DELETE FROM @outbox_# WHERE id = ANY ($1::uuid[]) RETURNING place)
		DELETE FROM @outbox_new_# WHERE place = ANY (ARRAY (SELECT place FROM gone))`)
	s.stored = db.sql("SELECT " + messageColumns + " FROM @outbox_# WHERE id = ANY ($1::uuid[])")
}

// The statements of a claim are one round trip, so that a client that is slow, or hangs, has nothing locked meanwhile. What the one that
// picks streams has found is handed on to the others in settings of the transaction.
const (
	pickedStreams = "current_setting('eventsourcing.streams', true)::text[]"
	pickedToken   = "current_setting('eventsourcing.token', true)::bigint"
)

func (s *outboxSQL) forClaiming(db *DB) {
	// Streams that are new are added, and those that are there are locked, so that nobody settles one who does not see its new entries. The
	// entries of a stream that another has locked stay new. One whose transaction was committed after later ones may stand among what a
	// claim was given, and counts as given back then: no claim was given what is new.
	s.sort = db.sql(`WITH new AS MATERIALIZED (
		  SELECT place, stream, enqueued FROM @outbox_new_# ORDER BY place LIMIT $1 FOR UPDATE SKIP LOCKED
		), firsts AS MATERIALIZED (
		  SELECT stream, min(enqueued) AS ready FROM new GROUP BY stream
		), added AS (
		  INSERT INTO @outbox_streams_# (stream, ready) SELECT stream, ready FROM firsts f
		  WHERE (SELECT s.stream FROM @outbox_streams_# s WHERE s.stream = f.stream) IS NULL ORDER BY stream
		  ON CONFLICT (stream) DO NOTHING RETURNING stream
		), locked AS MATERIALIZED (
		  SELECT stream, token, last, open FROM @outbox_streams_# WHERE stream = ANY (ARRAY (SELECT stream FROM firsts)) FOR UPDATE SKIP LOCKED
		), sorted AS (
		  DELETE FROM @outbox_new_# WHERE place = ANY (ARRAY (
		    SELECT place FROM new WHERE stream IN (SELECT stream FROM added UNION ALL SELECT stream FROM locked)
		  ))
		), late AS (
		  UPDATE @outbox_# o SET back = (SELECT l.token FROM locked l WHERE l.stream = o.stream) WHERE o.id = ANY (ARRAY (
		    SELECT (SELECT e.id FROM @outbox_# e WHERE e.stream = n.stream AND e.place = n.place AND e.death IS NULL)
		    FROM new n JOIN locked l ON l.stream = n.stream AND l.open > 0 AND n.place <= l.last
		  ))
		)
		UPDATE @outbox_streams_# s SET ready = f.ready FROM firsts f, locked l
		WHERE l.open = 0 AND l.stream = f.stream AND s.stream = l.stream AND (s.ready IS NULL OR s.ready > f.ready)
		  AND s.stream = ANY (ARRAY (SELECT stream FROM locked))`)
	// The token is above those that the streams had, and never the same again: a number of a sequence would be given twice if the database
	// crashed and forgot claims, which are not synced.
	s.pick = db.sql(`WITH picked AS MATERIALIZED (
		  SELECT stream, ready, token FROM @outbox_streams_# WHERE ready <= ` + once + ` ORDER BY ready LIMIT $1 FOR UPDATE SKIP LOCKED
		) SELECT set_config('eventsourcing.streams', coalesce(array_agg(stream ORDER BY ready, stream), '{}')::text, true),
		  set_config('eventsourcing.token', greatest(` + now + `, max(token) + 1)::text, true) FROM picked`)
	// The lease of a claim that had entries in hand has ended, which counts as an attempt.
	s.takeBack = db.sql(`UPDATE @outbox_# SET attempt = attempt + 1 WHERE id = ANY (ARRAY (
		  SELECT e.id FROM @outbox_streams_# s CROSS JOIN LATERAL (
		    SELECT o.id FROM @outbox_# o WHERE o.stream = s.stream AND o.death IS NULL AND o.place <= s.last AND o.back <> s.token
		      AND (SELECT n.place FROM @outbox_new_# n WHERE n.place = o.place) IS NULL
		    OFFSET 0
		  ) e WHERE s.stream = ANY (` + pickedStreams + `) AND s.open > 0
		))`)
	// Of each stream the entries up to the first one that has to wait, by turns: an equal share of each, and what is left to those that have
	// more.
	s.handOut = db.sql(`WITH claim AS MATERIALIZED (
		  SELECT ` + now + ` AS at, ` + pickedToken + ` AS token, greatest($1 / greatest(cardinality(` + pickedStreams + `), 1), 1) AS share
		), picked AS MATERIALIZED (
		  SELECT g.number, g.stream, (SELECT s.parked FROM @outbox_streams_# s WHERE s.stream = g.stream) AS parked
		  FROM unnest(` + pickedStreams + `) WITH ORDINALITY AS g (stream, number)
		), waiting AS MATERIALIZED (
		  SELECT p.number, p.stream, e.place, row_number() OVER (PARTITION BY p.number ORDER BY e.place) AS row
		  FROM picked p CROSS JOIN LATERAL (
		    SELECT place, bool_or(waits) OVER (ORDER BY place) AS waits FROM (
		      SELECT o.place, o.due > (SELECT at FROM claim)
		        OR (SELECT n.place FROM @outbox_new_# n WHERE n.place = o.place) IS NOT NULL AS waits
		      FROM @outbox_# o WHERE o.stream = p.stream AND o.death IS NULL AND (p.parked = 0 OR o.place < p.parked)
		      ORDER BY o.place LIMIT (SELECT greatest(share, $2 / greatest(cardinality(` + pickedStreams + `), 1)) FROM claim)
		    ) first
		  ) e WHERE NOT e.waits
		), handed AS MATERIALIZED (
		  SELECT number, stream, place FROM waiting ORDER BY (row - 1) / (SELECT share FROM claim), number, row LIMIT $1
		), claimed AS (
		  UPDATE @outbox_streams_# s SET token = c.token, lease = $3, until = c.at + $3, ready = c.at + $3, last = coalesce(h.last, 0),
		    open = coalesce(h.entries, 0)
		  FROM claim c, picked p LEFT JOIN (
		    SELECT stream, max(place) AS last, count(*) AS entries FROM handed GROUP BY stream
		  ) h ON h.stream = p.stream WHERE s.stream = p.stream AND s.stream = ANY (` + pickedStreams + `)
		)
		SELECT c.token, c.at + $3, o.place, o.enqueued, o.attempt, ` + columnsOf("o") + `
		FROM claim c, handed h CROSS JOIN LATERAL (
		  SELECT * FROM @outbox_# o WHERE o.stream = h.stream AND o.place = h.place AND o.death IS NULL LIMIT 1
		) o ORDER BY h.number, h.place`)
	// Those of which nothing was handed out.
	s.rest = settle(db, "s.stream = ANY ("+pickedStreams+") AND s.open = 0")
	s.nextReady = db.sql("SELECT " + now + ", CASE WHEN EXISTS (SELECT FROM @outbox_new_#) THEN 1 " +
		"ELSE coalesce((SELECT min(ready) FROM @outbox_streams_# WHERE ready IS NOT NULL), 0) END")
}

// columnsOf returns messageColumns, of a table.
func columnsOf(table string) string {
	return table + "." + strings.ReplaceAll(messageColumns, ", ", ", "+table+".")
}

// settle returns the statement that says when streams, whose rows are locked, can be claimed from next. One that has nothing any more is
// removed, and one that can be claimed from already keeps its turn.
func settle(db *DB, which string) string {
	return db.sql(`WITH found AS MATERIALIZED (
		  SELECT s.stream, s.open, s.until, s.parked, s.ready, e.place, e.due, s.open = 0 AND e.place IS NULL AND s.parked = 0 AS done
		  FROM @outbox_streams_# s LEFT JOIN LATERAL (
		    SELECT place, due FROM @outbox_# o WHERE o.stream = s.stream AND o.death IS NULL ORDER BY place LIMIT 1
		  ) e ON true WHERE ` + which + `
		), next AS MATERIALIZED (
		  SELECT stream, ready AS before, CASE
		    WHEN open > 0 THEN until
		    WHEN place IS NULL OR parked <> 0 AND parked < place THEN NULL
		    WHEN due > ` + once + ` THEN due
		    WHEN ready IS NULL OR ready > ` + once + ` THEN ` + once + `
		    ELSE ready END AS ready
		  FROM found WHERE NOT done
		), removed AS (
		  DELETE FROM @outbox_streams_# WHERE stream = ANY (ARRAY (SELECT stream FROM found WHERE done))
		)
		UPDATE @outbox_streams_# s SET ready = n.ready FROM next n WHERE s.stream = n.stream AND n.ready IS DISTINCT FROM n.before
		  AND s.stream = ANY (ARRAY (SELECT stream FROM next))`)
}

func (s *outboxSQL) forAnswering(db *DB) {
	s.lock = db.sql("SELECT FROM @outbox_streams_# WHERE stream = ANY ($1::text[]) ORDER BY stream FOR UPDATE")
	s.settle = settle(db, "s.stream = ANY ($1::text[])")
	// Those of the entries that are in the hands of their claims. The rows of the streams are locked before.
	held := `WITH held AS MATERIALIZED (
		  SELECT g.id, g.token, g.stream, g.number, o.place
		  FROM unnest($1::uuid[], $2::bigint[], $3::text[]) WITH ORDINALITY AS g (id, token, stream, number)
		  CROSS JOIN LATERAL (SELECT place, stream, death, back FROM @outbox_# WHERE id = g.id LIMIT 1) o
		  CROSS JOIN LATERAL (SELECT token, open, until, last FROM @outbox_streams_# WHERE stream = g.stream LIMIT 1) s
		  WHERE o.stream = g.stream AND s.token = g.token
		    AND o.death IS NULL AND s.open > 0 AND s.until > ` + once + ` AND s.last >= o.place AND o.back <> s.token
		)`
	const (
		which = " WHERE id = ANY (ARRAY (SELECT id FROM held))"
		back  = "back = (SELECT s.token FROM @outbox_streams_# s WHERE s.stream = o.stream)"
	)
	answered := `, done AS (SELECT stream, count(*) AS answers, min(place) AS first FROM held GROUP BY stream), counted AS (
		  UPDATE @outbox_streams_# s SET open = s.open - d.answers FROM done d WHERE s.stream = d.stream
		    AND s.stream = ANY (ARRAY (SELECT stream FROM done))
		) SELECT id, token FROM held`
	s.complete = db.sql(held + ", gone AS (DELETE FROM @outbox_#" + which + ")" + answered)
	s.release = db.sql(held + ", given AS (UPDATE @outbox_# o SET " + back + which + ")" + answered)
	s.retry = db.sql(held + ", given AS (UPDATE @outbox_# o SET " + back + ", attempt = attempt + 1, failed = true, due = " + once + " + $4" +
		which + ")" + answered)
	// They die in the order of the call.
	s.bury = db.sql(held + `, deaths AS MATERIALIZED (
		  SELECT ARRAY (SELECT id FROM held ORDER BY number) AS ids,
		    ARRAY (SELECT nextval('@outbox_deaths_#') FROM generate_series(1, (SELECT count(*) FROM held))) AS drawn
		), buried AS (
		  UPDATE @outbox_# o SET death = (SELECT drawn[array_position(ids, o.id)] FROM deaths), died = ` + once + `, error = $4, parked = $5` +
		which + `
		), done AS (
		  SELECT stream, count(*) AS answers, min(place) AS first FROM held GROUP BY stream
		), counted AS (
		  UPDATE @outbox_streams_# s SET open = s.open - d.answers,
		    parked = CASE WHEN NOT $5 THEN s.parked WHEN s.parked = 0 THEN d.first ELSE least(s.parked, d.first) END
		  FROM done d WHERE s.stream = d.stream AND s.stream = ANY (ARRAY (SELECT stream FROM done))
		) SELECT id, token FROM held`)
	s.extend = db.sql(held + `, prolonged AS (
		  UPDATE @outbox_streams_# SET until = ` + once + ` + lease WHERE stream = ANY (ARRAY (SELECT stream FROM held)) RETURNING stream, until
		) SELECT h.id, h.token, p.until FROM held h JOIN prolonged p ON p.stream = h.stream`)
	s.held = db.sql(held + " SELECT id, token FROM held")
	s.remove = db.sql(`WITH held AS (DELETE FROM @outbox_# WHERE id = ANY ($1::uuid[]) RETURNING id, stream, place, 0 AS token)` + answered)
}

func (s *outboxSQL) forDeadLetters(db *DB) {
	s.find = db.sql("SELECT id, stream FROM @outbox_# WHERE id = ANY ($1::uuid[]) AND death IS NOT NULL ORDER BY id FOR UPDATE")
	s.addStream = db.sql("INSERT INTO @outbox_streams_# AS s (stream) SELECT stream FROM unnest($1::text[]) AS g (stream) ORDER BY stream " +
		"ON CONFLICT (stream) DO UPDATE SET stream = s.stream")
	// One that stands among what a claim was given, which does not have it, counts as given back.
	s.revive = db.sql("UPDATE @outbox_# o SET death = NULL, died = NULL, error = NULL, parked = false, attempt = 1, due = 0, " +
		"failed = false, " +
		"enqueued = " + once + ", back = coalesce((SELECT s.token FROM @outbox_streams_# s WHERE s.stream = o.stream AND s.open > 0 " +
		"AND s.last >= o.place), 0) WHERE id = ANY ($1::uuid[])")
	s.discard = db.sql("DELETE FROM @outbox_# WHERE id = ANY ($1::uuid[])")
	s.unpark = db.sql("UPDATE @outbox_streams_# s SET parked = " +
		"coalesce((SELECT min(place) FROM @outbox_# o WHERE o.stream = s.stream AND o.parked), 0) WHERE s.stream = ANY ($1::text[])")
	s.lastDeath = db.sql("SELECT coalesce(max(death), 0) FROM @outbox_# WHERE death IS NOT NULL")
	// Up to $3 of them, and no more after $4 bytes.
	const columns = "death, enqueued, died, attempt, error, parked, " + messageColumns
	s.deadPage = db.sql("SELECT " + columns + " FROM (SELECT " + columns + ", sum(size) OVER (ORDER BY death) - size AS before FROM (" +
		"SELECT " + columns + ", coalesce(octet_length(data), 0) AS size FROM @outbox_# " +
		"WHERE death > $1 AND death <= $2 ORDER BY death LIMIT $3" +
		") first) page WHERE before < $4 ORDER BY death")
}
