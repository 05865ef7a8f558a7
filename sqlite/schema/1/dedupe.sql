-- Consumer groups that handle each message once.
CREATE TABLE es_dedupe_groups_$ (
  grp INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  token INTEGER NOT NULL,  -- the last one that was given
  newest INTEGER NOT NULL, -- number of the message that was handled last
  swept INTEGER NOT NULL   -- messages up to this number are gone
) STRICT;

-- Messages that are being handled. They are few, and stand apart from those that were handled, so that to take one and to give it up
-- touch one page that is in memory, whatever the IDs are like. What begins with the ID keeps the groups that handle one message
-- together.
CREATE TABLE es_dedupe_reserved_$ (
  id BLOB NOT NULL,
  grp INTEGER NOT NULL,
  token INTEGER NOT NULL,
  until INTEGER NOT NULL,  -- microseconds since 1970, as all times
  PRIMARY KEY (id, grp)
) STRICT, WITHOUT ROWID;

-- Messages that were handled, numbered in the order in which they were completed, so that the oldest go first.
CREATE TABLE es_dedupe_done_$ (
  grp INTEGER NOT NULL,
  number INTEGER NOT NULL,
  id BLOB NOT NULL,
  token INTEGER NOT NULL,  -- of the reservation that was completed
  time INTEGER NOT NULL,   -- when it was completed
  PRIMARY KEY (grp, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX es_dedupe_$_id ON es_dedupe_done_$ (id, grp);
