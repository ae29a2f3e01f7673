-- Keys: of bookings in ledger.body_keys, each wrapped by one of ledger.root_keys. Tables: migrations/0008_sealing.sql,
-- and migrations/keys/ for a database in which keys live apart from the log.

-- name: read_root_keys
SELECT root_key, secret, retired_at IS NOT NULL AS is_retired
FROM ledger.root_keys
ORDER BY made_at, root_key;

-- name: is_root_key_used
-- $1 root_key
SELECT EXISTS (SELECT FROM ledger.body_keys WHERE root_key = $1 AND wrapped IS NOT NULL);

-- name: make_own_root_key
-- Whoever comes second has none of its own made. $1 root_key, $2 secret
INSERT INTO ledger.root_keys (root_key, secret)
SELECT $1, $2
WHERE NOT EXISTS (SELECT FROM ledger.root_keys WHERE retired_at IS NULL)
ON CONFLICT DO NOTHING;

-- name: use_root_key
-- $1 root_key
INSERT INTO ledger.root_keys AS known (root_key)
VALUES ($1)
ON CONFLICT ON CONSTRAINT root_keys_pkey DO UPDATE SET retired_at = NULL WHERE known.retired_at IS NOT NULL;

-- name: read_keys
-- $1 ledger_id, $2 key_ids
SELECT uuid_send(key_id) AS key_id, wrapped, root_key
FROM ledger.body_keys
WHERE ledger_id = $1 AND key_id = ANY($2::uuid[]);

-- name: keep_keys
-- For keys that live apart: kept before the batch that uses them. 0 where the root key is retired or unknown.
-- $1 ledger_id, $2 key_ids, $3 the keys, wrapped (null: destroyed), $4 the root key that wraps them
WITH live AS (
    SELECT root_key
    FROM ledger.root_keys
    WHERE root_key = $4 AND retired_at IS NULL
    FOR SHARE
), kept AS (
    INSERT INTO ledger.body_keys (ledger_id, key_id, wrapped, root_key)
    SELECT $1, used.key_id, used.wrapped, CASE WHEN used.wrapped IS NOT NULL THEN live.root_key END
    FROM unnest($2::uuid[], $3::bytea[]) AS used (key_id, wrapped)
    CROSS JOIN live
    ON CONFLICT ON CONSTRAINT body_keys_pkey DO NOTHING
)
SELECT count(*) FROM live;

-- name: destroy_keys
-- In the log's own database, and everybody who keeps opened keys is told. $1 ledger_id, $2 key_ids
SELECT ledger.destroy_keys($1, $2);

-- name: destroy_keys_apart
-- $1 ledger_id, $2 key_ids
WITH destroyed AS (
    UPDATE ledger.body_keys
    SET wrapped = NULL, root_key = NULL
    WHERE ledger_id = $1 AND key_id = ANY($2::uuid[]) AND wrapped IS NOT NULL
    RETURNING key_id
)
SELECT count(*) FROM destroyed;

-- name: read_key_ids
-- Under which keys the bodies of these streams lie. $1 ledger_id, $2 stream_ids
SELECT DISTINCT encode(substring(state FROM 1 FOR 16), 'hex')::uuid AS key_id
FROM ledger.events
WHERE ledger_id = $1 AND stream_id = ANY($2::text[]) AND encoding IN (2, 3) AND octet_length(state) >= 44
ORDER BY key_id;

-- name: count_root_keys
SELECT
    r.root_key,
    r.secret IS NOT NULL AS has_secret,
    r.retired_at IS NOT NULL AS is_retired,
    count(k.key_id) AS body_keys
FROM ledger.root_keys AS r
LEFT JOIN ledger.body_keys AS k ON k.root_key = r.root_key AND k.wrapped IS NOT NULL
GROUP BY r.root_key
ORDER BY r.made_at, r.root_key;

-- name: count_destroyed
SELECT count(*)
FROM ledger.body_keys
WHERE wrapped IS NULL;

-- name: count_keys
SELECT count(*)
FROM ledger.body_keys;

-- name: retire_root_keys
-- $1 the root key that stays
SELECT ledger.retire_root_keys($1);

-- name: count_foreign
-- $1 root_key
SELECT count(*)
FROM ledger.body_keys
WHERE wrapped IS NOT NULL AND root_key <> $1;

-- name: read_foreign
-- Keys wrapped by others, in order. $1 ledger_id and $2 key_id to begin after, $3 root_key, $4 at most so many
SELECT ledger_id, key_id, wrapped, root_key
FROM ledger.body_keys
WHERE (ledger_id, key_id) > ($1, $2) AND wrapped IS NOT NULL AND root_key <> $3
ORDER BY ledger_id, key_id
LIMIT $4;

-- name: rewrap_keys
-- What was destroyed meanwhile stays so. $1 ledger_id, $2 key_ids, $3 as they were wrapped, $4 as they are now, $5 root_key
UPDATE ledger.body_keys AS k
SET wrapped = new.wrapped, root_key = $5
FROM unnest($2::uuid[], $3::bytea[], $4::bytea[]) AS new (key_id, before, wrapped)
WHERE k.ledger_id = $1 AND k.key_id = new.key_id AND k.wrapped = new.before;

-- name: read_any_keys
-- $1 at most so many
SELECT ledger_id, key_id, wrapped, root_key
FROM ledger.body_keys
ORDER BY ledger_id, key_id
LIMIT $1;

-- name: forget_keys
-- Of keys that have moved. $1 ledger_id, $2 key_ids
SELECT ledger.forget_keys($1, $2);

-- name: forget_root_keys
-- Those that are retired and wrap nothing. $1 the one that stays
DELETE FROM ledger.root_keys AS r
WHERE r.root_key <> $1
  AND NOT EXISTS (SELECT FROM ledger.body_keys AS k WHERE k.root_key = r.root_key AND k.wrapped IS NOT NULL)
RETURNING r.root_key;

-- name: read_last_sealed
-- The last event of each log, which says whether what we have opens what is there.
SELECT l.ledger_id, l.name, l.erasures, substring(e.state FROM 1 FOR 16) AS key_id
FROM ledger.ledgers AS l
JOIN ledger.events AS e ON e.ledger_id = l.ledger_id AND e.position = l.position
WHERE e.encoding IN (2, 3) AND octet_length(e.state) >= 44
ORDER BY l.ledger_id;
