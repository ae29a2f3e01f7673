-- One booking by any of its names. What it looks like is read from the log, not from here.

-- name: find_uids_by_ical_uid
-- The bookings with this calendar id, the one that stands now first. $1 ledger_id, $2 iCalUID
SELECT cal_com_event_id
FROM projections.calendar_events
WHERE ledger_id = $1 AND ical_uid = $2
ORDER BY rescheduled_to IS NOT NULL, created_at DESC, cal_com_event_id;
