package postgres

// modelSQL is the statements of read models.
//
// Plans are made for whatever arguments, and some while the tables are small. So what is looked up by key is looked up one by one: the
// planner has no choice then. It has one when there is a join, or a search for any of an array: the first reads all of a table that has
// grown since, and the second all of a model.
type modelSQL struct {
	load, list, progress string

	allow, fence                         string // a commit
	addModels, lockModels                string
	lockDocuments, checkDocuments        string
	putAny, redraw, put, remove          string
	beginProgress, lockProgress          string
	moveProgress, endProgress            string
	lockAllProgress, lockAllModels, drop string // switching
	any, removeProgress, renameProgress  string
	hideModel, renameModel               string
	hidden, removeSlice, removeModel     string // sweeping
}

func newModelSQL(db *DB) modelSQL {
	const ofModel = "FROM @documents_# WHERE model = (SELECT model FROM @models_# WHERE name = $1) "
	sql := modelSQL{
		load: db.sql("SELECT g.at, d.revision, d.data FROM unnest($2::text[]) WITH ORDINALITY AS g (key, at), " +
			"LATERAL (SELECT revision, data " + ofModel + "AND key = g.key LIMIT 1) AS d"),
		list:     db.sql("SELECT key, revision, data " + ofModel + "AND key > $2 AND key >= $3 AND key < $4 ORDER BY key LIMIT $5"),
		progress: db.sql("SELECT " + progressColumns + " FROM @progress_# WHERE projection = $1"),
	}
	sql.forCommits(db)
	sql.forProgress(db)
	sql.forSwitches(db)
	sql.forSweeps(db)
	return sql
}

// The statements of a commit are sent all at once, so what one of them finds cannot decide whether the next is sent. Instead, one that
// finds that something is not as it must be says so in a setting of the transaction, and those that write look at it.
const (
	allow   = "set_config('eventsourcing.commit', 'allowed', true)"
	refuse  = "set_config('eventsourcing.commit', 'refused', true)"
	allowed = "current_setting('eventsourcing.commit') = 'allowed'"
)

func (s *modelSQL) forCommits(db *DB) {
	const (
		number   = "(SELECT m.model FROM @models_# m WHERE m.name = g.name)"
		document = " FROM @documents_# d WHERE d.model = " + number + " AND d.key = g.key"
		sorted   = ` ORDER BY 1, g.key COLLATE "C"`
		removals = "(SELECT concat(last_value, ' ', is_called) FROM @removals_#)"
	)
	s.allow = db.sql("SELECT " + allow + onePlan + ", set_config('eventsourcing.removals', " + removals + ", true)")
	// Nobody takes a lease over while its row is locked. How it is, and what time it is, is looked at when it is. In a transaction that
	// keeps its first snapshot, a lease that cannot be seen may be a new one.
	s.fence = db.sql("WITH lease AS MATERIALIZED (SELECT owner, token, until FROM @leases_# WHERE name = $1 FOR SHARE) " +
		"SELECT " + refuse + ", NOT EXISTS (SELECT FROM lease) AND current_setting('transaction_isolation') <> 'read committed' " +
		"WHERE NOT EXISTS (SELECT FROM lease WHERE owner = $2 AND token = $3 AND until > " + now + ")")

	s.addModels = db.sql("INSERT INTO @models_# (name) SELECT g.name FROM unnest($1::text[]) AS g (name) WHERE " + number + " IS NULL " +
		`ORDER BY g.name COLLATE "C" ON CONFLICT (name) DO NOTHING`)
	s.lockModels = db.sql("WITH found AS MATERIALIZED (SELECT FROM @models_# WHERE name = ANY ($1::text[]) ORDER BY name FOR KEY SHARE) " +
		"SELECT " + refuse + " WHERE (SELECT count(*) FROM found) < cardinality($1::text[])")

	// A document that is there is locked, and not changed. One that is not has its place taken, so that nobody else creates it.
	s.lockDocuments = db.sql("INSERT INTO @documents_# (model, key, revision, data) " +
		"SELECT " + number + ", g.key, 0, '' FROM unnest($1::text[], $2::text[]) AS g (name, key) WHERE " + allowed + sorted +
		" ON CONFLICT (model, key) DO UPDATE SET revision = 0 WHERE false")
	s.checkDocuments = db.sql("WITH look AS MATERIALIZED (SELECT g.at, g.expected, (SELECT d.revision" + document + ") AS revision " +
		"FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS g (name, key, expected, at) WHERE g.expected <> 0) " +
		"SELECT " + refuse + ", at, revision FROM look " +
		"WHERE NOT CASE expected WHEN -1 THEN revision = 0 WHEN -2 THEN revision > 0 ELSE revision = expected END ORDER BY at LIMIT 1")

	put := "INSERT INTO @documents_# AS d (model, key, revision, data) " +
		"SELECT g.model, g.key, nextval('@revisions_#'), g.data FROM (SELECT " + number + " AS model, g.key, g.data " +
		"FROM unnest($1::text[], $2::text[], $3::bytea[]) AS g (name, key, data) WHERE " + allowed + sorted + ") AS g " +
		"ON CONFLICT (model, key) DO UPDATE SET data = excluded.data, revision = "
	s.put = db.sql(put + "excluded.revision")
	// What is not locked beforehand has its revision drawn first. When another one was faster by then, one is drawn again: revisions only
	// rise. When another one has even deleted the document by then, there is nothing left to compare with. So whenever something was deleted
	// since the transaction began, all that was created, which is what nobody has locked before, has its revision drawn again.
	s.putAny = db.sql("WITH done AS (" + put +
		"CASE WHEN excluded.revision > d.revision THEN excluded.revision ELSE nextval('@revisions_#') END " +
		"RETURNING d.ctid AS place, d.xmax = 0 AS created) " +
		"SELECT set_config('eventsourcing.created', coalesce(array_agg(place) FILTER (WHERE created), '{}')::text, true) FROM done")
	s.redraw = db.sql("UPDATE @documents_# SET revision = nextval('@revisions_#') " +
		"WHERE ctid = ANY (current_setting('eventsourcing.created')::tid[]) AND current_setting('eventsourcing.removals') <> " + removals)

	// When it is allowed, what is to be deleted goes; when not, the places that were taken.
	s.remove = db.sql("WITH gone AS (DELETE FROM @documents_# WHERE ctid = ANY (ARRAY (" +
		"SELECT (SELECT d.ctid" + document + " AND (d.revision = 0 OR " + allowed + ")) " +
		"FROM unnest($1::text[], $2::text[], $3::boolean[]) AS g (name, key, removed) WHERE g.removed OR NOT " + allowed + ")) " +
		"RETURNING 1) SELECT nextval('@removals_#') WHERE EXISTS (SELECT FROM gone)")
}

const (
	progressColumns = "generation, epoch, incarnation, position"
	noProgress      = "0, 0, '00000000-0000-0000-0000-000000000000'::uuid, 0"
)

func (s *modelSQL) forProgress(db *DB) {
	// A checkpoint that is there is locked, and not changed. One that is not has its place taken by one that is zero.
	s.beginProgress = db.sql("INSERT INTO @progress_# (projection, " + progressColumns + ") SELECT $1, " + noProgress + " WHERE " + allowed +
		" ON CONFLICT (projection) DO UPDATE SET position = 0 WHERE false")
	s.lockProgress = db.sql("WITH found AS MATERIALIZED (SELECT " + progressColumns + " FROM @progress_# " +
		"WHERE projection = $1 FOR UPDATE), actual AS (SELECT " + progressColumns + " FROM found " +
		"UNION ALL SELECT " + noProgress + " WHERE NOT EXISTS (SELECT FROM found)) " +
		"SELECT " + refuse + ", " + progressColumns + " FROM actual WHERE (" + progressColumns + ") <> ($2, $3, $4, $5)")
	s.moveProgress = db.sql("UPDATE @progress_# SET generation = $2, epoch = $3, incarnation = $4, position = $5 " +
		"WHERE projection = $1 AND " + allowed)
	s.endProgress = db.sql("DELETE FROM @progress_# WHERE projection = $1 AND (" + progressColumns + ") = (" + noProgress + ")")
}

func (s *modelSQL) forSwitches(db *DB) {
	s.lockAllProgress = db.sql("SELECT FROM @progress_# WHERE projection = ANY ($1::text[]) ORDER BY projection FOR UPDATE")
	s.lockAllModels = db.sql("SELECT FROM @models_# WHERE name = ANY ($1::text[]) ORDER BY name FOR UPDATE")
	// Both at once, so that a model which is new is dropped with its checkpoint, or keeps it; the checkpoint first, as in a commit.
	s.drop = db.sql("WITH ended AS (DELETE FROM @progress_# WHERE projection = $1 RETURNING 1) " +
		"UPDATE @models_# SET name = NULL WHERE name = $1 AND (SELECT count(*) FROM ended) >= 0")
	s.any = db.sql("SELECT EXISTS (SELECT FROM @documents_# WHERE model = (SELECT model FROM @models_# WHERE name = $1)) " +
		"OR EXISTS (SELECT FROM @progress_# WHERE projection = $1)")
	s.removeProgress = db.sql("DELETE FROM @progress_# WHERE projection = $1")
	s.renameProgress = db.sql("UPDATE @progress_# SET projection = $2 WHERE projection = $1")
	s.hideModel = db.sql("UPDATE @models_# SET name = NULL WHERE name = $1")
	s.renameModel = db.sql("UPDATE @models_# SET name = $2 WHERE name = $1")
}

func (s *modelSQL) forSweeps(db *DB) {
	s.hidden = db.sql("SELECT model FROM @models_# WHERE name IS NULL AND model > $1 ORDER BY model LIMIT 1")
	s.removeSlice = db.sql("WITH slice AS MATERIALIZED (SELECT ctid, key FROM @documents_# WHERE model = $1 AND key > $2 " +
		"ORDER BY key LIMIT $3 FOR UPDATE SKIP LOCKED), gone AS (DELETE FROM @documents_# WHERE ctid = ANY (ARRAY (SELECT ctid FROM slice))) " +
		"SELECT count(*), coalesce(max(key), '') FROM slice")
	s.removeModel = db.sql("DELETE FROM @models_# WHERE model = $1 AND name IS NULL " +
		"AND NOT EXISTS (SELECT FROM @documents_# WHERE model = $1)")
}
