-- When each webhook secret was last used. Table: migrations/0005_access.sql (access.webhook_secrets).

-- name: note_secret_uses
-- $1 fingerprints, $2 when each was last used
INSERT INTO access.webhook_secrets AS s (fingerprint, last_used_at)
SELECT used.fingerprint, used.at
FROM unnest($1::text[], $2::timestamptz[]) AS used (fingerprint, at)
ORDER BY used.fingerprint
ON CONFLICT ON CONSTRAINT webhook_secrets_pkey
    DO UPDATE SET last_used_at = greatest(s.last_used_at, excluded.last_used_at);

-- name: read_secret_uses
-- $1 fingerprints
SELECT fingerprint, last_used_at
FROM access.webhook_secrets
WHERE fingerprint = ANY($1::text[]);
