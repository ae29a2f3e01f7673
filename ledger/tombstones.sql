-- Who must not come back: ledger.erasures and ledger.erased_streams.

-- name: read_count
-- $1 ledger_id
SELECT name, event_id_key, erasures
FROM ledger.ledgers
WHERE ledger_id = $1;

-- name: read_tags
-- $1 ledger_id
SELECT person_tag, max(erased_at) AS erased_at
FROM ledger.erasures
WHERE ledger_id = $1 AND person_tag IS NOT NULL
GROUP BY person_tag;

-- name: read_streams
-- $1 ledger_id
SELECT stream_id, bool_or(is_gone) AS is_gone
FROM ledger.erased_streams
WHERE ledger_id = $1
GROUP BY stream_id;
