-- Bookings to ask Cal.com about, one by one: ledger.questions.

-- name: note_young
-- Asked about once they can be judged; a doubt that waits keeps its turn if that is sooner.
-- $1 ledger_id, $2 uids, $3 ask at, $4 noted at
INSERT INTO ledger.questions AS q (ledger_id, uid, reason, since, ask_at)
SELECT $1, given.uid, 'young', $4, given.ask_at
FROM unnest($2::text[], $3::timestamptz[]) AS given (uid, ask_at)
ON CONFLICT (ledger_id, uid) DO UPDATE SET ask_at = least(q.ask_at, excluded.ask_at);

-- name: note_doubts
-- A doubt that waits keeps its turn, unless it is a new one. $1 ledger_id, $2 uids, $3 since, $4 ask at
INSERT INTO ledger.questions AS q (ledger_id, uid, reason, since, ask_at)
SELECT $1, given.uid, 'doubt', given.since, given.ask_at
FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS given (uid, since, ask_at)
ON CONFLICT (ledger_id, uid) DO UPDATE SET
    reason = excluded.reason,
    since = excluded.since,
    times_asked = 0,
    asked_at = NULL,
    ask_at = least(q.ask_at, excluded.ask_at)
WHERE q.since < excluded.since;

-- name: read_due
-- Those whose time has come, the longest due first. $1 ledger_id, $2 now, $3 at most so many
SELECT uid, reason, times_asked
FROM ledger.questions
WHERE ledger_id = $1 AND ask_at <= $2
ORDER BY ask_at, uid
LIMIT $3;

-- name: read_young
-- What can be judged by then. $1 ledger_id, $2 by when, $3 at most so many
SELECT uid, ask_at
FROM ledger.questions
WHERE ledger_id = $1 AND ask_at <= $2 AND reason = 'young'
ORDER BY ask_at, uid
LIMIT $3;

-- name: forget_questions
-- Answered. $1 ledger_id, $2 uids
DELETE FROM ledger.questions
WHERE ledger_id = $1 AND uid = ANY($2::text[]);

-- name: put_off
-- Cal.com had nothing to say. Whoever asked before it was time changes nothing of the times.
-- $1 ledger_id, $2 uid, $3 asked at, $4 seconds until the next time, each time longer; past the last of them nobody asks
-- any more
INSERT INTO ledger.questions AS q (ledger_id, uid, reason, since, times_asked, asked_at, ask_at)
VALUES ($1, $2, 'unlisted', $3, 1, $3, $3::timestamptz + make_interval(secs => ($4::float8[])[1]))
ON CONFLICT (ledger_id, uid) DO UPDATE SET
    reason = excluded.reason,
    asked_at = excluded.asked_at,
    times_asked = q.times_asked + (q.ask_at <= $3)::int,
    ask_at = CASE
        WHEN q.ask_at > $3 THEN q.ask_at
        ELSE coalesce($3::timestamptz + make_interval(secs => ($4::float8[])[q.times_asked + 1]), 'infinity')
    END;

-- name: read_asked_since
-- Which of these were asked about at or after a moment. $1 ledger_id, $2 uids, $3 the moment
SELECT uid
FROM ledger.questions
WHERE ledger_id = $1 AND uid = ANY($2::text[]) AND asked_at >= $3
ORDER BY uid;
