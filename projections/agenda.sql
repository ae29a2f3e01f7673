-- Who comes when: projections.calendar_events.

-- name: count_by_status
-- Bookings that start in a stretch of time. $1 ledger_id, $2 from, $3 before, $4 host, $5 salon, $6 client (null: any)
SELECT status, count(*)::int AS bookings
FROM projections.calendar_events
WHERE ledger_id = $1
  AND start_time >= $2
  AND start_time < $3
  AND ($4::text IS NULL OR host_email = $4)
  AND ($5::text IS NULL OR salon_id = $5)
  AND ($6::text IS NULL OR client_id = $6)
GROUP BY status
ORDER BY status;

-- name: list_visits
-- Bookings of a client or of a pet, the latest start first, those without one before. Planned for the values given, so
-- what is null is no condition.
-- $1 ledger_id, $2 client, $3 pet, $4 statuses, $5 and $6 start from and before, $7 and $8 start and uid after which to
-- go on, $9 at most so many
SELECT
    id, cal_com_event_id, ledger, salon_id, client_id, pet_id, title, description, start_time, end_time,
    duration_minutes, status, booking_status, attendee_email, attendee_name, attendee_phone, attendees, host_email,
    host_name, event_type, location, meeting_url, appointment_id, root_uid, rescheduled_from, rescheduled_to, paid,
    no_show, cancellation_reason, cancelled_by, rejection_reason, recording_url, metadata, doubts, booking_number,
    ical_uid, started, ended, marked, created_at, updated_at
FROM projections.calendar_events
WHERE ledger_id = $1
  AND ($2::text IS NULL OR client_id = $2)
  AND ($3::text IS NULL OR pet_id = $3)
  AND ($4::text[] IS NULL OR status = ANY($4))
  AND ($5::timestamptz IS NULL OR start_time >= $5)
  AND ($6::timestamptz IS NULL OR start_time < $6)
  AND CASE
      WHEN $8::text IS NULL THEN true
      WHEN $7::timestamptz IS NULL THEN start_time IS NOT NULL OR cal_com_event_id < $8
      ELSE (start_time, cal_com_event_id) < ($7, $8)
  END
ORDER BY start_time DESC, cal_com_event_id DESC
LIMIT $9;
