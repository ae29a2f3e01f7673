-- What was kept of erased persons beside the log: read models of every generation, and notes about bookings.

-- name: read_generations
-- What can be seen of this, or is on its way to be. $1 ledger_id
SELECT g.projection, g.generation, g.version, g.state, g.paused, coalesce(c.position, 0) AS position
FROM projections.generations AS g
LEFT JOIN projections.checkpoints AS c
    ON c.ledger_id = $1 AND c.projection = g.projection AND c.generation = g.generation
WHERE g.state IN ('building', 'live')
ORDER BY g.projection, g.generation;

-- name: read_parked_streams
-- Of these streams those of which a projection could not apply something. $1 ledger_id, $2 stream_ids
SELECT DISTINCT p.stream_id
FROM projections.parked_events AS p
WHERE p.ledger_id = $1 AND p.stream_id = ANY($2::text[])
ORDER BY p.stream_id;

-- name: forget_parked_errors
-- What went wrong may quote a value. $1 ledger_id, $2 positions, $3 stream_ids
UPDATE projections.parked_events
SET error = 'erased'
WHERE ledger_id = $1 AND (position = ANY($2::bigint[]) OR stream_id = ANY($3::text[])) AND error <> 'erased';

-- name: forget_drift
-- Of bookings that are gone all values, of shared ones those that may be of a person; what is gone does not differ any
-- more. $1 ledger_id, $2 streams that are gone, $3 shared ones, $4 fields that may be of a person
UPDATE ledger.drift
SET
    ours = NULL,
    theirs = NULL,
    healed_at = CASE WHEN stream_id = ANY($2::text[]) THEN coalesce(healed_at, greatest(now(), found_at)) ELSE healed_at END
WHERE ledger_id = $1 AND (stream_id = ANY($2::text[]) OR (stream_id = ANY($3::text[]) AND field = ANY($4::text[])));

-- name: forget_questions
-- $1 ledger_id, $2 uids
DELETE FROM ledger.questions
WHERE ledger_id = $1 AND uid = ANY($2::text[]);

-- name: forget_swept
-- $1 ledger_id, $2 uids
DELETE FROM ledger.swept_bookings
WHERE ledger_id = $1 AND uid = ANY($2::text[]);

-- name: forget_snapshots
-- $1 ledger_id, $2 originators
DELETE FROM interop.snapshots
WHERE ledger_id = $1 AND originator_id = ANY($2::text[]);

-- name: read_snapshots
-- After a place, in order. $1 ledger_id, $2 recorder, $3 originator, $4 version, $5 at most so many
SELECT recorder, originator_id, originator_version, state
FROM interop.snapshots
WHERE ledger_id = $1 AND (recorder, originator_id, originator_version) > ($2, $3, $4)
ORDER BY recorder, originator_id, originator_version
LIMIT $5;

-- name: look_into
-- For the session: tables without a schema are those of this generation. $1 projection, $2 generation
SELECT set_config('search_path', quote_ident(projections.schema_of($1, $2)), false);

-- name: look_nowhere
SELECT set_config('search_path', '"$user", public', false);

-- name: vacuum_calendar_events
VACUUM (SKIP_LOCKED) calendar_events;

-- name: vacuum_booking_attendees
VACUUM (SKIP_LOCKED) booking_attendees;

-- name: vacuum_webhook_logs
VACUUM (SKIP_LOCKED) webhook_logs;

-- name: vacuum_facts
VACUUM (SKIP_LOCKED) facts;

-- name: vacuum_notes
VACUUM (SKIP_LOCKED) ledger.body_keys, ledger.drift, ledger.questions, ledger.swept_bookings, projections.parked_events;
