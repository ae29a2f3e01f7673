-- Sweeps of Cal.com's list: ledger.sweeps, and what each was shown, ledger.swept_bookings. Times of who drives are the
-- database's. Where a sweep's row and a ledger's head are both locked, the sweep's comes first.

-- name: ask_for_sweep
-- Nothing where one of this kind waits or runs. $1 ledger_id, $2 sweep_id, $3 kind, $4 cause
INSERT INTO ledger.sweeps (ledger_id, sweep_id, kind, cause, state)
VALUES ($1, $2, $3, $4, 'waiting')
ON CONFLICT DO NOTHING;

-- name: read_sweeps
-- The latest first. $1 ledger_id, $2 this one (null: any), $3 of this kind (null: any), $4 whether unfinished ones only,
-- $5 at most so many
SELECT
    sweep_id, kind, cause, state, asked_at, started_at, finished_at, after_updated_at, place, is_listed, is_import, pages,
    total, seen, missing, stale, extra, settled, young, unreadable, observed, error
FROM ledger.sweeps
WHERE ledger_id = $1
  AND ($2::uuid IS NULL OR sweep_id = $2)
  AND ($3::text IS NULL OR kind = $3)
  AND (state <> 'done' OR NOT $4::boolean)
ORDER BY asked_at DESC, sweep_id
LIMIT $5;

-- name: read_left
-- Unfinished sweeps that nobody drives; of those that nobody has begun, the ones that were requested.
-- $1 ledger_id, $2 whether only those that nobody has begun
SELECT s.sweep_id
FROM ledger.sweeps AS s
WHERE s.ledger_id = $1
  AND ((s.state = 'waiting' AND s.cause = 'request') OR (s.state = 'running' AND NOT $2::boolean))
  AND (
      s.driver_until < clock_timestamp()
      OR NOT EXISTS (
          SELECT FROM pg_stat_activity AS a WHERE a.pid = s.driver_pid AND a.backend_start = s.driver_start
      )
  )
ORDER BY s.asked_at;

-- name: read_last_start
-- When the last one began, of those that read everything changed until then. $1 ledger_id
SELECT max(started_at)
FROM ledger.sweeps
WHERE ledger_id = $1 AND state = 'done' AND kind IN ('incremental', 'full');

-- name: take_sweep
-- The sweep is the driver's: nobody drives it, or whoever did let its time run out, or its session is gone. The driver's
-- session is the one that asks. $1 ledger_id, $2 sweep_id, $3 driver, $4 seconds
UPDATE ledger.sweeps AS s
SET
    driver = $3,
    driver_until = clock_timestamp() + make_interval(secs => $4),
    driver_pid = own.pid,
    driver_start = own.backend_start
FROM (SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS own
WHERE s.ledger_id = $1
  AND s.sweep_id = $2
  AND s.state <> 'done'
  AND (
      s.driver_until < clock_timestamp()
      OR NOT EXISTS (
          SELECT FROM pg_stat_activity AS a WHERE a.pid = s.driver_pid AND a.backend_start = s.driver_start
      )
  )
RETURNING s.sweep_id;

-- name: renew_sweep
-- $1 ledger_id, $2 sweep_id, $3 driver, $4 seconds
UPDATE ledger.sweeps
SET driver_until = clock_timestamp() + make_interval(secs => $4)
WHERE ledger_id = $1 AND sweep_id = $2 AND driver = $3
RETURNING sweep_id;

-- name: leave_sweep
-- Whoever comes next may take it at once. $1 ledger_id, $2 sweep_id, $3 driver, $4 why it was left, null if all is well
UPDATE ledger.sweeps
SET driver_until = '-infinity', error = $4
WHERE ledger_id = $1 AND sweep_id = $2 AND driver = $3;

-- name: start_sweep
-- $1 ledger_id, $2 sweep_id, $3 driver, $4 started at, $5 only what changed at or after this (null: all)
UPDATE ledger.sweeps AS s
SET
    state = 'running',
    started_at = $4,
    after_updated_at = $5,
    is_import = NOT EXISTS (SELECT FROM ledger.events AS e WHERE e.ledger_id = $1 AND e.position = 1)
WHERE s.ledger_id = $1 AND s.sweep_id = $2 AND s.driver = $3 AND s.state = 'waiting';

-- name: turn_page
-- The page's bookings were shown, and the sweep stands at the next page. Nothing where another drives.
-- $1 ledger_id, $2 sweep_id, $3 driver, $4 pages before, $5 uids, $6 next place (null: none is known), $7 whether this was
-- the last, $8 total, $9 missing, $10 stale, $11 settled, $12 young, $13 unreadable
WITH shown AS (
    INSERT INTO ledger.swept_bookings (ledger_id, sweep_id, uid)
    SELECT $1, $2, given.uid
    FROM unnest($5::text[]) AS given (uid)
    ON CONFLICT DO NOTHING
    RETURNING uid
)
UPDATE ledger.sweeps
SET
    pages = pages + 1,
    place = $6,
    is_listed = $7,
    total = coalesce($8, total),
    seen = seen + (SELECT count(*) FROM shown),
    missing = missing + $9,
    stale = stale + $10,
    settled = settled + $11,
    young = young + $12,
    unreadable = unreadable + $13
WHERE ledger_id = $1 AND sweep_id = $2 AND driver = $3 AND pages = $4
RETURNING sweep_id;

-- name: add_figures
-- $1 ledger_id, $2 sweep_id, $3 driver, $4 missing, $5 stale, $6 settled, $7 young, $8 unreadable, $9 observed
UPDATE ledger.sweeps
SET
    missing = missing + $4,
    stale = stale + $5,
    settled = settled + $6,
    young = young + $7,
    unreadable = unreadable + $8,
    observed = observed + $9
WHERE ledger_id = $1 AND sweep_id = $2 AND driver = $3
RETURNING sweep_id;

-- name: begin_again
-- From the top: the place cannot be gone on from. $1 ledger_id, $2 sweep_id, $3 driver
UPDATE ledger.sweeps
SET place = NULL
WHERE ledger_id = $1 AND sweep_id = $2 AND driver = $3;

-- name: read_shown
-- $1 ledger_id, $2 sweep_id
SELECT uid
FROM ledger.swept_bookings
WHERE ledger_id = $1 AND sweep_id = $2
ORDER BY uid;

-- name: finish_sweep
-- $1 ledger_id, $2 sweep_id, $3 driver, $4 finished at, $5 extra
UPDATE ledger.sweeps
SET state = 'done', finished_at = $4, extra = $5, place = NULL, error = NULL, driver_until = '-infinity'
WHERE ledger_id = $1 AND sweep_id = $2 AND driver = $3 AND state = 'running'
RETURNING sweep_id;

-- name: forget_shown
-- $1 ledger_id, $2 sweep_id
DELETE FROM ledger.swept_bookings
WHERE ledger_id = $1 AND sweep_id = $2;

-- name: trim_sweeps
-- The last ones are kept. $1 ledger_id, $2 kind, $3 how many
DELETE FROM ledger.sweeps
WHERE ledger_id = $1
  AND kind = $2
  AND state = 'done'
  AND sweep_id NOT IN (
      SELECT sweep_id
      FROM ledger.sweeps
      WHERE ledger_id = $1 AND kind = $2 AND state = 'done'
      ORDER BY started_at DESC
      LIMIT $3
  );
