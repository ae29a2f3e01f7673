-- The read model `calendar_events`, shown as public.calendar_events. The search path names the generation; lookups ask
-- the one that is live.

-- name: find_streams_by_number
-- Bookings with a uid that carry one of these numbers. $1 ledger_id, $2 numbers
SELECT booking_number, cal_com_event_id
FROM projections.calendar_events
WHERE ledger_id = $1 AND booking_number = ANY($2::bigint[]) AND cal_com_event_id <> booking_number::text
ORDER BY booking_number, cal_com_event_id;

-- name: find_streams_by_number_here
-- The same from the generation that the search path names. $1 ledger_id, $2 numbers
SELECT booking_number, cal_com_event_id
FROM calendar_events
WHERE ledger_id = $1 AND booking_number = ANY($2::bigint[]) AND cal_com_event_id <> booking_number::text
ORDER BY booking_number, cal_com_event_id;

-- name: name_successors
-- A successor that was known by its number is named by its uid, where a booking with one has that number.
WITH numbered AS MATERIALIZED (
    SELECT ledger_id, cal_com_event_id, rescheduled_to
    FROM calendar_events
    WHERE rescheduled_to ~ '^[0-9]+$'
)
UPDATE calendar_events AS old
SET rescheduled_to = successor.cal_com_event_id
FROM numbered
JOIN calendar_events AS successor
    ON successor.ledger_id = numbered.ledger_id AND successor.booking_number::text = numbered.rescheduled_to
WHERE old.ledger_id = numbered.ledger_id
  AND old.cal_com_event_id = numbered.cal_com_event_id
  AND successor.cal_com_event_id <> successor.booking_number::text;

-- name: delete_merged
-- Rows known by number whose uid is known by now. $1 ledger_id, $2 numbers as text
DELETE FROM calendar_events
WHERE ledger_id = $1 AND cal_com_event_id = ANY($2::text[]);

-- name: upsert_bookings
-- A booking of which nothing new became known (another of its chain was told of) keeps its synced_at.
-- $1 whole rows, one per booking
INSERT INTO calendar_events AS old
SELECT given.* FROM unnest($1::calendar_events_0.calendar_events[]) AS given
ON CONFLICT (ledger_id, cal_com_event_id) DO UPDATE SET
    id = excluded.id,
    ledger = excluded.ledger,
    salon_id = excluded.salon_id,
    client_id = excluded.client_id,
    pet_id = excluded.pet_id,
    title = excluded.title,
    description = excluded.description,
    start_time = excluded.start_time,
    end_time = excluded.end_time,
    duration_minutes = excluded.duration_minutes,
    status = excluded.status,
    booking_status = excluded.booking_status,
    attendee_email = excluded.attendee_email,
    attendee_name = excluded.attendee_name,
    attendee_phone = excluded.attendee_phone,
    attendees = excluded.attendees,
    host_email = excluded.host_email,
    host_name = excluded.host_name,
    event_type = excluded.event_type,
    location = excluded.location,
    meeting_url = excluded.meeting_url,
    appointment_id = excluded.appointment_id,
    root_uid = excluded.root_uid,
    rescheduled_from = excluded.rescheduled_from,
    rescheduled_to = excluded.rescheduled_to,
    paid = excluded.paid,
    no_show = excluded.no_show,
    cancellation_reason = excluded.cancellation_reason,
    cancelled_by = excluded.cancelled_by,
    rejection_reason = excluded.rejection_reason,
    recording_url = excluded.recording_url,
    metadata = excluded.metadata,
    doubts = excluded.doubts,
    booking_number = excluded.booking_number,
    ical_uid = excluded.ical_uid,
    started = excluded.started,
    ended = excluded.ended,
    marked = excluded.marked,
    position = excluded.position,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    synced_at = CASE WHEN excluded.position = old.position THEN old.synced_at ELSE excluded.synced_at END
WHERE (old.position, old.root_uid, old.metadata, old.status, old.booking_number, old.doubts, old.rescheduled_to)
    IS DISTINCT FROM (
        excluded.position, excluded.root_uid, excluded.metadata, excluded.status, excluded.booking_number,
        excluded.doubts, excluded.rescheduled_to
    );
