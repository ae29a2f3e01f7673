-- Appending to the logs of api/bench/peers/tables.sql.

-- name: insert_unordered
-- $1 stream_id, $2 event_id, $3 topic, $4 body, $5 occurred_at
INSERT INTO unordered_events (stream_id, stream_version, event_id, topic, state, occurred_at)
VALUES ($1, 1, $2, $3, $4, $5);

-- name: append_locked
-- $1 stream_id, $2 event_id, $3 topic, $4 body, $5 occurred_at
SELECT append_locked($1, $2, $3, $4, $5);

-- name: empty_unordered
TRUNCATE unordered_events;
