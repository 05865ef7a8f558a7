-- Places of entries: in a stream, those that are enqueued one after the other have rising ones.
CREATE SEQUENCE @outbox_places_# AS bigint;
-- The order in which entries died.
CREATE SEQUENCE @outbox_deaths_# AS bigint;

-- The outbox: what waits, and what has died. It is one table, so that an ID is in it once, whatever becomes of it.
CREATE TABLE @outbox_# (
  place bigint NOT NULL,
  enqueued bigint NOT NULL,             -- or replayed; microseconds since 1970, as all times here
  attempt integer NOT NULL DEFAULT 1,   -- the next one, or that which it died of
  due bigint NOT NULL DEFAULT 0,        -- when that may be; 0: at once
  failed boolean NOT NULL DEFAULT false,
  back bigint NOT NULL DEFAULT 0,       -- the token of the claim that has given it back, or never had it; 0: there is none
  death bigint,                         -- NULL: it lives
  died bigint,
  error text,
  parked boolean NOT NULL DEFAULT false, -- its stream waits for it
  id uuid NOT NULL,                     -- this and what follows is as in events_#
  stream text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  schema integer NOT NULL,
  time bigint NOT NULL,
  correlation text,
  causation text,
  content_type text,
  tags text[] COLLATE "C",
  metadata text,
  data bytea,
  CONSTRAINT outbox_#_id PRIMARY KEY (id)
);
CREATE UNIQUE INDEX outbox_#_stream ON @outbox_# (stream, place) WHERE death IS NULL;
CREATE INDEX outbox_#_death ON @outbox_# (death) WHERE death IS NOT NULL;
CREATE INDEX outbox_#_parked ON @outbox_# (stream, place) WHERE parked;

-- Entries that no claim has looked at, and none has handed out. Who enqueues writes here and touches nothing that others use, so that
-- nobody waits for a transaction that takes its time.
CREATE TABLE @outbox_new_# (
  place bigint PRIMARY KEY,
  stream text COLLATE "C" NOT NULL,
  enqueued bigint NOT NULL
);

-- Streams that have entries, or wait for a dead letter. What a claim has in hand of a stream are the entries up to last, but for those
-- that it has given back: so a claim writes one row for each stream, and none for an entry.
CREATE TABLE @outbox_streams_# (
  stream text COLLATE "C" PRIMARY KEY,
  ready bigint,                      -- when it can be claimed from; NULL: not before something is done about a dead letter
  token bigint NOT NULL DEFAULT 0,   -- of the claim
  lease bigint NOT NULL DEFAULT 0,   -- for how long it was made, in microseconds
  until bigint NOT NULL DEFAULT 0,   -- when its lease ends
  last bigint NOT NULL DEFAULT 0,    -- the place of the last entry that it was given
  open bigint NOT NULL DEFAULT 0,    -- how many entries it has in hand; 0: there is no claim
  parked bigint NOT NULL DEFAULT 0   -- the place of the first dead letter that the stream waits for; 0: there is none
);
CREATE INDEX outbox_streams_#_ready ON @outbox_streams_# (ready) WHERE ready IS NOT NULL;
