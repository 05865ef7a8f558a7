-- Snapshots, the latest under each key.
CREATE TABLE es_snapshots_$ (
  snapshot INTEGER PRIMARY KEY,
  stream TEXT NOT NULL,
  name TEXT NOT NULL,
  schema INTEGER NOT NULL,
  version INTEGER NOT NULL,
  time INTEGER NOT NULL,
  content_type TEXT NOT NULL,
  data BLOB
) STRICT;
CREATE UNIQUE INDEX es_snapshots_$_key ON es_snapshots_$ (stream, name, schema);
