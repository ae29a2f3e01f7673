-- The runner's own statements. Tables: migrations/0002_read_models.sql.

-- name: read_checkpoints
-- $1 ledger_id, $2 projections, $3 their generations
SELECT c.projection, c.position
FROM projections.checkpoints AS c
JOIN unnest($2::text[], $3::int[]) AS wanted (projection, generation) USING (projection, generation)
WHERE c.ledger_id = $1
ORDER BY c.position, c.projection;

-- name: create_checkpoints
-- $1 ledger_id, $2 projections, $3 their generations
INSERT INTO projections.checkpoints (ledger_id, projection, generation)
SELECT $1, wanted.projection, wanted.generation
FROM unnest($2::text[], $3::int[]) AS wanted (projection, generation)
ON CONFLICT ON CONSTRAINT checkpoints_pkey DO NOTHING;

-- name: move_checkpoints
-- Compare and set: no row for one that somebody else has moved. Tells the moment, by the database's clock. Rows are
-- locked in order of name, so two workers wait for each other instead of deadlocking.
-- $1 ledger_id, $2 projections, $3 their generations, $4 from, $5 to
WITH place AS (
    SELECT c.projection, c.generation
    FROM projections.checkpoints AS c
    JOIN unnest($2::text[], $3::int[]) AS wanted (projection, generation) USING (projection, generation)
    WHERE c.ledger_id = $1 AND c.position = $4
    ORDER BY c.projection
    FOR UPDATE OF c
)
UPDATE projections.checkpoints AS c
SET position = $5, moved_at = clock_timestamp(), state = 'running', error = NULL
FROM place
WHERE c.ledger_id = $1 AND c.projection = place.projection AND c.generation = place.generation
RETURNING c.moved_at;

-- name: note_failure
-- $1 ledger_id, $2 projection, $3 generation, $4 error
UPDATE projections.checkpoints
SET state = 'failing', error = $4
WHERE ledger_id = $1 AND projection = $2 AND generation = $3;

-- name: park_event
-- $1 ledger_id, $2 projection, $3 generation, $4 position, $5 stream_id, $6 error, $7 attempts
INSERT INTO projections.parked_events (ledger_id, projection, generation, position, stream_id, error, attempts)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT ON CONSTRAINT parked_events_pkey DO UPDATE SET error = excluded.error, attempts = excluded.attempts;
