-- The builds of each projection: projections.generations, and the schemas <projection>_<generation>.

-- name: read_live
-- The live generation of each of these projections, with its place in a ledger; one at its beginning stands at 0. The
-- furthest behind first. $1 ledger_id, $2 projections
SELECT g.projection, g.generation, g.version, g.paused, coalesce(c.position, 0) AS position, c.position IS NULL AS is_new
FROM projections.generations AS g
LEFT JOIN projections.checkpoints AS c
    ON c.ledger_id = $1 AND c.projection = g.projection AND c.generation = g.generation
WHERE g.state = 'live' AND g.projection = ANY($2::text[])
ORDER BY position, g.projection;

-- name: read_versions
-- The projections that have a live generation, with the version of the code that it was made for.
SELECT projection, version
FROM projections.generations
WHERE state = 'live'
ORDER BY projection;

-- name: create_checkpoints
-- Where these generations are live still. $1 ledger_id, $2 projections, $3 their generations
INSERT INTO projections.checkpoints (ledger_id, projection, generation)
SELECT $1, g.projection, g.generation
FROM projections.generations AS g
JOIN unnest($2::text[], $3::int[]) AS wanted (projection, generation) USING (projection, generation)
WHERE g.state = 'live'
FOR SHARE OF g
ON CONFLICT ON CONSTRAINT checkpoints_pkey DO NOTHING;

-- name: move_checkpoints
-- Compare and set: no row for one that somebody else has moved, whose generation is no longer the live or the building
-- one, or whose lease has gone to another. Tells the moment, by the database's clock. Rows are locked in order of name,
-- so two workers wait for each other instead of deadlocking. The search path leads to their tables until the
-- transaction ends.
-- A worker that falls asleep before that loses it after a while: others wait for its locks.
-- $1 ledger_id, $2 projections, $3 their generations, $4 from, $5 to, $6 their fences (null: written without a lease),
-- $7 how long it may sleep
WITH place AS (
    SELECT c.projection, c.generation
    FROM projections.checkpoints AS c
    JOIN unnest($2::text[], $3::int[], $6::bigint[]) AS wanted (projection, generation, fence)
        USING (projection, generation)
    LEFT JOIN projections.leases AS l ON l.ledger_id = $1 AND l.projection = c.projection
    WHERE c.ledger_id = $1 AND c.position = $4 AND (wanted.fence IS NULL OR wanted.fence = l.fence)
    ORDER BY c.projection
    FOR UPDATE OF c
)
UPDATE projections.checkpoints AS c
SET position = $5, moved_at = clock_timestamp(), state = 'running', error = NULL
FROM place
WHERE c.ledger_id = $1 AND c.projection = place.projection AND c.generation = place.generation
RETURNING
    c.moved_at,
    set_config(
        'search_path',
        (
            SELECT string_agg(quote_ident(projections.schema_of(wanted.projection, wanted.generation)), ', ')
            FROM unnest($2::text[], $3::int[]) AS wanted (projection, generation)
        ),
        true
    ),
    set_config('idle_in_transaction_session_timeout', $7, true);

-- name: point_at
-- Until the transaction ends, tables without a schema are those of this generation. $1 projection, $2 generation
SELECT set_config('search_path', quote_ident(projections.schema_of($1, $2)), true);

-- name: note_visible
-- $1 ledger_id, $2 position, $3 synced_at
INSERT INTO projections.visible_pages (ledger_id, position, synced_at)
VALUES ($1, $2, $3)
ON CONFLICT ON CONSTRAINT visible_pages_pkey DO NOTHING;

-- name: read_visible
-- When the log became visible, stretch by stretch: each holds what follows the one before up to its position.
-- $1 ledger_id, $2 after this position, $3 until this one, or null
SELECT v.position, v.synced_at
FROM projections.visible_pages AS v
WHERE v.ledger_id = $1
  AND v.position > $2
  AND (
      $3::bigint IS NULL
      OR v.position <= (
          SELECT min(last.position) FROM projections.visible_pages AS last
          WHERE last.ledger_id = $1 AND last.position >= $3
      )
  )
ORDER BY v.position;

-- name: note_failure
-- $1 ledger_id, $2 projection, $3 generation, $4 error
UPDATE projections.checkpoints
SET state = 'failing', error = $4
WHERE ledger_id = $1 AND projection = $2 AND generation = $3;
