package sqlite

// remedySort is for what follows from the entries of the outbox.
const remedySort = "run Reindex, which sorts the entries in again"

// outboxUnseen is true of a stream that has entries to give, and is not among those that are ready, or whose lease will end.
const outboxUnseen = "ready IS NULL AND EXISTS (SELECT 1 FROM es_outbox_order_$ o WHERE o.stream = es_outbox_streams_$.stream AND " +
	"(parked = 0 OR o.place < parked))"

// outboxRules are those of the outbox.
func outboxRules() []rule {
	const parkedStreams = "(SELECT stream, min(place) AS n FROM es_outbox_dead_$ WHERE parked = 1 GROUP BY stream)"
	return []rule{
		ownRow("outbox", "es_outbox_state_$"),
		{
			"outbox", "SELECT depth, n FROM es_outbox_state_$, (SELECT count(*) AS n FROM es_outbox_$) WHERE depth <> n",
			"it has %s entries by its counter, and %s by count", remedyCounter,
		},
		{
			"outbox", "SELECT retrying, n FROM es_outbox_state_$, (SELECT count(*) AS n FROM es_outbox_tries_$ WHERE failed = 1) " +
				"WHERE retrying <> n",
			"%s entries have failed before by its counter, and %s by count", remedyCounter,
		},
		{
			"outbox", "SELECT dead, n FROM es_outbox_state_$, (SELECT count(*) AS n FROM es_outbox_dead_$) WHERE dead <> n",
			"it has %s dead letters by its counter, and %s by count", remedyCounter,
		},
		{
			"outbox", "SELECT s.parked, n FROM es_outbox_state_$ s, (SELECT count(*) AS n FROM " + parkedStreams + ") WHERE s.parked <> n",
			"%s streams wait for a dead letter by its counter, and %s by count", remedyCounter,
		},
		{
			"outbox", "SELECT s.entry, n FROM es_outbox_state_$ s, (SELECT max(ifnull((SELECT max(max(entry, place)) FROM es_outbox_$), 0), " +
				"ifnull((SELECT max(place) FROM es_outbox_dead_$), 0)) AS n) WHERE s.entry < n",
			"the last number that was given is %s, and there is a %s", remedyRestore,
		},
		{
			"outbox", "SELECT s.token, n FROM es_outbox_state_$ s, (SELECT max(ifnull((SELECT max(token) FROM es_outbox_streams_$), 0), " +
				"ifnull((SELECT max(back) FROM es_outbox_tries_$), 0)) AS n) WHERE s.token < n",
			"the last token that was given is %s, and there is a %s", remedyRestore,
		},
		{
			"outbox", "SELECT sorted, entry FROM es_outbox_state_$ WHERE sorted > entry",
			"entries are sorted in up to %s, and the last is %s", remedySort,
		},
		{
			"outbox", "SELECT DISTINCT stream FROM es_outbox_order_$ WHERE stream NOT IN (SELECT stream FROM es_outbox_streams_$)",
			"stream %q has entries that nobody is given", remedySort,
		},
		{
			"outbox", "SELECT stream FROM es_outbox_streams_$ WHERE " + outboxUnseen,
			"stream %q has entries to give, and is not among those that are ready", remedySort,
		},
		{
			"outbox", "SELECT entry FROM es_outbox_$ WHERE (entry <= (SELECT sorted FROM es_outbox_state_$) OR place <> entry) AND NOT EXISTS " +
				"(SELECT 1 FROM es_outbox_order_$ r WHERE r.stream = es_outbox_$.stream AND r.place = es_outbox_$.place)",
			"entry %s is not sorted in, and nobody is given it", remedySort,
		},
		{
			"outbox", "SELECT stream, place FROM es_outbox_order_$ r WHERE NOT EXISTS " +
				"(SELECT 1 FROM es_outbox_$ e WHERE e.entry = r.entry AND e.stream = r.stream AND e.place = r.place)",
			"stream %q has an entry at place %s that is not there", remedySort,
		},
		{
			"outbox", "SELECT entry FROM es_outbox_tries_$ WHERE entry NOT IN (SELECT entry FROM es_outbox_$)",
			"entry %s was tried, and is not there", remedyRestore,
		},
		{
			"outbox", "SELECT entry FROM es_outbox_tries_$ WHERE attempt < 1 + failed OR failed NOT IN (0, 1) OR due <> 0 AND failed = 0",
			"what entry %s has gone through cannot be so", remedyRestore,
		},
		{
			"outbox", "SELECT s.stream, s.parked, ifnull(d.n, 0) FROM es_outbox_streams_$ s LEFT JOIN " + parkedStreams +
				" d USING (stream) WHERE s.parked <> ifnull(d.n, 0)",
			"stream %q waits for the dead letter at place %s, and the first is at %s", remedyRestore,
		},
		{
			"outbox", "SELECT stream, open, n FROM (SELECT s.stream, s.open, (SELECT count(*) FROM es_outbox_order_$ o " +
				"LEFT JOIN es_outbox_tries_$ t USING (entry) WHERE o.stream = s.stream AND o.place <= s.last AND " +
				"ifnull(t.back, 0) <> s.token) AS n FROM es_outbox_streams_$ s WHERE s.open > 0) WHERE open <> n",
			"the claim of stream %q has %s entries in hand by its counter, and %s by count", "it ends with the lease of the claim",
		},
	}
}
