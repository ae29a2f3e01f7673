-- Links of deliveries: ledger.events.

-- name: find_recorded
-- Which of these events are in the log. $1 ledger_id, $2 event_ids
SELECT event_id
FROM ledger.events
WHERE ledger_id = $1 AND event_id = ANY($2::uuid[]);
