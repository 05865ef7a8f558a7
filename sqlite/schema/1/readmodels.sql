-- Read models. Documents belong to the number of a model, so that a model is renamed, or taken out of sight, without touching them.
CREATE TABLE es_models_$ (
  model INTEGER PRIMARY KEY,
  name TEXT UNIQUE -- NULL: nobody sees it any more, and its documents are being removed
) STRICT;
CREATE TABLE es_documents_$ (
  document INTEGER PRIMARY KEY,
  model INTEGER NOT NULL,
  key TEXT NOT NULL,
  revision INTEGER NOT NULL,
  data BLOB
) STRICT;
CREATE UNIQUE INDEX es_documents_$_key ON es_documents_$ (model, key);

-- The checkpoints of projections, those that are not zero.
CREATE TABLE es_progress_$ (
  projection TEXT PRIMARY KEY,
  generation INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  incarnation BLOB NOT NULL,
  position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: the last revision that was given to a document of any model. So none is given twice without remembering what was deleted,
-- dropped or switched.
CREATE TABLE es_revision_$ (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  name TEXT NOT NULL CHECK (name = 'es_revision_$'), -- as in es_state_$
  revision INTEGER NOT NULL
) STRICT;
INSERT INTO es_revision_$ VALUES (1, 'es_revision_$', 0);
