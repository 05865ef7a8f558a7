-- Consumer groups that handle each message once. A row is locked by who counts and forgets what the group has handled, and by nobody else.
CREATE TABLE @dedupe_groups_# (
  grp integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  counted bigint NOT NULL DEFAULT 0,  -- what was handled is counted up to this number
  swept bigint NOT NULL DEFAULT 0     -- and is forgotten up to this one
);

-- Messages are numbered in the order in which they were handled, so that the oldest go first.
CREATE SEQUENCE @dedupe_numbers_# AS bigint;

-- Messages that are being handled, and those that were.
CREATE TABLE @dedupe_# (
  token bigint NOT NULL,   -- of the reservation
  until bigint NOT NULL,   -- the message is new again from then on; microseconds since 1970, as all times
  number bigint,           -- NULL: it is being handled
  grp integer NOT NULL,
  id uuid NOT NULL,
  PRIMARY KEY (grp, id)
);
CREATE INDEX dedupe_#_number ON @dedupe_# (grp, number) WHERE number IS NOT NULL;
CREATE INDEX dedupe_#_until ON @dedupe_# (until) WHERE number IS NULL;

-- How many messages a group has handled, part by part: a count that all who handle messages would change is one that they wait for.
CREATE TABLE @dedupe_parts_# (
  grp integer NOT NULL,
  upto bigint NOT NULL,     -- the last number of the part
  entries integer NOT NULL, -- how many there were when they were counted
  until bigint NOT NULL,    -- all have expired then
  PRIMARY KEY (grp, upto)
);
