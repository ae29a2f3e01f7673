-- Room on disk: of ledger.events, and of the bodies in tables of api/bench/peers/tables.sql.

-- name: read_log_bytes
SELECT pg_total_relation_size('ledger.events');

-- name: empty_bodies
TRUNCATE bodies_as_bytea, bodies_as_jsonb;

-- name: read_peer_bytes
SELECT
    pg_total_relation_size(to_regclass('public.bodies_as_jsonb')) AS as_jsonb,
    pg_total_relation_size(to_regclass('public.bodies_as_bytea')) AS as_bytea;
