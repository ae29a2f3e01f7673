-- A rebuild: projections.generations, rebuild_ranges, and the functions in migrations/0002 that change the schema.

-- name: begin_generation
-- $1 projection, $2 version of its code
INSERT INTO projections.generations (projection, generation, version, state, phase)
SELECT $1, coalesce(max(generation), 0) + 1, $2, 'building', 'planning'
FROM projections.generations
WHERE projection = $1
ON CONFLICT DO NOTHING
RETURNING generation;

-- name: find_undriven
-- Generations that are to be built and have no driver.
SELECT projection, generation
FROM projections.generations
WHERE state = 'building' AND NOT paused AND driver_until < clock_timestamp()
ORDER BY requested_at, projection;

-- name: find_unanalyzed
-- Live generations with a table that has as many rows, of which its statistics do not know. $1 rows
SELECT DISTINCT g.projection, g.generation
FROM projections.generations AS g
JOIN pg_class AS c ON c.relnamespace = to_regnamespace(projections.schema_of(g.projection, g.generation))
WHERE g.state = 'live'
  AND c.relkind = 'r'
  AND c.reltuples < $1::int
  AND pg_stat_get_live_tuples(c.oid) >= $1::int
ORDER BY g.projection;

-- name: take_wheel
-- The generation is the driver's, unless another drives it. $1 projection, $2 generation, $3 driver, $4 seconds
UPDATE projections.generations
SET driver_fence = CASE WHEN driver = $3 THEN driver_fence ELSE driver_fence + 1 END,
    driver = $3,
    driver_until = clock_timestamp() + make_interval(secs => $4)
WHERE projection = $1
  AND generation = $2
  AND state = 'building'
  AND (driver = $3 OR driver_until < clock_timestamp())
RETURNING driver_fence, phase, paused;

-- name: read_fence
-- Nothing where the generation is not being built any more. $1 projection, $2 generation
SELECT driver_fence
FROM projections.generations
WHERE projection = $1 AND generation = $2 AND state = 'building';

-- name: leave_wheel
-- $1 projection, $2 generation, $3 driver
UPDATE projections.generations
SET driver_until = '-infinity'
WHERE projection = $1 AND generation = $2 AND driver = $3;

-- name: enter_phase
-- Nothing where another drives by now, or the rebuild was cancelled.
-- $1 projection, $2 generation, $3 fence, $4 the phase before, $5 the phase
UPDATE projections.generations
SET phase = $5,
    error = NULL,
    filling_since = CASE WHEN $5 = 'filling' THEN clock_timestamp() ELSE filling_since END
WHERE projection = $1 AND generation = $2 AND driver_fence = $3 AND state = 'building' AND phase = $4
RETURNING generation;

-- name: note_error
-- $1 projection, $2 generation, $3 error
UPDATE projections.generations
SET error = $3
WHERE projection = $1 AND generation = $2 AND state = 'building';

-- name: set_paused
-- $1 projection, $2 whether, $3 state of the generation
UPDATE projections.generations
SET paused = $2
WHERE projection = $1 AND state = $3
RETURNING generation;

-- name: cancel_generation
-- $1 projection
UPDATE projections.generations
SET state = 'cancelled', phase = NULL, paused = false
WHERE projection = $1 AND state = 'building'
RETURNING generation;

-- name: create_tables
-- $1 projection, $2 generation
SELECT projections.create_tables($1, $2);

-- name: read_heads
-- Where each log ends, and up to where a projection shows it. $1 projection
SELECT l.ledger_id, l.position, coalesce(max(c.position), 0) AS shown
FROM ledger.ledgers AS l
LEFT JOIN projections.generations AS g ON g.projection = $1 AND g.state = 'live'
LEFT JOIN projections.checkpoints AS c
    ON c.ledger_id = l.ledger_id AND c.projection = g.projection AND c.generation = g.generation
GROUP BY l.ledger_id
ORDER BY l.ledger_id;

-- name: plan_filling
-- Where it will stand when it has been filled, and the stretches of the log up to there, each of at most so many events.
-- $1 projection, $2 generation, $3 events, $4 ledger_ids, $5 where to stand in each
WITH stand AS (
    SELECT ledger_id, position
    FROM unnest($4::int[], $5::bigint[]) AS s (ledger_id, position)
), stretched AS (
    INSERT INTO projections.rebuild_ranges (projection, generation, ledger_id, after_position, last_position)
    SELECT $1, $2, s.ledger_id, begun, least(begun + $3, s.position)
    FROM stand AS s
    CROSS JOIN LATERAL generate_series(0, s.position - 1, $3::bigint) AS begun
    WHERE s.position > 0
)
INSERT INTO projections.checkpoints (ledger_id, projection, generation, position)
SELECT s.ledger_id, $1, $2, s.position
FROM stand AS s;

-- name: add_ledgers
-- Ledgers that came after the planning begin at their beginning. $1 projection, $2 generation
INSERT INTO projections.checkpoints (ledger_id, projection, generation)
SELECT l.ledger_id, $1, $2
FROM ledger.ledgers AS l
JOIN projections.generations AS g ON g.projection = $1 AND g.generation = $2 AND g.state = 'building'
ON CONFLICT ON CONSTRAINT checkpoints_pkey DO NOTHING;

-- name: commit_lazily
-- Until the session ends nobody waits for the disk: what a crash takes back is built again.
SELECT set_config('synchronous_commit', 'off', false);

-- name: missing_indexes
-- $1 projection, $2 generation
SELECT name
FROM projections.missing_indexes($1, $2);

-- name: add_index
-- $1 projection, $2 generation, $3 name
SELECT projections.add_index($1, $2, $3);

-- name: analyze_tables
-- $1 projection, $2 generation
SELECT projections.analyze_tables($1, $2);

-- name: read_places
-- $1 projection, $2 generation
SELECT c.ledger_id, c.position
FROM projections.checkpoints AS c
WHERE c.projection = $1 AND c.generation = $2
ORDER BY c.ledger_id;

-- name: read_live_position
-- $1 ledger_id, $2 projection
SELECT coalesce(max(c.position), 0)
FROM projections.checkpoints AS c
JOIN projections.generations AS g USING (projection, generation)
WHERE c.ledger_id = $1 AND c.projection = $2 AND g.state = 'live';

-- name: wait_briefly
-- Locks are waited for no longer than this until the transaction ends. $1 milliseconds as text
SELECT set_config('lock_timeout', $1, true);

-- name: lock_live
-- Nobody moves the live generation on until the transaction ends. $1 projection
SELECT c.ledger_id, c.position
FROM projections.checkpoints AS c
JOIN projections.generations AS g USING (projection, generation)
WHERE c.projection = $1 AND g.state = 'live'
ORDER BY c.ledger_id
FOR UPDATE OF c;

-- name: show_generation
-- $1 projection, $2 generation
SELECT projections.show($1, $2);

-- name: retire_live
-- $1 projection
UPDATE projections.generations
SET state = 'retired', paused = false
WHERE projection = $1 AND state = 'live';

-- name: make_live
-- Nothing where another drives by now, or the rebuild was cancelled. $1 projection, $2 generation, $3 fence
UPDATE projections.generations
SET state = 'live', phase = NULL, live_at = clock_timestamp(), driver_until = '-infinity', error = NULL
WHERE projection = $1 AND generation = $2 AND driver_fence = $3 AND state = 'building'
RETURNING generation;

-- name: forget_others
-- Checkpoints and parked events of generations that are neither live nor being built. $1 projection
WITH gone AS (
    SELECT generation FROM projections.generations
    WHERE projection = $1 AND state NOT IN ('live', 'building')
), unparked AS (
    DELETE FROM projections.parked_events
    WHERE projection = $1 AND generation IN (SELECT generation FROM gone)
), unplanned AS (
    DELETE FROM projections.rebuild_ranges
    WHERE projection = $1 AND generation IN (SELECT generation FROM gone)
)
DELETE FROM projections.checkpoints
WHERE projection = $1 AND generation IN (SELECT generation FROM gone);

-- name: note_swap
-- $1 projection, $2 generation, $3 milliseconds
UPDATE projections.generations
SET swap_ms = $3
WHERE projection = $1 AND generation = $2;

-- name: find_undropped
-- Generations whose tables are of no use any more.
SELECT projection, generation
FROM projections.generations
WHERE state IN ('retired', 'cancelled')
ORDER BY projection, generation;

-- name: drop_tables
-- $1 projection, $2 generation
SELECT projections.drop_tables($1, $2);

-- name: note_dropped
-- $1 projection, $2 generation
UPDATE projections.generations
SET state = 'dropped'
WHERE projection = $1 AND generation = $2 AND state IN ('retired', 'cancelled');
