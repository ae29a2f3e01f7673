-- Reading the log and appending to it. Tables: migrations/0001_event_log.sql. Positions and versions start at 1.

-- name: append_events
-- $1 ledger_id, $2 event_ids, $3 stream_ids, $4 topics, $5 states, $6 encodings, $7 occurred_at, $8 sources,
-- $9 metadata, $10 expected versions (null: no expectations at all, a null element: any)
SELECT ordinal, event_position, event_stream_version, duplicate
FROM ledger.append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: read_ledgers
SELECT ledger_id, name, event_id_key
FROM ledger.ledgers
ORDER BY ledger_id;

-- name: read_head
-- $1 ledger_id
SELECT position, digest, recorded_at
FROM ledger.ledgers
WHERE ledger_id = $1;

-- name: read_extent
-- The head, and the last position there is, in one snapshot. $1 ledger_id
SELECT
    l.position,
    l.digest,
    coalesce((SELECT max(e.position) FROM ledger.events AS e WHERE e.ledger_id = l.ledger_id), 0) AS last_position
FROM ledger.ledgers AS l
WHERE l.ledger_id = $1;

-- name: read_log
-- $1 ledger_id, $2 after this position, $3 at most so many
SELECT position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source, metadata
FROM ledger.events
WHERE ledger_id = $1 AND position > $2
ORDER BY position
LIMIT $3;

-- name: read_chain
-- Times as PostgreSQL's own eight bytes, since a changed one may be none that Python can hold.
-- $1 ledger_id, $2 after this position, $3 at most so many
SELECT
    position, stream_id, stream_version, event_id, topic, state, encoding, timestamptz_send(occurred_at) AS occurred_at,
    timestamptz_send(recorded_at) AS recorded_at, source, metadata, digest
FROM ledger.events
WHERE ledger_id = $1 AND position > $2
ORDER BY position
LIMIT $3;

-- name: read_streams
-- $1 ledger_id, $2 stream_ids, $3 up to this position
SELECT position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source, metadata
FROM ledger.events
WHERE ledger_id = $1 AND stream_id = ANY($2::text[]) AND position <= $3
ORDER BY stream_id, stream_version;

-- name: read_recorded_at
-- $1 ledger_id, $2 position
SELECT recorded_at
FROM ledger.events
WHERE ledger_id = $1 AND position = $2;

-- name: insert_deliveries
-- $1 ledger_id, $2 delivery_ids, $3 received_at, $4 outcomes, $5 reasons, $6 positions, $7 durations in ms
INSERT INTO ledger.deliveries (ledger_id, delivery_id, received_at, outcome, reason, position, duration_ms)
SELECT $1, d.delivery_id, d.received_at, d.outcome, d.reason, d.position, d.duration_ms
FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::bigint[], $7::real[])
    AS d (delivery_id, received_at, outcome, reason, position, duration_ms)
ON CONFLICT ON CONSTRAINT deliveries_pkey DO NOTHING;
