-- What reconciliation asks of projections.calendar_events.

-- name: read_doubted
-- $1 ledger_id, $2 at most so many
SELECT cal_com_event_id, coalesce(updated_at, synced_at) AS updated_at
FROM projections.calendar_events
WHERE ledger_id = $1 AND doubts <> '{}' AND cal_com_event_id IS DISTINCT FROM booking_number::text
ORDER BY updated_at DESC, cal_com_event_id
LIMIT $2;

-- name: read_unlisted
-- Bookings, known by uid, that are neither over nor among those listed. What has no end may be to come.
-- $1 ledger_id, $2 uids that were listed, $3 only what ends after this (null: all), $4 only what was last heard
-- of before
SELECT c.cal_com_event_id, c.booking_status, c.updated_at
FROM projections.calendar_events AS c
WHERE c.ledger_id = $1
  AND c.booking_status IN ('pending', 'accepted')
  AND c.cal_com_event_id IS DISTINCT FROM c.booking_number::text
  AND ($3::timestamptz IS NULL OR c.end_time IS NULL OR c.end_time >= $3)
  AND c.updated_at < $4
  AND NOT EXISTS (SELECT FROM unnest($2::text[]) AS listed (uid) WHERE listed.uid = c.cal_com_event_id)
ORDER BY c.cal_com_event_id;

-- name: read_over
-- Bookings that are over and were last heard of before a moment, in order of name. $1 ledger_id, $2 the moment,
-- $3 after this name, $4 at most so many
SELECT cal_com_event_id, cal_com_event_id IS NOT DISTINCT FROM booking_number::text AS is_number
FROM projections.calendar_events
WHERE ledger_id = $1
  AND cal_com_event_id > $3
  AND updated_at < $2
  AND coalesce(end_time, start_time, updated_at) < $2
ORDER BY cal_com_event_id
LIMIT $4;
