-- Who keeps a projection of a ledger current: projections.leases. Times are the database's.

-- name: read_session
-- What identifies a session for as long as it lives.
SELECT pid, backend_start
FROM pg_stat_activity
WHERE pid = pg_backend_pid();

-- name: take_leases
-- The leases that are the holder's now: its own, those that ran out, those whose holder's session is gone. The fence of
-- one that changes hands rises. $1 ledger_id, $2 projections, $3 holder, $4 seconds, $5 and $6 the holder's session
INSERT INTO projections.leases AS l (ledger_id, projection, holder, expires_at, session_pid, session_start)
SELECT $1, wanted.projection, $3, clock_timestamp() + make_interval(secs => $4), $5, $6
FROM unnest($2::text[]) AS wanted (projection)
ORDER BY wanted.projection
ON CONFLICT (ledger_id, projection) DO UPDATE SET
    fence = CASE WHEN l.holder = excluded.holder THEN l.fence ELSE l.fence + 1 END,
    holder = excluded.holder,
    expires_at = excluded.expires_at,
    session_pid = excluded.session_pid,
    session_start = excluded.session_start
WHERE l.holder = excluded.holder
   OR l.expires_at < clock_timestamp()
   OR (
       l.session_pid IS NOT NULL
       AND NOT EXISTS (
           SELECT FROM pg_stat_activity AS a WHERE a.pid = l.session_pid AND a.backend_start = l.session_start
       )
   )
RETURNING l.projection, l.fence;

-- name: release_leases
-- $1 holder
UPDATE projections.leases
SET expires_at = '-infinity'
WHERE holder = $1;
