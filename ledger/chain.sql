-- The log as whoever verifies it reads it: plain columns, nothing computed by a database that may have been tampered
-- with. Tables: migrations/0001_event_log.sql.

-- name: read_extent
-- The head, and the last position there is, in one snapshot. $1 ledger_id
SELECT
    l.position,
    l.digest,
    coalesce((SELECT max(e.position) FROM ledger.events AS e WHERE e.ledger_id = l.ledger_id), 0) AS last_position
FROM ledger.ledgers AS l
WHERE l.ledger_id = $1;

-- name: copy_rows
-- In the order of the header, then the body and the digest: `ledger/chain.py` takes the rows apart by that order.
-- $1 ledger_id, $2 after this position, $3 up to this position
SELECT
    ledger_id, position, stream_version, encoding, occurred_at, recorded_at, event_id,
    digest, ARRAY[stream_id, topic, source, metadata], state
FROM ledger.events
WHERE ledger_id = $1 AND position > $2 AND position <= $3
ORDER BY position;

-- name: read_digests
-- $1 ledger_id, $2 positions
SELECT position, digest
FROM ledger.events
WHERE ledger_id = $1 AND position = ANY($2::bigint[]);
