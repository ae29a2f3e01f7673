-- What has changed since a position, for lists of the past: ledger.events and projections.calendar_events.

-- name: find_streams_since
-- The streams with events after a position; null where there are more events than may be. Both ends of the stretch are
-- said, so that a plan for any values goes by the index. $1 ledger_id, $2 position, $3 events at most
SELECT
    CASE
        WHEN l.position - $2 <= $3
        THEN ARRAY(
            SELECT DISTINCT e.stream_id
            FROM ledger.events AS e
            WHERE e.ledger_id = $1 AND e.position > $2::bigint AND e.position <= $2 + $3::bigint
        )
    END
FROM ledger.ledgers AS l
WHERE l.ledger_id = $1;

-- name: find_chains
-- These bookings, and the others of their chains, some of them twice. $1 ledger_id, $2 uids, $3 numbers
WITH named AS MATERIALIZED (
    SELECT cal_com_event_id, booking_number, root_uid
    FROM projections.calendar_events
    WHERE ledger_id = $1 AND cal_com_event_id = ANY($2::text[])
    UNION ALL
    SELECT cal_com_event_id, booking_number, root_uid
    FROM projections.calendar_events
    WHERE ledger_id = $1 AND booking_number = ANY($3::bigint[])
)
SELECT cal_com_event_id, booking_number
FROM named
UNION ALL
SELECT c.cal_com_event_id, c.booking_number
FROM (SELECT DISTINCT root_uid FROM named WHERE root_uid <> cal_com_event_id) AS root
JOIN projections.calendar_events AS c
    ON c.ledger_id = $1 AND c.cal_com_event_id = root.root_uid AND c.root_uid = c.cal_com_event_id
UNION ALL
SELECT c.cal_com_event_id, c.booking_number
FROM (SELECT DISTINCT root_uid FROM named) AS root
JOIN projections.calendar_events AS c
    ON c.ledger_id = $1 AND c.root_uid = root.root_uid AND c.root_uid <> c.cal_com_event_id;
