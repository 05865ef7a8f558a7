-- What a file has once.

-- Namespaces. The tables of one end with its number.
CREATE TABLE es_spaces (
  space INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  incarnation BLOB NOT NULL,
  created INTEGER NOT NULL -- microseconds since 1970, as all times
);
