-- Lists of bookings: projections.calendar_events_1, now or as it was recorded at an earlier position.

-- name: list_bookings
-- A page of bookings by start, those without one last. Every filter is null for "any".
-- $1 ledger_id, $2 statuses, $3 and $4 start from and before, $5 attendee, $6 host, $7 event type, $8 client, $9 pet,
-- $10 salon, $11 metadata to contain (jsonb), $12 text pattern, $13 and $14 start and uid after which to go on,
-- $15 at most so many, $16 any name of it (in lower case for an e-mail), $17 uids to leave out
SELECT
    id, cal_com_event_id, ledger, salon_id, client_id, pet_id, title, description, start_time, end_time,
    duration_minutes, status, booking_status, attendee_email, attendee_name, attendee_phone, attendees, host_email,
    host_name, event_type, location, meeting_url, appointment_id, root_uid, rescheduled_from, rescheduled_to, paid,
    no_show, cancellation_reason, cancelled_by, rejection_reason, recording_url, metadata, doubts, booking_number,
    ical_uid, started, ended, marked, created_at, updated_at
FROM projections.calendar_events_1 AS c
WHERE ledger_id = $1
  AND ($2::text[] IS NULL OR status = ANY($2))
  AND ($3::timestamptz IS NULL OR start_time >= $3)
  AND ($4::timestamptz IS NULL OR start_time < $4)
  AND (
      $5::text IS NULL
      OR cal_com_event_id IN (
          SELECT uid FROM projections.booking_attendees_1 AS a
          WHERE a.ledger_id = $1 AND a.email = $5 AND NOT a.removed
      )
  )
  AND ($6::text IS NULL OR host_email = $6)
  AND ($7::text IS NULL OR event_type = $7)
  AND ($8::text IS NULL OR client_id = $8)
  AND ($9::text IS NULL OR pet_id = $9)
  AND ($10::text IS NULL OR salon_id = $10)
  AND ($11::jsonb IS NULL OR metadata @> $11)
  AND (
      $12::text IS NULL
      OR title ILIKE $12
      OR description ILIKE $12
      OR EXISTS (
          SELECT FROM jsonb_array_elements(attendees) AS a WHERE a ->> 'name' ILIKE $12 OR a ->> 'email' ILIKE $12
      )
  )
  AND (
      $16::text IS NULL
      OR cal_com_event_id = $16
      OR root_uid IN (
          SELECT member.root_uid FROM projections.calendar_events_1 AS member
          WHERE member.ledger_id = $1 AND member.cal_com_event_id = $16
      )
      OR booking_number::text = $16
      OR ical_uid = $16
      OR cal_com_event_id IN (
          SELECT uid FROM projections.booking_attendees_1 AS a
          WHERE a.ledger_id = $1 AND a.email = lower($16)
      )
      OR EXISTS (SELECT FROM jsonb_each_text(metadata) AS m WHERE m.value = $16)
  )
  AND ($17::text[] IS NULL OR cal_com_event_id <> ALL($17))
  AND (
      $14::text IS NULL
      OR (start_time, cal_com_event_id) > ($13::timestamptz, $14)
      OR ($13 IS NOT NULL AND start_time IS NULL)
      OR ($13 IS NULL AND start_time IS NULL AND cal_com_event_id > $14)
  )
ORDER BY start_time, cal_com_event_id
LIMIT $15;

-- name: find_changed_since
-- Bookings that were touched after a position, and the others of their chains. $1 ledger_id, $2 position,
-- $3 at most so many
SELECT cal_com_event_id, booking_number
FROM projections.calendar_events_1 AS c
WHERE ledger_id = $1
  AND root_uid IN (
      SELECT member.root_uid FROM projections.calendar_events_1 AS member
      WHERE member.ledger_id = $1 AND member.position > $2
  )
ORDER BY cal_com_event_id
LIMIT $3;
