-- Sessions of people who signed in. Tables: migrations/0005_access.sql (access.sessions, access.users).

-- name: open_session
-- Sessions that are over, anybody's, go. $1 digest, $2 user_id, $3 idle seconds at most, $4 seconds at most
WITH signed_in AS (
    UPDATE access.users
    SET last_signed_in_at = now()
    WHERE user_id = $2
), swept AS (
    DELETE FROM access.sessions
    WHERE seen_at <= now() - make_interval(secs => $3) OR opened_at <= now() - make_interval(secs => $4)
)
INSERT INTO access.sessions (digest, user_id)
VALUES ($1, $2);

-- name: find_session
-- Whose it is, and once a minute that it was seen. $1 digest, $2 idle seconds at most, $3 seconds at most,
-- $4 seconds between two notes
WITH found AS (
    SELECT s.digest, s.opened_at, s.seen_at, u.name, u.role, u.ledger_id
    FROM access.sessions AS s
    JOIN access.users AS u USING (user_id)
    WHERE
        s.digest = $1
        AND u.disabled_at IS NULL
        AND s.seen_at > now() - make_interval(secs => $2)
        AND s.opened_at > now() - make_interval(secs => $3)
), seen AS (
    UPDATE access.sessions AS s
    SET seen_at = now()
    FROM found
    WHERE s.digest = found.digest AND found.seen_at <= now() - make_interval(secs => $4)
)
SELECT name, role, ledger_id, opened_at + make_interval(secs => $3) AS ends_at
FROM found;

-- name: end_session
-- $1 digest
DELETE FROM access.sessions
WHERE digest = $1;
