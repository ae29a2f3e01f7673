-- Room on disk: of ledger.events with the keys of its bodies, and of the bodies in tables of api/bench/peers/tables.sql.

-- name: read_log_bytes
SELECT pg_total_relation_size('ledger.events') + pg_total_relation_size('ledger.body_keys');

-- name: empty_bodies
TRUNCATE bodies_as_bytea, bodies_as_jsonb;

-- name: read_peer_bytes
SELECT
    pg_total_relation_size(to_regclass('public.bodies_as_jsonb')) AS as_jsonb,
    pg_total_relation_size(to_regclass('public.bodies_as_bytea')) AS as_bytea;
