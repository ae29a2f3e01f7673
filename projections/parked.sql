-- Events set aside: projections.parked_events of live generations.

-- name: park_event
-- $1 ledger_id, $2 projection, $3 generation, $4 position, $5 stream_id, $6 error, $7 attempts
INSERT INTO projections.parked_events AS p (
    ledger_id, projection, generation, position, stream_id, error, attempts
)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT ON CONSTRAINT parked_events_pkey DO UPDATE SET
    error = excluded.error,
    attempts = p.attempts + excluded.attempts;

-- name: list_parked
-- Oldest first. $1 ledger_id, $2 projection or null for all, $3 at most so many
SELECT p.projection, p.position, p.stream_id, p.error, p.attempts, p.parked_at, p.skipped_at
FROM projections.parked_events AS p
JOIN projections.generations AS g USING (projection, generation)
WHERE p.ledger_id = $1 AND g.state = 'live' AND ($2::text IS NULL OR p.projection = $2)
ORDER BY p.position, p.projection
LIMIT $3;

-- name: find_parked
-- $1 ledger_id, $2 projection, $3 positions or null for all that are not skipped
SELECT p.position, p.generation
FROM projections.parked_events AS p
JOIN projections.generations AS g USING (projection, generation)
WHERE p.ledger_id = $1
  AND p.projection = $2
  AND g.state = 'live'
  AND (p.position = ANY($3::bigint[]) OR ($3 IS NULL AND p.skipped_at IS NULL))
ORDER BY p.position;

-- name: lock_checkpoint
-- Nobody moves it until the transaction ends. $1 ledger_id, $2 projection, $3 generation
SELECT position
FROM projections.checkpoints
WHERE ledger_id = $1 AND projection = $2 AND generation = $3
FOR UPDATE;

-- name: unpark_event
-- Nothing where it was parked no more. $1 ledger_id, $2 projection, $3 generation, $4 position
DELETE FROM projections.parked_events
WHERE ledger_id = $1 AND projection = $2 AND generation = $3 AND position = $4
RETURNING position;

-- name: note_retry
-- $1 ledger_id, $2 projection, $3 generation, $4 position, $5 error
UPDATE projections.parked_events
SET error = $5, attempts = attempts + 1
WHERE ledger_id = $1 AND projection = $2 AND generation = $3 AND position = $4;

-- name: skip_events
-- $1 ledger_id, $2 projection, $3 positions
UPDATE projections.parked_events AS p
SET skipped_at = now()
FROM projections.generations AS g
WHERE p.ledger_id = $1
  AND p.projection = $2
  AND p.position = ANY($3::bigint[])
  AND p.skipped_at IS NULL
  AND g.projection = p.projection
  AND g.generation = p.generation
  AND g.state = 'live'
RETURNING p.position;
