-- Erasures: ledger.erasures, and with each what it took out, in ledger.erased_streams and ledger.erased_events.

-- name: lock_erasing
-- One at a time in a ledger, for as long as the session lasts. $1 ledger_id
SELECT pg_try_advisory_lock(hashtext('booking-ledger erasures'), $1);

-- name: unlock_erasing
-- $1 ledger_id
SELECT pg_advisory_unlock(hashtext('booking-ledger erasures'), $1);

-- name: insert_erasures
-- Those that are there already stay as they are. $1 ledger_id, $2 erasure_ids, $3 person_tags, $4 cause, $5 erased at
INSERT INTO ledger.erasures (ledger_id, erasure_id, person_tag, cause, erased_at)
SELECT $1, given.erasure_id, given.person_tag, $4, given.erased_at
FROM unnest($2::uuid[], $3::bytea[], $5::timestamptz[]) AS given (erasure_id, person_tag, erased_at)
ON CONFLICT ON CONSTRAINT erasures_pkey DO NOTHING;

-- name: read_now
SELECT clock_timestamp();

-- name: read_unfinished
-- $1 ledger_id
SELECT erasure_id, person_tag, cause, erased_at
FROM ledger.erasures
WHERE ledger_id = $1 AND state <> 'done'
ORDER BY erased_at, erasure_id;

-- name: set_redacted
-- $1 ledger_id, $2 erasure_ids
UPDATE ledger.erasures
SET state = 'redacted'
WHERE ledger_id = $1 AND erasure_id = ANY($2::uuid[]) AND state = 'begun';

-- name: finish
-- $1 ledger_id, $2 erasure_ids, $3 finished at
UPDATE ledger.erasures AS e
SET
    state = 'done',
    finished_at = greatest($3, erased_at),
    receipt = jsonb_build_object(
        'bookings', (
            SELECT count(*) FROM ledger.erased_streams AS s
            WHERE s.ledger_id = e.ledger_id AND s.erasure_id = e.erasure_id AND s.is_gone
              AND s.stream_id NOT LIKE 'booking-id-%'
        ),
        'shared_bookings', (
            SELECT count(*) FROM ledger.erased_streams AS s
            WHERE s.ledger_id = e.ledger_id AND s.erasure_id = e.erasure_id AND NOT s.is_gone
              AND s.stream_id NOT LIKE 'booking-id-%'
        ),
        'events', (
            SELECT count(*) FROM ledger.erased_events AS v WHERE v.ledger_id = e.ledger_id AND v.erasure_id = e.erasure_id
        )
    )
WHERE e.ledger_id = $1 AND e.erasure_id = ANY($2::uuid[]) AND e.state <> 'done';

-- name: read_erased
-- What these erasures took out: `streams` that are gone, `shared` ones, and `positions` of events.
-- $1 ledger_id, $2 erasure_ids
SELECT
    ARRAY(
        SELECT DISTINCT s.stream_id FROM ledger.erased_streams AS s
        WHERE s.ledger_id = $1 AND s.erasure_id = ANY($2::uuid[]) AND s.is_gone
        ORDER BY s.stream_id
    ) AS gone,
    ARRAY(
        SELECT DISTINCT s.stream_id FROM ledger.erased_streams AS s
        WHERE s.ledger_id = $1 AND s.erasure_id = ANY($2::uuid[]) AND NOT s.is_gone
        ORDER BY s.stream_id
    ) AS shared,
    ARRAY(
        SELECT DISTINCT v.position FROM ledger.erased_events AS v
        WHERE v.ledger_id = $1 AND v.erasure_id = ANY($2::uuid[])
        ORDER BY v.position
    ) AS positions;

-- name: list_erasures
-- The latest first. $1 ledger_id, $2 erasure_ids or null for all, $3 at most so many
SELECT erasure_id, encode(person_tag, 'hex') AS person_tag, cause, state, erased_at, finished_at, receipt
FROM ledger.erasures
WHERE ledger_id = $1 AND ($2::uuid[] IS NULL OR erasure_id = ANY($2))
ORDER BY erased_at DESC, erasure_id
LIMIT $3;

-- name: find_known
-- Which of these erasures are there, finished. $1 ledger_id, $2 erasure_ids
SELECT erasure_id
FROM ledger.erasures
WHERE ledger_id = $1 AND erasure_id = ANY($2::uuid[]) AND state = 'done';

-- name: read_gone_streams
-- $1 ledger_id, $2 erasure_id
SELECT stream_id
FROM ledger.erased_streams
WHERE ledger_id = $1 AND erasure_id = $2 AND is_gone
ORDER BY stream_id;
