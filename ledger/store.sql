-- Reading the log and appending to it. Tables: migrations/0001_event_log.sql. Positions and versions start at 1.

-- name: append_events
-- $1 ledger_id, $2 event_ids, $3 stream_ids, $4 topics, $5 states, $6 encodings, $7 occurred_at, $8 sources,
-- $9 metadata, $10 expected versions (null: no expectations at all, a null element: any), $11 the ids of the keys that the
-- states are sealed under, $12 those keys, wrapped, $13 the root key that wraps them (all three null: not kept here),
-- $14 how often keys are known to have been destroyed, $15 what the events say (null elements, or null: not known), $16 the
-- version of the decoder that found it, $17 whether no two share an id or a stream
SELECT refusal, erasures, positions, versions, duplicates
FROM ledger.append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);

-- name: read_ledgers
SELECT ledger_id, name, event_id_key
FROM ledger.ledgers
ORDER BY ledger_id;

-- name: read_head
-- $1 ledger_id
SELECT position, digest, recorded_at
FROM ledger.ledgers
WHERE ledger_id = $1;

-- name: read_log
-- $1 ledger_id, $2 after this position, $3 at most so many
SELECT
    position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source, metadata,
    (SELECT erasures FROM ledger.ledgers WHERE ledger_id = $1) AS erasures
FROM ledger.events
WHERE ledger_id = $1 AND position > $2
ORDER BY position
LIMIT $3;

-- name: read_outlines
-- The same without bodies and metadata. $1 ledger_id, $2 after this position, $3 at most so many
SELECT position, stream_id, stream_version, event_id, topic, occurred_at, recorded_at, source
FROM ledger.events
WHERE ledger_id = $1 AND position > $2
ORDER BY position
LIMIT $3;

-- name: read_events_at
-- $1 ledger_id, $2 positions
SELECT
    position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source, metadata,
    (SELECT erasures FROM ledger.ledgers WHERE ledger_id = $1) AS erasures
FROM ledger.events
WHERE ledger_id = $1 AND position = ANY($2::bigint[])
ORDER BY position;

-- name: read_streams
-- $1 ledger_id, $2 stream_ids, $3 up to this position
SELECT
    position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source, metadata,
    (SELECT erasures FROM ledger.ledgers WHERE ledger_id = $1) AS erasures
FROM ledger.events
WHERE ledger_id = $1 AND stream_id = ANY($2::text[]) AND position <= $3
ORDER BY stream_id, stream_version;

-- name: read_begun
-- Every event, up to a position, of the bookings that began between two positions: a booking whole, in no order.
-- $1 ledger_id, $2 after, $3 up to, $4 the position up to which bookings are wanted
SELECT
    e.position, e.stream_id, e.stream_version, e.event_id, e.topic, e.state, e.encoding, e.occurred_at, e.recorded_at,
    e.source, '' AS metadata, (SELECT erasures FROM ledger.ledgers WHERE ledger_id = $1) AS erasures
FROM ledger.events AS begun
JOIN ledger.events AS e ON e.ledger_id = begun.ledger_id AND e.stream_id = begun.stream_id
WHERE begun.ledger_id = $1
  AND begun.position > $2
  AND begun.position <= $3
  AND begun.stream_version = 1
  AND begun.stream_id LIKE 'booking-%'
  AND begun.stream_id NOT LIKE 'booking-id-%'
  AND e.position <= $4;

-- name: read_event
-- $1 ledger_id, $2 event_id
SELECT
    position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source, metadata,
    (SELECT erasures FROM ledger.ledgers WHERE ledger_id = $1) AS erasures
FROM ledger.events
WHERE ledger_id = $1 AND event_id = $2;

-- name: read_unattributed
-- Deliveries that name no booking, the latest first. $1 ledger_id, $2 before this position, $3 topics, $4 at most so many
SELECT
    position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source, metadata,
    (SELECT erasures FROM ledger.ledgers WHERE ledger_id = $1) AS erasures
FROM ledger.events
WHERE ledger_id = $1 AND stream_id LIKE 'unattributed-%' AND position < $2 AND topic = ANY($3::text[])
ORDER BY position DESC
LIMIT $4;

-- name: read_number_streams
-- Streams that are named by a number. $1 ledger_id, $2 begun up to this position, $3 at most so many
SELECT stream_id
FROM ledger.events
WHERE ledger_id = $1 AND position <= $2 AND stream_version = 1 AND stream_id LIKE 'booking-id-%'
ORDER BY position
LIMIT $3;

-- name: read_stream_version
-- $1 ledger_id, $2 stream_id, $3 up to this position
SELECT coalesce(max(stream_version), 0)
FROM ledger.events
WHERE ledger_id = $1 AND stream_id = $2 AND position <= $3;

-- name: find_position_as_of
-- The last position recorded at or before a moment. `recorded_at` never goes back along the log, so the place is found by
-- halving: it is one of `width` positions from `position` on. $1 ledger_id, $2 the moment
WITH RECURSIVE halved AS (
    SELECT 0::bigint AS position, position + 1 AS width
    FROM ledger.ledgers
    WHERE ledger_id = $1
    UNION ALL
    SELECT
        CASE
            WHEN (
                SELECT e.recorded_at FROM ledger.events AS e
                WHERE e.ledger_id = $1 AND e.position = halved.position + width / 2
            ) <= $2
            THEN position + width / 2
            ELSE position
        END,
        width - width / 2
    FROM halved
    WHERE width > 1
)
SELECT position FROM halved WHERE width = 1;

-- name: insert_deliveries
-- $1 ledger_id, $2 delivery_ids, $3 received_at, $4 outcomes, $5 reasons, $6 positions, $7 durations in ms
INSERT INTO ledger.deliveries (ledger_id, delivery_id, received_at, outcome, reason, position, duration_ms)
SELECT $1, d.delivery_id, d.received_at, d.outcome, d.reason, d.position, d.duration_ms
FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::bigint[], $7::real[])
    AS d (delivery_id, received_at, outcome, reason, position, duration_ms)
ON CONFLICT ON CONSTRAINT deliveries_pkey DO NOTHING;
