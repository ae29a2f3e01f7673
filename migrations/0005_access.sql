-- Who may ask: keys for programs, users with sessions for people, and when each was last used.
--
-- access.api_keys         one row per key ever made; of the key only its SHA-256. Revoked ones stay, as a record.
-- access.users            one row per person; the password as argon2id, parameters and salt within.
-- access.sessions         one row per open session, by the SHA-256 of its token; ended ones are deleted.
-- access.webhook_secrets  when each webhook secret last verified a delivery, by the first 4 hexadecimal digits of its
--                         SHA-256, enough to tell one's own secrets apart.
--
-- `ledger_id` null: every ledger. Roles contain each other: admin, operator, viewer.
--
-- access.our_schemas() and access.our_views() tell what in this database is ours, for `booking-ledger roles create`;
-- other programs may live here too.
--
-- And the one way into the log: append_events runs with its owner's rights from here on, so that a role may append
-- without the right to write into ledger.events by itself (`booking-ledger roles create`). Its names are looked up in
-- pg_catalog alone, hence nobody who calls it can put something else in their place.

-- migrate:up

CREATE SCHEMA access;

CREATE TABLE access.api_keys (
    key_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    ledger_id int,
    digest bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT api_keys_role_known CHECK (role IN ('viewer', 'operator', 'admin')),
    CONSTRAINT api_keys_digest_is_sha256 CHECK (octet_length(digest) = 32)
);

CREATE TABLE access.users (
    user_id uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    role text NOT NULL,
    ledger_id int,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    password_changed_at timestamptz NOT NULL DEFAULT now(),
    last_signed_in_at timestamptz,
    disabled_at timestamptz,
    CONSTRAINT users_pkey PRIMARY KEY (user_id),
    CONSTRAINT users_name_unique UNIQUE (name),
    CONSTRAINT users_name_is_plain CHECK (name ~ '^[a-z0-9][a-z0-9._@+-]{0,99}$'),
    CONSTRAINT users_role_known CHECK (role IN ('viewer', 'operator', 'admin')),
    CONSTRAINT users_password_hash_is_argon2id CHECK (password_hash LIKE '$argon2id$%')
);

CREATE TABLE access.sessions (
    digest bytea NOT NULL,
    user_id uuid NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sessions_pkey PRIMARY KEY (digest),
    CONSTRAINT sessions_user_fkey FOREIGN KEY (user_id) REFERENCES access.users (user_id),
    CONSTRAINT sessions_digest_is_sha256 CHECK (octet_length(digest) = 32)
);

CREATE INDEX sessions_by_user ON access.sessions (user_id);

CREATE TABLE access.webhook_secrets (
    fingerprint text NOT NULL,
    last_used_at timestamptz NOT NULL,
    CONSTRAINT webhook_secrets_pkey PRIMARY KEY (fingerprint),
    CONSTRAINT webhook_secrets_fingerprint_is_short CHECK (fingerprint ~ '^[0-9a-f]{4}$')
);

-- Ours, generations of read models included.
CREATE FUNCTION access.our_schemas() RETURNS TABLE (schema_id oid, name name)
LANGUAGE sql STABLE AS $$
    SELECT n.oid, n.nspname
    FROM pg_catalog.pg_namespace AS n
    WHERE
        n.nspname IN ('ledger', 'projections', 'interop', 'access')
        OR EXISTS (
            SELECT FROM projections.generations AS g WHERE n.nspname ~ ('^' || g.projection || '_[0-9]+$')
        )
$$;

-- The views in `public` that are made of ours, directly or through one another, and belong to whoever owns the log.
CREATE FUNCTION access.our_views() RETURNS TABLE (view_id oid, name name)
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE made_of AS (
        SELECT DISTINCT v.oid AS view_id, v.relname, v.relowner, d.refobjid AS part_id
        FROM pg_catalog.pg_class AS v
        JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = v.oid
        JOIN pg_catalog.pg_depend AS d
            ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
        WHERE v.relkind = 'v' AND v.relnamespace = 'public'::regnamespace AND d.refobjid <> v.oid
    ), ours AS (
        SELECT m.view_id, m.relname, m.relowner
        FROM made_of AS m
        JOIN pg_catalog.pg_class AS part ON part.oid = m.part_id
        WHERE part.relnamespace IN (SELECT schema_id FROM access.our_schemas())
        UNION
        SELECT m.view_id, m.relname, m.relowner
        FROM made_of AS m
        JOIN ours AS part ON part.view_id = m.part_id
    )
    SELECT DISTINCT view_id, relname
    FROM ours
    WHERE relowner = (SELECT relowner FROM pg_catalog.pg_class WHERE oid = 'ledger.events'::regclass)
$$;

ALTER FUNCTION ledger.append_events SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE ALL ON FUNCTION ledger.append_events FROM PUBLIC;
