-- The outbox. Entries of a stream are handed out in the order of seq, from the first on, to one claim at a time.
CREATE TABLE es_outbox_$ (
  seq INTEGER PRIMARY KEY,
  enqueued INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  due INTEGER NOT NULL,      -- when to try it again; 0: at once
  answered INTEGER NOT NULL, -- the token of the claim that has given it back
  failed INTEGER NOT NULL,   -- 1: it has failed before
  replayed INTEGER NOT NULL, -- 1: it was a dead letter
  id BLOB NOT NULL,          -- this and what follows is as in es_events_$
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
);
CREATE UNIQUE INDEX es_outbox_$_id ON es_outbox_$ (id);
CREATE INDEX es_outbox_$_stream ON es_outbox_$ (stream, seq);
CREATE INDEX es_outbox_$_failed ON es_outbox_$ (failed) WHERE failed = 1;
CREATE INDEX es_outbox_$_replayed ON es_outbox_$ (enqueued) WHERE replayed = 1;

-- Streams that have entries, or wait for a dead letter. What a claim has in hand of a stream are its entries up to last that the claim
-- has not answered: so a claim writes one row for each stream, and none for an entry.
CREATE TABLE es_outbox_streams_$ (
  stream TEXT PRIMARY KEY,
  ready INTEGER,           -- when it can be claimed from; NULL: not before something is done about a dead letter
  token INTEGER NOT NULL,  -- of the claim
  lease INTEGER NOT NULL,  -- for how long it was made, in microseconds
  until INTEGER NOT NULL,  -- when its lease ends
  last INTEGER NOT NULL,
  open INTEGER NOT NULL    -- how many entries it has in hand; 0: there is no claim
) WITHOUT ROWID;
CREATE INDEX es_outbox_streams_$_ready ON es_outbox_streams_$ (ready) WHERE ready IS NOT NULL;

CREATE TABLE es_outbox_dead_$ (
  death INTEGER PRIMARY KEY AUTOINCREMENT,
  seq INTEGER NOT NULL,
  enqueued INTEGER NOT NULL,
  died INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  error TEXT NOT NULL,
  parked INTEGER NOT NULL, -- 1: its stream waits for it
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
);
CREATE UNIQUE INDEX es_outbox_dead_$_id ON es_outbox_dead_$ (id);
CREATE INDEX es_outbox_dead_$_parked ON es_outbox_dead_$ (stream, seq) WHERE parked = 1;

-- One row of counters.
CREATE TABLE es_outbox_state_$ (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  seq INTEGER NOT NULL,   -- the last that was given
  token INTEGER NOT NULL, -- the last that was given
  depth INTEGER NOT NULL  -- how many entries there are
);
INSERT INTO es_outbox_state_$ VALUES (1, 0, 0, 0);
