-- Leases. A row stays when its lease has ended, because tokens never repeat for a name. The owner is last, or the entries of the index
-- es_snapshots_$_key would look like leases.
CREATE TABLE es_leases_$ (
  name TEXT PRIMARY KEY,
  token INTEGER NOT NULL,
  until INTEGER NOT NULL, -- 0: released
  owner TEXT NOT NULL
) STRICT, WITHOUT ROWID;
