-- What consumer groups have handled, and are handling.
CREATE TABLE es_dedupe_groups_$ (
  grp INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  token INTEGER NOT NULL,  -- the last one that was given
  done INTEGER NOT NULL,   -- how many messages are remembered as handled
  swept INTEGER NOT NULL   -- up to which entry was looked for reservations that nobody completed
);
CREATE TABLE es_dedupe_$ (
  entry INTEGER PRIMARY KEY,
  grp INTEGER NOT NULL,
  id BLOB NOT NULL,
  token INTEGER NOT NULL,
  until INTEGER NOT NULL,  -- of the reservation
  done INTEGER             -- when it was handled; NULL: it is reserved
);
CREATE UNIQUE INDEX es_dedupe_$_id ON es_dedupe_$ (grp, id);
CREATE INDEX es_dedupe_$_done ON es_dedupe_$ (grp, done) WHERE done IS NOT NULL;
