-- Leases. A row stays when its lease has ended, because tokens never repeat for a name.
CREATE TABLE es_leases_$ (
  name TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  token INTEGER NOT NULL,
  until INTEGER NOT NULL -- 0: released
) WITHOUT ROWID;
