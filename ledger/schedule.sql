-- When each scheduled job ran last: ledger.schedule. Times are the database's, so that leaders need no common clock.

-- name: read_waits
-- How long until each job's next turn, in seconds; 0 or less: it is due. One that was not finished is due, since whoever
-- began it is gone. $1 ledger_id, $2 jobs, $3 their intervals in seconds
SELECT
    given.job,
    CASE
        WHEN s.finished_at IS NULL THEN 0
        ELSE extract(epoch FROM s.started_at - clock_timestamp())::float8 + given.seconds
    END AS wait_seconds
FROM unnest($2::text[], $3::float8[]) AS given (job, seconds)
LEFT JOIN ledger.schedule AS s ON s.ledger_id = $1 AND s.job = given.job
ORDER BY given.job;

-- name: take_turn
-- Nothing where it had its turn a moment ago, from somebody who thinks that it leads as well; else when the turn began
-- that was cut off, if one was. $1 ledger_id, $2 job, $3 seconds that must lie between two turns, $4 whether one that was
-- cut off is taken up again
WITH before AS (
    SELECT started_at
    FROM ledger.schedule
    WHERE ledger_id = $1 AND job = $2 AND finished_at IS NULL
)
INSERT INTO ledger.schedule AS s (ledger_id, job, started_at)
VALUES ($1, $2, clock_timestamp())
ON CONFLICT (ledger_id, job) DO UPDATE SET started_at = excluded.started_at, finished_at = NULL
WHERE s.started_at <= clock_timestamp() - make_interval(secs => $3) OR ($4 AND s.finished_at IS NULL)
RETURNING (SELECT before.started_at FROM before) AS cut_off_at;

-- name: end_turn
-- $1 ledger_id, $2 job, $3 why it failed, null if it did not
UPDATE ledger.schedule
SET finished_at = clock_timestamp(), error = $3
WHERE ledger_id = $1 AND job = $2;

-- name: list_turns
-- $1 ledger_id
SELECT job, started_at, finished_at, error
FROM ledger.schedule
WHERE ledger_id = $1
ORDER BY job;
