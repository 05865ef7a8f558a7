-- Leases. A row stays when its lease has ended, because tokens never repeat for a name.
CREATE TABLE @leases_# (
  name text COLLATE "C" PRIMARY KEY,
  owner text COLLATE "C" NOT NULL,
  token bigint NOT NULL,
  until bigint NOT NULL  -- microseconds since 1970; 0: released
);
