-- What belongs to the whole schema. Each @name is a table of the toolkit's schema; those that end in _# belong to a namespace, by its number.
CREATE TABLE @version (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  version integer NOT NULL
);
INSERT INTO @version (version) VALUES (0);

CREATE TABLE @spaces (
  space integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  incarnation uuid NOT NULL,
  serial boolean NOT NULL,  -- positions are given by a row that one append at a time has, and not by the sequence
  created timestamptz NOT NULL DEFAULT now()
);
