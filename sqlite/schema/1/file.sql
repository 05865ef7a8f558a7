-- What a file has once.

-- Namespaces. The tables of one end with its number.
CREATE TABLE es_spaces (
  space INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  incarnation BLOB NOT NULL,
  created INTEGER NOT NULL -- microseconds since 1970, as all times
);

-- Handles that may have acknowledged what is not synced; see Normal. Who closes in order takes its own away.
CREATE TABLE es_unsynced (
  handle BLOB PRIMARY KEY,
  boot TEXT NOT NULL -- when the system was started, as it names it
) WITHOUT ROWID;
