-- Snapshots, the latest under each key.
CREATE TABLE @snapshots_# (
  stream text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  schema bigint NOT NULL,
  version bigint NOT NULL,
  time bigint NOT NULL,        -- microseconds since 1970
  content_type text NOT NULL,
  data bytea,
  PRIMARY KEY (stream, name, schema)
);
