-- The read model `calendar_events`: projections.calendar_events_1, shown as public.calendar_events.

-- name: find_streams_by_number
-- Bookings with a uid that carry one of these numbers. $1 ledger_id, $2 numbers
SELECT booking_number, cal_com_event_id
FROM projections.calendar_events_1
WHERE ledger_id = $1 AND booking_number = ANY($2::bigint[]) AND cal_com_event_id <> booking_number::text
ORDER BY booking_number, cal_com_event_id;

-- name: delete_merged
-- Rows known by number whose uid is known by now. $1 ledger_id, $2 numbers as text
DELETE FROM projections.calendar_events_1
WHERE ledger_id = $1 AND cal_com_event_id = ANY($2::text[]);

-- name: upsert_bookings
-- $1 whole rows, one per booking. A row that says the same as before keeps its synced_at.
INSERT INTO projections.calendar_events_1 AS old
SELECT given.* FROM unnest($1::projections.calendar_events_1[]) AS given
ON CONFLICT ON CONSTRAINT calendar_events_1_pkey DO UPDATE SET
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
    synced_at = excluded.synced_at
WHERE (old.position, old.root_uid, old.metadata, old.status, old.booking_number, old.doubts)
    IS DISTINCT FROM
    (excluded.position, excluded.root_uid, excluded.metadata, excluded.status, excluded.booking_number, excluded.doubts);
