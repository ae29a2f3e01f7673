-- Events as they lie in the log, for others to check. Tables: migrations/0001_event_log.sql.

-- name: read_evidence
-- $1 ledger_id, $2 stream_ids
SELECT
    position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source, metadata
FROM ledger.events
WHERE ledger_id = $1 AND stream_id = ANY($2::text[])
ORDER BY position;
