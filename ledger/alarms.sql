-- What alarms are made of: ledger.events, ledger.deliveries, ledger.drift.

-- name: read_last_webhook
-- When the last webhook was recorded; none where that is too many events ago. $1 ledger_id, $2 how many are looked at
SELECT e.recorded_at
FROM ledger.ledgers AS l
JOIN ledger.events AS e ON e.ledger_id = l.ledger_id AND e.position > l.position - $2::bigint AND e.source = 'webhook'
WHERE l.ledger_id = $1
ORDER BY e.position DESC
LIMIT 1;

-- name: count_drift
-- How many bookings were found to differ since then, an import left out. $1 ledger_id, $2 since
SELECT count(DISTINCT stream_id)
FROM ledger.drift
WHERE ledger_id = $1 AND found_at > $2 AND NOT is_import AND kind <> 'extra';

-- name: count_mismatches
-- How many signatures did not match since then. $1 ledger_id, $2 since
SELECT count(*)
FROM ledger.deliveries
WHERE ledger_id = $1 AND received_at > $2 AND outcome = 'refused' AND reason = 'mismatch';
