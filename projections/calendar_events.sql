-- The read model `calendar_events`, shown as public.calendar_events. The search path names the generation; lookups ask
-- the one that is live.

-- name: find_streams_by_number
-- Bookings that carry one of these numbers, the one that goes by the number itself first. $1 ledger_id, $2 numbers
SELECT booking_number, cal_com_event_id
FROM projections.calendar_events
WHERE ledger_id = $1 AND booking_number = ANY($2::bigint[])
ORDER BY booking_number, cal_com_event_id <> booking_number::text, cal_com_event_id;

-- name: find_streams_by_number_here
-- The same from the generation that the search path names. $1 ledger_id, $2 numbers
SELECT booking_number, cal_com_event_id
FROM calendar_events
WHERE ledger_id = $1 AND booking_number = ANY($2::bigint[])
ORDER BY booking_number, cal_com_event_id <> booking_number::text, cal_com_event_id;

-- name: name_successors
-- A successor that was known by its number is named by its uid, where a booking with one has that number. A uid may
-- read like a number too: then it is a row's own.
WITH numbered AS MATERIALIZED (
    SELECT old.ledger_id, old.cal_com_event_id, old.rescheduled_to
    FROM calendar_events AS old
    WHERE old.rescheduled_to ~ '^[0-9]+$'
      AND NOT EXISTS (
          SELECT FROM calendar_events AS own
          WHERE own.ledger_id = old.ledger_id AND own.cal_com_event_id = old.rescheduled_to
      )
)
UPDATE calendar_events AS old
SET rescheduled_to = successor.cal_com_event_id
FROM numbered
JOIN calendar_events AS successor
    ON successor.ledger_id = numbered.ledger_id AND successor.booking_number::text = numbered.rescheduled_to
WHERE old.ledger_id = numbered.ledger_id
  AND old.cal_com_event_id = numbered.cal_com_event_id
  AND successor.cal_com_event_id <> successor.booking_number::text;

-- name: delete_bookings
-- Rows known by number whose uid is known by now, what is no booking any more, and what is to be made anew.
-- $1 ledger_id, $2 uids, or numbers as text
DELETE FROM calendar_events
WHERE ledger_id = $1 AND cal_com_event_id = ANY($2::text[]);

-- name: read_both
-- Rows as they would be, and as they are held. $1 whole rows, $2 ledger_id, $3 keys of those that are held
SELECT false AS is_held, to_jsonb(given)::text AS told
FROM unnest($1::calendar_events_0.calendar_events[]) AS given
UNION ALL
SELECT true, to_jsonb(held)::text
FROM calendar_events AS held
WHERE held.ledger_id = $2 AND held.cal_com_event_id = ANY($3::text[]);

-- name: upsert_bookings
-- A booking of which nothing new became known (another of its chain was told of) keeps its synced_at. From `attendees`
-- on it is an erasure alone that changes what the same facts tell.
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
WHERE (
    old.position, old.root_uid, old.metadata, old.status, old.booking_number, old.doubts, old.rescheduled_to,
    old.attendees, old.title, old.description, old.host_email, old.host_name, old.location, old.meeting_url,
    old.cancellation_reason, old.cancelled_by, old.rejection_reason, old.recording_url, old.event_type, old.ical_uid,
    old.attendee_email
)
    IS DISTINCT FROM (
        excluded.position, excluded.root_uid, excluded.metadata, excluded.status, excluded.booking_number,
        excluded.doubts, excluded.rescheduled_to, excluded.attendees, excluded.title, excluded.description,
        excluded.host_email, excluded.host_name, excluded.location, excluded.meeting_url, excluded.cancellation_reason,
        excluded.cancelled_by, excluded.rejection_reason, excluded.recording_url, excluded.event_type, excluded.ical_uid,
        excluded.attendee_email
    );
