-- The outbox. An entry is written once, and removed when it is done. What happens to it in between stands elsewhere, for those few to
-- whom something happens: a message may be large, and is not to be written again with each attempt.
CREATE TABLE es_outbox_$ (
  entry INTEGER PRIMARY KEY,  -- its number, in the order in which they were enqueued or replayed; none is ever given again
  place INTEGER NOT NULL,     -- in the order of its stream: the number that it had when it was enqueued
  enqueued INTEGER NOT NULL,  -- or replayed; microseconds since 1970, as all times here
  id BLOB NOT NULL,           -- this and what follows is as in es_events_$
  stream TEXT NOT NULL,
  name TEXT NOT NULL,
  schema INTEGER NOT NULL,
  time INTEGER NOT NULL,
  correlation TEXT,
  causation TEXT,
  content_type TEXT,
  tags TEXT,
  metadata TEXT,
  data BLOB
) STRICT;
CREATE UNIQUE INDEX es_outbox_$_id ON es_outbox_$ (id);

-- The entries in the order of their streams. Who enqueues leaves it to the next claim to sort in what has arrived: otherwise each commit
-- would write about as many pages of this tree, and of those for the streams, as it has entries.
CREATE TABLE es_outbox_order_$ (
  stream TEXT NOT NULL,
  place INTEGER NOT NULL,
  entry INTEGER NOT NULL,
  PRIMARY KEY (stream, place)
) STRICT, WITHOUT ROWID;

-- Entries that came back from a claim.
CREATE TABLE es_outbox_tries_$ (
  entry INTEGER PRIMARY KEY,
  attempt INTEGER NOT NULL,  -- the next one; 1 is that of entries that are not here
  due INTEGER NOT NULL,      -- when that may be; 0: at once
  failed INTEGER NOT NULL,   -- 1: it has failed before
  back INTEGER NOT NULL      -- the token of the claim that has given it back; 0: none has
) STRICT;

-- Streams that have entries which are sorted in, or wait for a dead letter. What a claim has in hand of a stream are the entries up to
-- last, but for those that it has given back: so a claim writes one row for each stream, and none for an entry.
CREATE TABLE es_outbox_streams_$ (
  stream TEXT PRIMARY KEY,
  ready INTEGER,           -- when it can be claimed from; NULL: not before something is done about a dead letter
  token INTEGER NOT NULL,  -- of the claim
  lease INTEGER NOT NULL,  -- for how long it was made, in microseconds
  until INTEGER NOT NULL,  -- when its lease ends
  last INTEGER NOT NULL,   -- the place of the last entry that it was given
  open INTEGER NOT NULL,   -- how many entries it has in hand; 0: there is no claim
  parked INTEGER NOT NULL  -- the place of the first dead letter that the stream waits for; 0: there is none
) STRICT, WITHOUT ROWID;
CREATE INDEX es_outbox_streams_$_ready ON es_outbox_streams_$ (ready) WHERE ready IS NOT NULL;

CREATE TABLE es_outbox_dead_$ (
  death INTEGER PRIMARY KEY,  -- in the order in which they died
  place INTEGER NOT NULL,
  enqueued INTEGER NOT NULL,
  died INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  error TEXT NOT NULL,
  parked INTEGER NOT NULL,    -- 1: its stream waits for it
  id BLOB NOT NULL,
  stream TEXT NOT NULL,
  name TEXT NOT NULL,
  schema INTEGER NOT NULL,
  time INTEGER NOT NULL,
  correlation TEXT,
  causation TEXT,
  content_type TEXT,
  tags TEXT,
  metadata TEXT,
  data BLOB
) STRICT;
CREATE UNIQUE INDEX es_outbox_dead_$_id ON es_outbox_dead_$ (id);
CREATE INDEX es_outbox_dead_$_parked ON es_outbox_dead_$ (stream, place) WHERE parked = 1;

-- One row: the last numbers that were given, how far the entries are sorted in, and how much there is of what.
CREATE TABLE es_outbox_state_$ (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  name TEXT NOT NULL CHECK (name = 'es_outbox_state_$'), -- as in es_state_$
  entry INTEGER NOT NULL,
  sorted INTEGER NOT NULL,    -- entries up to this one are sorted in by their streams; of later ones those that were replayed are
  token INTEGER NOT NULL,     -- of a claim
  depth INTEGER NOT NULL,     -- entries
  retrying INTEGER NOT NULL,  -- those of them that have failed before
  dead INTEGER NOT NULL,      -- dead letters
  parked INTEGER NOT NULL     -- streams that wait for one
) STRICT;
INSERT INTO es_outbox_state_$ VALUES (1, 'es_outbox_state_$', 0, 0, 0, 0, 0, 0, 0);
