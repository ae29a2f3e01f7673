-- API keys. Table: migrations/0005_access.sql (access.api_keys).

-- name: insert_key
-- No row where as many keys are live as may be. $1 key_id, $2 name, $3 role, $4 ledger_id, $5 digest, $6 expires_at,
-- $7 live keys at most
INSERT INTO access.api_keys (key_id, name, role, ledger_id, digest, expires_at)
SELECT $1, $2, $3, $4, $5, $6
WHERE $7 > (
    SELECT count(*)
    FROM access.api_keys
    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
)
RETURNING created_at;

-- name: read_keys
SELECT
    k.key_id, k.name, k.role, l.name AS ledger, k.created_at, k.expires_at, k.last_used_at, k.revoked_at,
    k.expires_at <= now() AS expired
FROM access.api_keys AS k
LEFT JOIN ledger.ledgers AS l USING (ledger_id)
ORDER BY k.created_at, k.key_id;

-- name: read_live_keys
SELECT key_id, name, role, ledger_id, digest, expires_at
FROM access.api_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
ORDER BY key_id;

-- name: find_keys
-- $1 beginning of the key_id
SELECT key_id
FROM access.api_keys
WHERE starts_with(key_id, $1)
ORDER BY key_id
LIMIT 2;

-- name: revoke_key
-- The first revocation's time stands. $1 key_id
UPDATE access.api_keys
SET revoked_at = coalesce(revoked_at, now())
WHERE key_id = $1;

-- name: note_key_uses
-- $1 key_ids, $2 when each was last used
UPDATE access.api_keys AS k
SET last_used_at = greatest(k.last_used_at, used.at)
FROM unnest($1::text[], $2::timestamptz[]) AS used (key_id, at)
WHERE k.key_id = used.key_id;
