-- Which life of the server it is. PostgreSQL empties an unlogged table when it recovers from a crash, and on a replica that takes over:
-- then the number of a transaction that was not committed may be given again, and says nothing about what has become of the first one.
CREATE UNLOGGED TABLE @lives_# (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  life uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO @lives_# DEFAULT VALUES;
