-- Read models. Documents belong to the number of a model, so that a model is renamed, or taken out of sight, without touching them.
CREATE TABLE @models_# (
  model bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C",   -- NULL: nobody sees it any more, and its documents are being removed
  CONSTRAINT models_#_name UNIQUE (name)
);
CREATE INDEX models_#_hidden ON @models_# (model) WHERE name IS NULL;

-- No revision is given twice, whatever was deleted, dropped or switched.
CREATE SEQUENCE @revisions_# AS bigint;

-- It moves before a document is deleted for others to see, so that who is creating one knows.
CREATE SEQUENCE @removals_# AS bigint;

CREATE TABLE @documents_# (
  model bigint NOT NULL,
  key text COLLATE "C" NOT NULL,
  revision bigint NOT NULL,
  data bytea NOT NULL,
  PRIMARY KEY (model, key)
);

-- The checkpoints of projections, those that are not zero.
CREATE TABLE @progress_# (
  projection text COLLATE "C" PRIMARY KEY,
  generation bigint NOT NULL,
  epoch bigint NOT NULL,
  incarnation uuid NOT NULL,
  position bigint NOT NULL
);
