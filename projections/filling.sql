-- Filling a new generation: projections.rebuild_ranges, and the log read by booking.

-- name: prepare_session
-- A range is a small part of the log, whatever the planner takes it for: by index, for as long as the session lasts. And
-- nobody waits for the disk, since what a crash takes back is filled again.
SELECT
    set_config('synchronous_commit', 'off', false),
    set_config('enable_seqscan', 'off', false),
    set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false),
    set_config('enable_material', 'off', false),
    set_config('enable_bitmapscan', 'off', false);

-- name: claim_range
-- A range that nobody else is at, until the transaction ends; none when the filling is over, paused or cancelled.
-- `up_to`: where the generation will stand. $1 projection, $2 generation
SELECT r.ledger_id, r.after_position, r.last_position, c.position AS up_to
FROM projections.rebuild_ranges AS r
JOIN projections.generations AS g USING (projection, generation)
JOIN projections.checkpoints AS c USING (ledger_id, projection, generation)
WHERE r.projection = $1
  AND r.generation = $2
  AND r.done_at IS NULL
  AND g.state = 'building'
  AND g.phase = 'filling'
  AND NOT g.paused
ORDER BY r.ledger_id, r.after_position
LIMIT 1
FOR UPDATE OF r SKIP LOCKED;

-- name: finish_range
-- $1 projection, $2 generation, $3 ledger_id, $4 after_position
UPDATE projections.rebuild_ranges
SET done_at = clock_timestamp()
WHERE projection = $1 AND generation = $2 AND ledger_id = $3 AND after_position = $4;

-- name: read_numbered
-- Bookings that began under their number. $1 ledger_id, $2 after this position, $3 up to, $4 at most so many
SELECT stream_id, position
FROM ledger.events
WHERE ledger_id = $1 AND position > $2 AND position <= $3 AND stream_version = 1 AND stream_id LIKE 'booking-id-%'
ORDER BY position
LIMIT $4;

-- name: find_streams
-- Those of these streams that there are. $1 ledger_id, $2 stream_ids, $3 up to this position
SELECT stream_id
FROM ledger.events
WHERE ledger_id = $1 AND stream_id = ANY($2::text[]) AND stream_version = 1 AND position <= $3
ORDER BY stream_id;
