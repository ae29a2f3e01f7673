-- Keys in a database of their own (KEYS_DATABASE_URL), so that a dump of the log holds none, and a backup of the keys
-- can be thrown away sooner than one of the log. The tables are those of migrations/0008_sealing.sql.

-- migrate:up

CREATE TABLE ledger.root_keys (
    root_key text NOT NULL,
    secret bytea,
    made_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    CONSTRAINT root_keys_pkey PRIMARY KEY (root_key),
    CONSTRAINT root_keys_is_an_id CHECK (root_key ~ '^[0-9a-f]{8}$'),
    CONSTRAINT root_keys_secret_length CHECK (octet_length(secret) = 32)
);

CREATE UNIQUE INDEX root_keys_one_secret ON ledger.root_keys ((true)) WHERE secret IS NOT NULL;

CREATE TABLE ledger.body_keys (
    ledger_id int NOT NULL,
    key_id uuid NOT NULL,
    wrapped bytea,
    root_key text,
    CONSTRAINT body_keys_pkey PRIMARY KEY (ledger_id, key_id),
    CONSTRAINT body_keys_wrapped_length CHECK (octet_length(wrapped) = 60),
    CONSTRAINT body_keys_wrapped_by_one CHECK (wrapped IS NULL OR root_key IS NOT NULL)
);

ALTER TABLE ledger.body_keys ALTER COLUMN wrapped SET STORAGE PLAIN;

-- Who keeps keys looks whether its root key is retired under a lock on its row; so nothing is wrapped by these any more.
CREATE FUNCTION ledger.retire_root_keys(kept text) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE ledger.root_keys SET retired_at = clock_timestamp() WHERE root_key <> kept AND retired_at IS NULL;
END;

REVOKE ALL ON FUNCTION ledger.retire_root_keys FROM PUBLIC;

CREATE FUNCTION ledger.refuse_key_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'key % was destroyed and stays so', OLD.key_id
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER body_keys_destroyed_for_good
    BEFORE UPDATE ON ledger.body_keys
    FOR EACH ROW WHEN (OLD.wrapped IS NULL)
    EXECUTE FUNCTION ledger.refuse_key_change();
