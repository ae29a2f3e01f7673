-- People who sign in. Tables: migrations/0005_access.sql (access.users, access.sessions).

-- name: insert_user
-- No row where the name is taken. $1 user_id, $2 name, $3 role, $4 ledger_id, $5 password_hash
INSERT INTO access.users (user_id, name, role, ledger_id, password_hash)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT ON CONSTRAINT users_name_unique DO NOTHING
RETURNING user_id;

-- name: read_users
SELECT
    u.name, u.role, l.name AS ledger, u.created_at, u.password_changed_at, u.last_signed_in_at, u.disabled_at,
    (SELECT count(*) FROM access.sessions AS s WHERE s.user_id = u.user_id) AS sessions
FROM access.users AS u
LEFT JOIN ledger.ledgers AS l USING (ledger_id)
ORDER BY u.name;

-- name: find_user
-- $1 name
SELECT user_id, name, role, ledger_id, password_hash, disabled_at IS NOT NULL AS disabled
FROM access.users
WHERE name = $1;

-- name: set_disabled
-- $1 name, $2 disabled
UPDATE access.users
SET disabled_at = CASE WHEN $2 THEN coalesce(disabled_at, now()) END
WHERE name = $1
RETURNING user_id;

-- name: set_password
-- $1 name, $2 password_hash
UPDATE access.users
SET password_hash = $2, password_changed_at = now()
WHERE name = $1
RETURNING user_id;

-- name: renew_hash
-- The same password, kept by better parameters, unless it was changed meanwhile. $1 user_id, $2 old hash, $3 new hash
UPDATE access.users
SET password_hash = $3
WHERE user_id = $1 AND password_hash = $2;

-- name: end_sessions
-- $1 user_id
DELETE FROM access.sessions
WHERE user_id = $1;
