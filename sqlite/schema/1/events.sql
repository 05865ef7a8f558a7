-- The events. Position is the rowid, and nothing else is indexed: an append only adds to the end of the table. What finds events
-- stands in es_runs_$ and es_blocks_$, and can be made again from here. Data is the last column, so that who wants only the others
-- does not read the pages that a large one goes on in.
CREATE TABLE es_events_$ (
  position INTEGER PRIMARY KEY,
  version INTEGER NOT NULL,
  id BLOB NOT NULL,
  stream TEXT NOT NULL,
  name TEXT,             -- NULL: the event is hidden for good, and data is a hash of what it said
  schema INTEGER,
  time INTEGER,          -- microseconds since 1970
  recorded INTEGER,
  correlation TEXT,      -- NULL: empty, here and below
  causation TEXT,
  content_type TEXT,     -- NULL: application/json
  tags TEXT,             -- a JSON array of strings
  metadata TEXT,         -- a JSON object of strings
  data BLOB
) STRICT;

-- Streams that were truncated or deleted.
CREATE TABLE es_edits_$ (
  stream TEXT PRIMARY KEY,
  edit INTEGER NOT NULL,     -- rises with each edit of any stream
  hidden INTEGER NOT NULL,   -- nobody reads versions up to this one
  cleared INTEGER NOT NULL,  -- of these, the versions up to this one are gone from es_events_$
  deleted INTEGER NOT NULL,  -- 0 no, 1 softly, 2 for good
  position INTEGER NOT NULL  -- of the last event that is hidden
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX es_edits_$_edit ON es_edits_$ (edit);

-- One row: what readers must know to trust what they keep in memory.
CREATE TABLE es_state_$ (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  name TEXT NOT NULL CHECK (name = 'es_state_$'), -- so that no page of another table passes for this one
  runs INTEGER NOT NULL,  -- rises when the runs change
  run INTEGER NOT NULL,   -- the last run that was begun
  edits INTEGER NOT NULL  -- the largest edit
) STRICT;
INSERT INTO es_state_$ VALUES (1, 'es_state_$', 0, 0, 0);

-- The index: runs of blocks, each run over the positions beyond base up to last.
CREATE TABLE es_runs_$ (
  run INTEGER PRIMARY KEY,
  base INTEGER NOT NULL,
  last INTEGER NOT NULL,
  level INTEGER NOT NULL,
  events INTEGER NOT NULL,
  blocks INTEGER NOT NULL,
  root BLOB               -- NULL while the run is being written
) STRICT;
CREATE TABLE es_blocks_$ (
  block INTEGER PRIMARY KEY, -- run * 16777216 + number in the run
  data BLOB NOT NULL
) STRICT;
