-- What a file has once.
--
-- All tables are STRICT, here and in the other scripts: so SQLite's integrity_check tells when a page of one tree stands in the place of
-- another. A table without an index has a row of columns whose types no other tree begins with, or a name of its own in it.

-- Namespaces. The tables of one end with its number.
CREATE TABLE es_spaces (
  space INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  incarnation BLOB NOT NULL,
  created INTEGER NOT NULL -- microseconds since 1970, as all times
) STRICT;

-- Handles that may have acknowledged what is not synced; see Normal. Who closes in order takes its own away.
CREATE TABLE es_unsynced (
  handle BLOB PRIMARY KEY,
  boot TEXT NOT NULL -- when the system was started, as it names it
) STRICT, WITHOUT ROWID;
