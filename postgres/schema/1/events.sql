-- Positions are drawn from this sequence, and by nothing else than appends: who holds its lock may still fill a gap.
CREATE SEQUENCE @positions_# AS bigint CACHE 1;

CREATE TABLE @events_# (
  position bigint PRIMARY KEY,
  version bigint NOT NULL,
  id uuid NOT NULL,
  stream text COLLATE "C" NOT NULL,
  category text COLLATE "C" NOT NULL,
  name text COLLATE "C",   -- NULL: the event is hidden for good, and data is a hash of what it said
  schema integer,
  time bigint,             -- microseconds since 1970, as recorded
  recorded bigint,
  correlation text,        -- NULL: empty, here and below
  causation text,
  content_type text,       -- NULL: application/json
  tags text[] COLLATE "C",
  metadata text,           -- a JSON object of strings; json would change what text it is
  data bytea,
  CONSTRAINT events_#_version UNIQUE (stream, version),
  CONSTRAINT events_#_id UNIQUE (id)
);
CREATE INDEX events_#_category ON @events_# (category, position);
CREATE INDEX events_#_name ON @events_# (name, position);

-- The tags of events that are not hidden. A b-tree, which stays as fast as it is when it grows.
CREATE TABLE @tags_# (
  tag text COLLATE "C" NOT NULL,
  position bigint NOT NULL,
  PRIMARY KEY (tag, position)
);

-- Streams that were truncated or deleted.
CREATE TABLE @edits_# (
  stream text COLLATE "C" PRIMARY KEY,
  hidden bigint NOT NULL,      -- nobody reads versions up to this one
  deleted smallint NOT NULL,   -- 0 no, 1 softly, 2 for good
  position bigint NOT NULL     -- of the last event that is hidden
);
CREATE INDEX edits_#_position ON @edits_# (position);

-- One row.
CREATE TABLE @state_# (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  edits bigint NOT NULL,    -- rises with every edit and erasure: what was read before may look different now
  head bigint NOT NULL      -- the last position given, where positions are given serially; 0 elsewhere
);
INSERT INTO @state_# (edits, head) VALUES (0, 0);
