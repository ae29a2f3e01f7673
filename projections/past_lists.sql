-- What has changed since a position, for lists of the past: ledger.events and projections.calendar_events.

-- name: find_streams_since
-- The streams with events after a position. $1 ledger_id, $2 position
SELECT DISTINCT stream_id
FROM ledger.events
WHERE ledger_id = $1 AND position > $2;

-- name: find_chains
-- These bookings, and the others of their chains. $1 ledger_id, $2 uids, $3 numbers
WITH root AS MATERIALIZED (
    SELECT root_uid FROM projections.calendar_events
    WHERE ledger_id = $1 AND cal_com_event_id = ANY($2::text[])
    UNION
    SELECT root_uid FROM projections.calendar_events
    WHERE ledger_id = $1 AND booking_number = ANY($3::bigint[])
)
SELECT c.cal_com_event_id, c.booking_number
FROM root
JOIN projections.calendar_events AS c
    ON c.ledger_id = $1 AND c.cal_com_event_id = root.root_uid AND c.root_uid = c.cal_com_event_id
UNION ALL
SELECT c.cal_com_event_id, c.booking_number
FROM root
JOIN projections.calendar_events AS c
    ON c.ledger_id = $1 AND c.root_uid = root.root_uid AND c.root_uid <> c.cal_com_event_id;
