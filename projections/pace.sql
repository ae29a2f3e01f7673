-- How lively the log is: ledger.events from the heads backwards.

-- name: is_lively
-- Whether all ledgers together were given so many events within the last second. $1 events
SELECT count(*) >= $1::int
FROM ledger.ledgers AS l
CROSS JOIN LATERAL (
    SELECT e.recorded_at
    FROM ledger.events AS e
    WHERE e.ledger_id = l.ledger_id
    ORDER BY e.position DESC
    LIMIT $1::int
) AS latest
WHERE latest.recorded_at > clock_timestamp() - interval '1 second';
