-- ledger.schema_migrations: the migrations that a database has had, one row each, written in the transaction that
-- applied it. Schema and table are looked for before they are made: CREATE … IF NOT EXISTS wants the right to create
-- even where nothing is left to create.

-- name: find_migrations_table
SELECT
    to_regnamespace('ledger') IS NOT NULL AS has_schema,
    EXISTS (
        SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'ledger' AND tablename = 'schema_migrations'
    ) AS has_table;

-- name: create_schema
CREATE SCHEMA ledger;

-- name: create_migrations_table
CREATE TABLE ledger.schema_migrations (
    version integer CONSTRAINT schema_migrations_pkey PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL CONSTRAINT schema_migrations_checksum_is_sha256 CHECK (checksum ~ '^[0-9a-f]{64}$'),
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: read_migrations
SELECT version, checksum
FROM ledger.schema_migrations
ORDER BY version;

-- name: record_migration
-- $1 version, $2 name, $3 checksum
INSERT INTO ledger.schema_migrations (version, name, checksum)
VALUES ($1, $2, $3);

-- name: read_time_limits
SELECT
    current_setting('statement_timeout') AS statement_timeout,
    current_setting('lock_timeout') AS lock_timeout,
    current_setting('idle_in_transaction_session_timeout') AS idle_in_transaction_session_timeout;

-- name: set_time_limits
-- $1 statement_timeout, $2 lock_timeout, $3 idle_in_transaction_session_timeout; for the session
SELECT
    set_config('statement_timeout', $1, false),
    set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', $3, false);

-- name: lock_migrations
-- $1 key
SELECT pg_advisory_lock($1);

-- name: unlock_migrations
-- $1 key
SELECT pg_advisory_unlock($1);
