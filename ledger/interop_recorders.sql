-- What the recorders read and write beside ledger/store.sql. Tables: migrations/0001_event_log.sql
-- (ledger.events) and migrations/0003_interop_view.sql (interop.snapshots, interop.tracking).

-- name: read_originator
-- The event numbered 0 lies in a stream of its own.
-- $1 ledger_id, $2 stream_id, $3 stream_id of version 0, $4 after this version, $5 up to this version, $6 at most so many
SELECT
    originator_version, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at,
    source, metadata, (SELECT erasures FROM ledger.ledgers WHERE ledger_id = $1) AS erasures
FROM (
    SELECT
        0 AS originator_version, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at,
        recorded_at, source, metadata
    FROM ledger.events
    WHERE ledger_id = $1 AND stream_id = $3 AND stream_version = 1 AND $4::bigint < 0 AND $5::bigint >= 0
    UNION ALL
    (
        SELECT
            stream_version, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at,
            recorded_at, source, metadata
        FROM ledger.events
        WHERE ledger_id = $1 AND stream_id = $2 AND stream_version > $4::bigint AND stream_version <= $5::bigint
        ORDER BY stream_version
        LIMIT $6
    )
) AS events
ORDER BY originator_version
LIMIT $6;

-- name: read_originator_backwards
-- $1 ledger_id, $2 stream_id, $3 stream_id of version 0, $4 after this version, $5 up to this version, $6 at most so many
SELECT
    originator_version, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at,
    source, metadata, (SELECT erasures FROM ledger.ledgers WHERE ledger_id = $1) AS erasures
FROM (
    SELECT
        0 AS originator_version, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at,
        recorded_at, source, metadata
    FROM ledger.events
    WHERE ledger_id = $1 AND stream_id = $3 AND stream_version = 1 AND $4::bigint < 0 AND $5::bigint >= 0
    UNION ALL
    (
        SELECT
            stream_version, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at,
            recorded_at, source, metadata
        FROM ledger.events
        WHERE ledger_id = $1 AND stream_id = $2 AND stream_version > $4::bigint AND stream_version <= $5::bigint
        ORDER BY stream_version DESC
        LIMIT $6
    )
) AS events
ORDER BY originator_version DESC
LIMIT $6;

-- name: read_notifications
-- $1 ledger_id, $2 after this position, $3 up to this position, $4 topics (null: any), $5 at most so many
SELECT
    position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source, metadata,
    (SELECT erasures FROM ledger.ledgers WHERE ledger_id = $1) AS erasures
FROM ledger.events
WHERE ledger_id = $1 AND position > $2 AND position <= $3 AND ($4::text[] IS NULL OR topic = ANY($4))
ORDER BY position
LIMIT $5;

-- name: insert_snapshots
-- Tells of each one that was kept: a place that is taken is not given away, except by a booking's snapshot of another
-- release, which nobody reads any more.
-- $1 ledger_id, $2 recorder, $3 originator_ids, $4 originator_versions, $5 topics, $6 states, $7 how topics of bookings'
-- snapshots begin
INSERT INTO interop.snapshots AS known (ledger_id, recorder, originator_id, originator_version, topic, state)
SELECT $1, $2, s.originator_id, s.originator_version, s.topic, s.state
FROM unnest($3::text[], $4::bigint[], $5::text[], $6::bytea[]) AS s (originator_id, originator_version, topic, state)
ON CONFLICT ON CONSTRAINT snapshots_pkey DO UPDATE
SET topic = excluded.topic, state = excluded.state
WHERE starts_with(known.topic, $7) AND known.topic <> excluded.topic
RETURNING 1;

-- name: read_snapshots
-- $1 ledger_id, $2 recorder, $3 originator_id, $4 after this version, $5 up to this version, $6 at most so many, $7 how
-- topics of bookings' snapshots begin, $8 the one of this release
SELECT originator_version, topic, state
FROM interop.snapshots
WHERE ledger_id = $1 AND recorder = $2 AND originator_id = $3
    AND originator_version > $4 AND originator_version <= $5
    AND (topic = $8 OR NOT starts_with(topic, $7))
ORDER BY originator_version
LIMIT $6;

-- name: read_snapshots_backwards
-- $1 ledger_id, $2 recorder, $3 originator_id, $4 after this version, $5 up to this version, $6 at most so many, $7 how
-- topics of bookings' snapshots begin, $8 the one of this release
SELECT originator_version, topic, state
FROM interop.snapshots
WHERE ledger_id = $1 AND recorder = $2 AND originator_id = $3
    AND originator_version > $4 AND originator_version <= $5
    AND (topic = $8 OR NOT starts_with(topic, $7))
ORDER BY originator_version DESC
LIMIT $6;

-- name: move_tracking
-- Forward only; no row where it is there or further already.
-- $1 ledger_id, $2 recorder, $3 application_name, $4 notification_id
INSERT INTO interop.tracking AS known (ledger_id, recorder, application_name, notification_id)
VALUES ($1, $2, $3, $4)
ON CONFLICT ON CONSTRAINT tracking_pkey DO UPDATE
SET notification_id = excluded.notification_id
WHERE known.notification_id < excluded.notification_id
RETURNING notification_id;

-- name: read_tracking
-- $1 ledger_id, $2 recorder, $3 application_name
SELECT notification_id
FROM interop.tracking
WHERE ledger_id = $1 AND recorder = $2 AND application_name = $3;
